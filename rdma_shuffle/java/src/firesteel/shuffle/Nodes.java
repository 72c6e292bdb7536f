package firesteel.shuffle;

import java.io.IOException;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

import org.apache.spark.scheduler.SparkListener;
import org.apache.spark.scheduler.SparkListenerBlockManagerAdded;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** The nodes that ever had an executor: they may hold outputs, so the driver keeps them alive and cleans them up. */
final class Nodes extends SparkListener {
    private static final Logger LOG = LoggerFactory.getLogger(Nodes.class);
    private static final int PINGS_A_LEASE = 4;
    private static final int FIRST_PING_SECONDS = 5;

    private final Session session;
    private final Set<String> hosts = ConcurrentHashMap.newKeySet();
    private final ScheduledExecutorService thread = Executors.newSingleThreadScheduledExecutor(task -> {
        Thread made = new Thread(task, "firesteel-shuffle-nodes");
        made.setDaemon(true);
        return made;
    });
    // What is removed must not wait behind a ping to a dead node.
    private final ExecutorService removals = Executors.newSingleThreadExecutor(task -> {
        Thread made = new Thread(task, "firesteel-shuffle-removals");
        made.setDaemon(true);
        return made;
    });

    Nodes(Session session) {
        this.session = session;
        thread.schedule(this::ping, FIRST_PING_SECONDS, TimeUnit.SECONDS);
    }

    @Override
    public void onBlockManagerAdded(SparkListenerBlockManagerAdded added) {
        if (!added.blockManagerId().isDriver()) {
            hosts.add(added.blockManagerId().host());
        }
    }

    private List<String> others() {
        return hosts.stream().filter(host -> !host.equals(session.host())).toList();
    }

    private void ping() {
        int lease = 0;
        try {
            if (session.service().leaseSeconds() == 0) {
                session.service().check();
            }
            lease = session.service().leaseSeconds();
            session.service().ping(others());
        } catch (IOException | RuntimeException error) {
            // Tried again below; a task that throws would end the pings for good.
            LOG.debug("no ping", error);
        }
        if (!thread.isShutdown()) {
            thread.schedule(this::ping, Math.max(1, lease / PINGS_A_LEASE), TimeUnit.SECONDS);
        }
    }

    void removeShuffle(int shuffle, boolean blocking) {
        Future<?> removed = removals.submit(() -> session.service().removeShuffle(shuffle, others()));
        if (blocking) {
            try {
                removed.get();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            } catch (java.util.concurrent.ExecutionException error) {
                throw new IllegalStateException("shuffle " + shuffle + " was not removed", error.getCause());
            }
        }
    }

    /** The application is over. */
    void end() {
        thread.shutdownNow();
        removals.shutdownNow(); // the end removes all
        session.service().endApplication(others());
    }
}
