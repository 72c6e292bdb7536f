package firesteel.shuffle.wire;

import java.io.IOException;

/** A failed request to the shuffle service, with its reason. */
public final class ShuffleFailure extends IOException {
    private static final long serialVersionUID = 1L;

    private final Reason reason;

    public ShuffleFailure(Reason reason, String detail) {
        this(reason, detail, null);
    }

    public ShuffleFailure(Reason reason, String detail, Throwable cause) {
        super(reason + ": " + detail, cause);
        this.reason = reason;
    }

    public Reason reason() {
        return reason;
    }
}
