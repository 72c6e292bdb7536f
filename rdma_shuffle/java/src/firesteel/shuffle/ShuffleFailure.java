package firesteel.shuffle;

import java.io.IOException;

/** A request to the shuffle service that did not succeed, with its typed reason. */
final class ShuffleFailure extends IOException {
    private static final long serialVersionUID = 1L;

    private final Reason reason;

    ShuffleFailure(Reason reason, String detail) {
        this(reason, detail, null);
    }

    ShuffleFailure(Reason reason, String detail, Throwable cause) {
        super(reason + ": " + detail, cause);
        this.reason = reason;
    }

    Reason reason() {
        return reason;
    }
}
