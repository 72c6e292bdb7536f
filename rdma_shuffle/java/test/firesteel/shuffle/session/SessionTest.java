package firesteel.shuffle.session;

import static firesteel.shuffle.Checks.check;
import static firesteel.shuffle.Checks.equal;

final class SessionTest {
    private SessionTest() {}

    static void messagesToTheDriver() {
        HostLost lost = new HostLost(3, 9000000000L, "node-7.example");
        equal(HostLost.parse(lost.text()), lost);
        try {
            HostLost.parse("host-lost 1 2");
            throw new AssertionError("a cut message");
        } catch (IllegalArgumentException expected) {
            check(expected.getMessage() != null, "says so");
        }
    }
}
