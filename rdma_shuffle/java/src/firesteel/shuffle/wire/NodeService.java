package firesteel.shuffle.wire;

import java.io.Closeable;
import java.io.IOException;
import java.nio.file.Path;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The shuffle service of this node: a pool of authenticated connections. Each carries one request at a time. */
public final class NodeService implements Closeable {
    private static final Logger LOG = LoggerFactory.getLogger(NodeService.class);
    private static final long FIRST_WAIT_MILLIS = 50;
    private static final long MAX_WAIT_MILLIS = 1000;

    private final Path socket;
    private final Secret secret;
    private final String executor;
    private final long connectMillis;
    private final Deque<ServiceConnection> idle = new ConcurrentLinkedDeque<>();
    private final ExecutorService releases = releasingThread();
    private volatile boolean closed;
    private volatile int leaseSeconds;

    /** Create the client of a service. It opens no connection yet. */
    public NodeService(Path socket, Secret secret, String executor, long connectMillis) {
        this.socket = socket;
        this.secret = secret;
        this.executor = executor;
        this.connectMillis = connectMillis;
    }

    /** A sequence of requests on one connection. */
    public interface Exchange<T> {
        T on(ServiceConnection connection, long deadlineNanos) throws IOException;
    }

    /** Connect and authenticate both sides. Waits for a service that is starting. Returns a description for logs. */
    public String check() throws IOException {
        return retrying(connectMillis, (connection, deadline) -> {
            leaseSeconds = connection.leaseSeconds();
            return "the service of node " + connection.node() + " at " + socket;
        });
    }

    /** Seconds that a service keeps an application without a sign of life; 0 before {@link #check}. */
    public int leaseSeconds() {
        return leaseSeconds;
    }

    public String application() {
        return secret.application();
    }

    /**
     * Return an extent lease, in a thread of its own: a cancelled task frees its buffers in a thread that is interrupted,
     * where Java closes every channel on its first use.
     */
    public void release(long lease) {
        try {
            releases.execute(() -> tellReleased(lease));
        } catch (RejectedExecutionException error) {
            // The service frees the leases of an executor when its process ends.
            LOG.debug("lease {} was not released: the executor is stopping", lease, error);
        }
    }

    private void tellReleased(long lease) {
        try {
            exchange(connectMillis, (connection, deadline) -> {
                connection.tell(new Wire.Out(Wire.RELEASE).u64(lease), deadline);
                return null;
            });
        } catch (IOException error) {
            LOG.debug("lease {} was not released", lease, error);
        }
    }

    private static ExecutorService releasingThread() {
        ThreadPoolExecutor pool =
                new ThreadPoolExecutor(1, 1, 30, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), task -> {
                    Thread thread = new Thread(task, "firesteel-release");
                    thread.setDaemon(true);
                    return thread;
                });
        pool.allowCoreThreadTimeOut(true);
        return pool;
    }

    /** Remove the outputs of a shuffle on this node and on the nodes in {@code owners}. */
    public void removeShuffle(int shuffle, List<String> owners) {
        notify(new Wire.Out(Wire.REMOVE).u32(shuffle), owners, "the removal of shuffle " + shuffle);
    }

    /** End the application on this node and on the nodes in {@code owners}. */
    public void endApplication(List<String> owners) {
        notify(new Wire.Out(Wire.END), owners, "the end of the application");
    }

    /** Renew the application's lease on this node and on the nodes in {@code owners}, which may have no executor. */
    public void ping(List<String> owners) {
        notify(new Wire.Out(Wire.PING), owners, "the ping");
    }

    private void notify(Wire.Out request, List<String> owners, String subject) {
        try {
            List<String> failed = exchange(
                    connectMillis,
                    (connection, deadline) ->
                            Wire.notified(connection.ask(Wire.to(request, owners), Wire.NOTIFIED, deadline)));
            if (!failed.isEmpty()) {
                LOG.info("firesteel shuffle: {} did not reach {}", subject, failed);
            }
        } catch (IOException error) {
            // Nothing leaks: a service ends an application whose lease expires.
            LOG.info("firesteel shuffle: {} reached no service: {}", subject, error.getMessage());
        }
    }

    /** Run an exchange once. The connection is reused if its last request was answered. */
    public <T> T exchange(long millis, Exchange<T> exchange) throws IOException {
        return exchangeUntil(System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis), exchange);
    }

    private <T> T exchangeUntil(long deadline, Exchange<T> exchange) throws IOException {
        ServiceConnection connection = borrow(deadline);
        boolean reusable = false;
        try {
            T result = exchange.on(connection, deadline);
            reusable = true;
            return result;
        } catch (ShuffleFailure failure) {
            reusable = connection.usable();
            throw failure;
        } finally {
            if (reusable) {
                giveBack(connection);
            } else {
                connection.close();
            }
        }
    }

    /** Run an exchange and repeat it until the deadline, while the reason of its failure is transient. */
    public <T> T retrying(long millis, Exchange<T> exchange) throws IOException {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
        long wait = FIRST_WAIT_MILLIS;
        while (true) {
            try {
                return exchangeUntil(deadline, exchange);
            } catch (IOException error) {
                boolean isTransient = !(error instanceof ShuffleFailure failure) || failure.reason().isTransient();
                boolean inTime = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(wait) < deadline;
                if (!isTransient || !inTime || closed || Thread.currentThread().isInterrupted()) {
                    throw error;
                }
                LOG.debug("the service at {} did not answer; retrying", socket, error);
            }
            try {
                Thread.sleep(wait);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                throw new IOException("interrupted while waiting for the service", error);
            }
            wait = Math.min(2 * wait, MAX_WAIT_MILLIS);
        }
    }

    private ServiceConnection borrow(long deadline) throws IOException {
        for (ServiceConnection connection = idle.pollFirst(); connection != null; connection = idle.pollFirst()) {
            if (!connection.stale()) {
                return connection;
            }
            connection.close();
        }
        if (closed) {
            throw new ShuffleFailure(Reason.SERVICE_LOST, "the executor is stopping");
        }
        return ServiceConnection.open(socket, secret, executor, deadline);
    }

    private void giveBack(ServiceConnection connection) {
        idle.addFirst(connection);
        if (closed) {
            close();
        }
    }

    @Override
    public void close() {
        closed = true;
        releases.shutdown();
        for (ServiceConnection connection = idle.pollFirst(); connection != null; connection = idle.pollFirst()) {
            connection.close();
        }
    }
}
