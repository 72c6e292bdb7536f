package firesteel.shuffle;

import java.util.concurrent.atomic.AtomicInteger;

/** Extents of the service's slab that one answer lent us: given back when the last buffer over them is released. */
final class Lease {
    private final AtomicInteger users;
    private final Runnable giveBack;

    Lease(int users, Runnable giveBack) {
        this.users = new AtomicInteger(users);
        this.giveBack = giveBack;
        ShuffleMetrics.HELD_EXTENTS.inc(users);
    }

    void done() {
        ShuffleMetrics.HELD_EXTENTS.dec();
        if (users.decrementAndGet() == 0) {
            giveBack.run();
        }
    }
}
