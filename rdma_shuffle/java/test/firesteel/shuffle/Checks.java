package firesteel.shuffle;

import java.io.IOException;
import java.lang.reflect.Method;
import java.util.Objects;

/** Runs tests of parts that need no cluster, and holds their assertions. pytest starts it once for each test. */
public final class Checks {
    private Checks() {}

    /** Run tests, each named as {@code package.Class#method}. The first failure ends the JVM with its stack trace. */
    public static void main(String[] names) throws Exception {
        for (String name : names) {
            String[] parts = name.split("#");
            Method test = Class.forName("firesteel.shuffle." + parts[0]).getDeclaredMethod(parts[1]);
            test.setAccessible(true);
            test.invoke(null);
        }
    }

    /** Code that may throw an IOException. */
    public interface Action {
        Object run() throws IOException;
    }

    public static void throwsIo(Action action) {
        try {
            action.run();
        } catch (IOException expected) {
            return;
        }
        throw new AssertionError("no IOException");
    }

    public static void check(boolean holds, String claim) {
        if (!holds) {
            throw new AssertionError(claim);
        }
    }

    public static void equal(Object actual, Object expected) {
        if (!Objects.equals(actual, expected)) {
            throw new AssertionError("expected " + expected + ", got " + actual);
        }
    }
}
