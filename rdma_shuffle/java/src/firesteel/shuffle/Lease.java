package firesteel.shuffle;

import java.util.concurrent.atomic.AtomicInteger;

/** Extents of the service's slab that one answer lent us: given back when the last buffer over them is released. */
final class Lease {
    private final AtomicInteger users = new AtomicInteger(1);
    private final Runnable giveBack;

    /** Begins with the use of whoever makes the buffers. */
    Lease(Runnable giveBack) {
        this.giveBack = giveBack;
        ShuffleMetrics.HELD_EXTENTS.inc();
    }

    /** One more buffer over it. */
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
