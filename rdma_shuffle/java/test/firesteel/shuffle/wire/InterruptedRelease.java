package firesteel.shuffle.wire;

import static firesteel.shuffle.Checks.check;

import java.nio.file.Path;

/** Releases leases as a cancelled task does: in an interrupted thread. Arguments: the socket, and the number of leases. */
final class InterruptedRelease {
    private InterruptedRelease() {}

    public static void main(String[] arguments) throws InterruptedException {
        Secret secret = new Secret("fs-interrupted", "5a".repeat(32));
        try (NodeService service = new NodeService(Path.of(arguments[0]), secret, "1", 10_000)) {
            Thread.currentThread().interrupt();
            for (long lease = 1; lease <= Long.parseLong(arguments[1]); lease++) {
                service.release(lease);
            }
            check(Thread.interrupted(), "the thread is still interrupted");
            while (System.in.read() >= 0) {} // the test has seen the releases
        } catch (java.io.IOException error) {
            throw new AssertionError(error);
        }
    }
}
