package firesteel.shuffle.read;

import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.function.LongSupplier;

/**
 * Blocks requests to a peer after consecutive failures, so that a dead peer costs one timeout and not one per request.
 *
 * <pre>
 * closed --n consecutive failures--> open --reset elapsed--> half open (one probe is allowed)
 *   ^------------------------------------success----------------|
 *                                  open <------failure----------|
 * </pre>
 */
final class CircuitBreaker {
    private static final class Peer {
        private int failures;
        private long openUntil;
        private boolean probing;
    }

    private final int failures;
    private final long resetMillis;
    private final LongSupplier clock;
    private final ConcurrentMap<String, Peer> peers = new ConcurrentHashMap<>();

    CircuitBreaker(int failures, long resetMillis, LongSupplier clockMillis) {
        this.failures = Math.max(1, failures);
        this.resetMillis = resetMillis;
        this.clock = clockMillis;
    }

    /** Whether a request to the peer is allowed. In the half-open state only one caller gets true. */
    boolean allows(String name) {
        Peer peer = peers.get(name);
        if (peer == null) {
            return true;
        }
        synchronized (peer) {
            if (peer.failures < failures) {
                return true;
            }
            if (clock.getAsLong() < peer.openUntil) {
                return false;
            }
            if (peer.probing && clock.getAsLong() < peer.openUntil + resetMillis) {
                return false;
            }
            // A probe whose task was killed never reports. It must not block the peer for ever.
            peer.probing = true;
            peer.openUntil = clock.getAsLong();
            return true;
        }
    }

    void succeeded(String name) {
        peers.remove(name);
    }

    void failed(String name) {
        Peer peer = peers.computeIfAbsent(name, key -> new Peer());
        synchronized (peer) {
            peer.failures++;
            peer.probing = false;
            if (peer.failures >= failures) {
                peer.openUntil = clock.getAsLong() + resetMillis;
            }
        }
    }
}
