package firesteel.shuffle.wire;

import java.util.Map;

/** The application's name and secret, which the driver's plugin sends to the executors' plugins. */
public record Secret(String application, String hex) {
    /** Why the driver does not use the service, for reports about the run. */
    public static final String REASON_KEY = "spark.firesteel.shuffle.fallbackReason";
    public static final String REASON_TEXT_KEY = "spark.firesteel.shuffle.fallbackText";

    private static final String APPLICATION = "application";
    // Spark redacts the values of settings with this word in their name.
    private static final String SECRET = "secret";

    public Map<String, String> toMap() {
        return Map.of(APPLICATION, application, SECRET, hex);
    }

    /** Null if the driver does not use the service. */
    public static Secret of(Map<String, String> extra) {
        return extra.containsKey(SECRET) ? new Secret(extra.get(APPLICATION), extra.get(SECRET)) : null;
    }

    /** Without the secret. */
    @Override
    public String toString() {
        return "Secret[" + application + "]";
    }
}
