package firesteel.shuffle.driver;

import java.io.IOException;
import java.util.List;
import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutionException;
import java.util.concurrent.Executors;
import java.util.concurrent.Future;
import java.util.concurrent.ScheduledExecutorService;
import java.util.concurrent.TimeUnit;

import org.apache.spark.scheduler.SparkListener;
import org.apache.spark.scheduler.SparkListenerBlockManagerAdded;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import firesteel.shuffle.session.Session;

/**
 * The nodes that had an executor at any time. They may hold outputs, so the driver renews their leases and tells them
 * what to remove.
 */
public final class NodeTracker extends SparkListener {
    private static final Logger LOG = LoggerFactory.getLogger(NodeTracker.class);
    private static final int PINGS_PER_LEASE = 4;
    private static final int FIRST_PING_SECONDS = 5;

    // Spark creates ShuffleDriverComponents by name: they find the tracker of the driver here.
    private static volatile NodeTracker current;

    private final Session session;
    private final Set<String> hosts = ConcurrentHashMap.newKeySet();
    private final ScheduledExecutorService pings = daemon("firesteel-shuffle-pings");
    // A removal must not wait behind a ping to a dead node.
    private final ScheduledExecutorService removals = daemon("firesteel-shuffle-removals");

    private NodeTracker(Session session) {
        this.session = session;
    }

    static NodeTracker start(Session session) {
        NodeTracker tracker = new NodeTracker(session);
        tracker.pings.schedule(tracker::ping, FIRST_PING_SECONDS, TimeUnit.SECONDS);
        current = tracker;
        return tracker;
    }

    private static ScheduledExecutorService daemon(String name) {
        return Executors.newSingleThreadScheduledExecutor(task -> {
            Thread thread = new Thread(task, name);
            thread.setDaemon(true);
            return thread;
        });
    }

    @Override
    public void onBlockManagerAdded(SparkListenerBlockManagerAdded added) {
        if (!added.blockManagerId().isDriver()) {
            hosts.add(added.blockManagerId().host());
        }
    }

    private List<String> otherHosts() {
        return hosts.stream().filter(host -> !host.equals(session.host())).toList();
    }

    private void ping() {
        int lease = 0;
        try {
            if (session.service().leaseSeconds() == 0) {
                session.service().check();
            }
            lease = session.service().leaseSeconds();
            session.service().ping(otherHosts());
        } catch (IOException | RuntimeException error) {
            // The next ping retries; an exception out of a task would cancel all later ones.
            LOG.debug("the ping failed", error);
        }
        if (!pings.isShutdown()) {
            pings.schedule(this::ping, Math.max(1, lease / PINGS_PER_LEASE), TimeUnit.SECONDS);
        }
    }

    /** Remove the outputs of a shuffle on all nodes. Does nothing if the driver runs without the service. */
    public static void removeShuffle(int shuffle, boolean blocking) {
        NodeTracker tracker = current;
        if (tracker != null) {
            tracker.remove(shuffle, blocking);
        }
    }

    private void remove(int shuffle, boolean blocking) {
        Future<?> removed = removals.submit(() -> session.service().removeShuffle(shuffle, otherHosts()));
        if (blocking) {
            try {
                removed.get();
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
            } catch (ExecutionException error) {
                throw new IllegalStateException("shuffle " + shuffle + " was not removed", error.getCause());
            }
        }
    }

    /** End the application on all nodes. */
    static void end() {
        NodeTracker tracker = current;
        current = null;
        if (tracker != null) {
            tracker.pings.shutdownNow();
            tracker.removals.shutdownNow(); // END removes everything
            tracker.session.service().endApplication(tracker.otherHosts());
        }
    }
}
