package firesteel.shuffle.read;

import java.util.concurrent.atomic.AtomicInteger;

import firesteel.shuffle.session.ShuffleMetrics;

/** The slab extents of one answer. They return to the service when the last buffer over them is released. */
final class Lease {
    private final AtomicInteger users = new AtomicInteger(1);
    private final Runnable giveBack;

    /** Starts with one use: that of the code that creates the buffers. */
    Lease(Runnable giveBack) {
        this.giveBack = giveBack;
        ShuffleMetrics.HELD_EXTENTS.inc();
    }

    /** Add the use of one more buffer. */
    Lease use() {
        users.incrementAndGet();
        ShuffleMetrics.HELD_EXTENTS.inc();
        return this;
    }

    void done() {
        ShuffleMetrics.HELD_EXTENTS.dec();
        if (users.decrementAndGet() == 0) {
            giveBack.run();
        }
    }
}
