package firesteel.shuffle;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.util.ArrayList;
import java.util.Deque;
import java.util.List;
import java.util.concurrent.ConcurrentLinkedDeque;
import java.util.concurrent.TimeUnit;

import org.apache.spark.SparkConf;
import org.apache.spark.network.buffer.ManagedBuffer;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** This node's shuffle service, as the plugin uses it: a pool of connections, each with one request at a time. */
final class NodeService implements Closeable {
    /** What became of one block of a fetch: a buffer with one use, or the failure. */
    record Outcome(BlockName block, ManagedBuffer buffer, ShuffleFailure failure) {}

    private static final Logger LOG = LoggerFactory.getLogger(NodeService.class);
    private static final String DEFAULT_SOCKET = "/run/firesteel/shuffle.sock";
    private static final long FIRST_WAIT_MILLIS = 50;
    private static final long LONGEST_WAIT_MILLIS = 1000;

    private final Path socket;
    private final Secret secret;
    private final String executor;
    private final long connectMillis;
    private final long registerMillis;
    private final long fetchMillis;
    private final Deque<Channel> idle = new ConcurrentLinkedDeque<>();
    private final SlabMaps slabs = new SlabMaps();
    private volatile boolean closed;
    private volatile int leaseSeconds;

    private NodeService(SparkConf conf, String host, String executor, Secret secret) {
        String path = Setting.SOCKET.text(conf);
        if (path.isEmpty()) {
            path = System.getenv().getOrDefault("FIRESTEEL_SHUFFLE_SOCKET", DEFAULT_SOCKET);
        }
        this.socket = Path.of(path.replace("{host}", host));
        this.secret = secret;
        this.executor = executor;
        this.connectMillis = Setting.CONNECT_TIMEOUT.millis(conf);
        this.registerMillis = Setting.REGISTER_TIMEOUT.millis(conf);
        this.fetchMillis = Setting.FETCH_TIMEOUT.millis(conf);
    }

    /** The service, not yet asked for anything. */
    static NodeService of(SparkConf conf, String host, String executor, Secret secret) {
        return new NodeService(conf, host, executor, secret);
    }

    /** Connect and prove to each other that both know the secret; waits for a service that is just starting. */
    String check() throws IOException {
        return patiently(connectMillis, deadline -> {
            Channel channel = borrow(deadline);
            leaseSeconds = channel.leaseSeconds();
            giveBack(channel);
            return "the service of node " + channel.node() + " at " + socket;
        });
    }

    /** How long a service keeps an application of which it hears nothing; 0 before {@link #check}. */
    int leaseSeconds() {
        return leaseSeconds;
    }

    /** Link a committed map output into the service's folder and register it. Waits out a restart of the service. */
    void register(int shuffle, long map, File data, File index, long[] lengths, int[] crcs) throws IOException {
        patiently(registerMillis, deadline -> {
            Channel channel = borrow(deadline);
            boolean whole = false;
            try (Linked linked = Linked.into(channel.folders(), secret.application(), data, index)) {
                Wire.Out request = Wire.register(shuffle, map, linked.data(), linked.index(), lengths, crcs);
                whole = channel.answers(request, Wire.OK, deadline);
                linked.keep();
                return null;
            } catch (ShuffleFailure error) {
                whole = channel.usable();
                throw error;
            } finally {
                finish(channel, whole);
            }
        });
    }

    /** One request for the blocks of one owner. Throws when nothing of it came; no retries in here. */
    List<Outcome> fetch(String host, List<BlockName> blocks) throws IOException {
        List<Outcome> outcomes = new ArrayList<>(blocks.size());
        int end;
        for (int start = 0; start < blocks.size(); start = end) {
            end = Wire.most(blocks, start);
            List<BlockName> part = blocks.subList(start, end);
            try {
                outcomes.addAll(fetchPart(host, part));
            } catch (IOException | RuntimeException error) {
                outcomes.stream().filter(outcome -> outcome.buffer() != null).forEach(outcome -> outcome.buffer().release());
                throw error;
            }
        }
        return outcomes;
    }

    private List<Outcome> fetchPart(String host, List<BlockName> part) throws IOException {
        // The service gives up first, so that its reason is what we hear.
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(fetchMillis + fetchMillis / 4);
        Channel channel = borrow(deadline);
        Wire.Blocks answer;
        try {
            ByteBuffer body = channel.ask(Wire.fetch(host, (int) fetchMillis, part), Wire.BLOCKS, deadline);
            answer = Wire.blocks(body, part);
        } catch (IOException | RuntimeException error) {
            finish(channel, error instanceof ShuffleFailure && channel.usable());
            throw error;
        }
        finish(channel, true);
        return new Opener(slabs, channel.slabs()).open(part, answer, () -> release(answer.lease()));
    }

    private void release(long lease) {
        try {
            long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(connectMillis);
            Channel channel = borrow(deadline);
            boolean whole = false;
            try {
                channel.tell(new Wire.Out(Wire.RELEASE).u64(lease), deadline);
                whole = true;
            } finally {
                finish(channel, whole);
            }
        } catch (IOException error) {
            // The service frees what an executor held when its last connection ends.
            LOG.debug("lease {} was not released", lease, error);
        }
    }

    /** Drop a shuffle's outputs here and on the nodes named. */
    void removeShuffle(int shuffle, List<String> owners) {
        tell(new Wire.Out(Wire.REMOVE).u32(shuffle), owners, "that shuffle " + shuffle + " is over");
    }

    /** The application is over, here and on the nodes named. */
    void endApplication(List<String> owners) {
        tell(new Wire.Out(Wire.END), owners, "that the application is over");
    }

    /** The application lives: nodes without an executor of it keep its outputs. */
    void ping(List<String> owners) {
        tell(new Wire.Out(Wire.PING), owners, "that the application lives");
    }

    private void tell(Wire.Out request, List<String> owners, String what) {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(connectMillis);
        try {
            Channel channel = borrow(deadline);
            boolean whole = false;
            try {
                List<String> missed = Wire.told(channel.ask(Wire.to(request, owners), Wire.TOLD, deadline));
                whole = true;
                if (!missed.isEmpty()) {
                    LOG.info("firesteel shuffle: not told {}: {}", what, missed);
                }
            } finally {
                finish(channel, whole);
            }
        } catch (IOException error) {
            // Nothing is lost by it: applications of which nothing is heard are ended by the services themselves.
            LOG.info("firesteel shuffle: nobody was told {}: {}", what, error.getMessage());
        }
    }

    private interface Attempt<T> {
        T by(long deadlineNanos) throws IOException;
    }

    /** Try until the time is over, as long as the reason passes. */
    private <T> T patiently(long millis, Attempt<T> attempt) throws IOException {
        long deadline = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(millis);
        long wait = FIRST_WAIT_MILLIS;
        while (true) {
            try {
                return attempt.by(deadline);
            } catch (IOException error) {
                boolean passes = !(error instanceof ShuffleFailure failure) || failure.reason().passes();
                boolean time = System.nanoTime() + TimeUnit.MILLISECONDS.toNanos(wait) < deadline;
                if (!passes || !time || closed || Thread.currentThread().isInterrupted()) {
                    throw error;
                }
                LOG.debug("the service at {} did not answer; trying again", socket, error);
            }
            try {
                Thread.sleep(wait);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                throw new IOException("interrupted while waiting for the service", error);
            }
            wait = Math.min(2 * wait, LONGEST_WAIT_MILLIS);
        }
    }

    private Channel borrow(long deadline) throws IOException {
        for (Channel channel = idle.pollFirst(); channel != null; channel = idle.pollFirst()) {
            if (!channel.stale()) {
                return channel;
            }
            channel.close();
        }
        if (closed) {
            throw new ShuffleFailure(Reason.SERVICE_LOST, "the executor stops");
        }
        return Channel.open(socket, secret, executor, deadline);
    }

    private void giveBack(Channel channel) {
        idle.addFirst(channel);
        if (closed) {
            close();
        }
    }

    private void finish(Channel channel, boolean whole) {
        if (whole) {
            giveBack(channel);
        } else {
            channel.close();
        }
    }

    @Override
    public void close() {
        closed = true;
        for (Channel channel = idle.pollFirst(); channel != null; channel = idle.pollFirst()) {
            channel.close();
        }
    }
}
