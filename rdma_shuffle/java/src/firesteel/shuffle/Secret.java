package firesteel.shuffle;

import java.util.Map;

/** The application's name and secret, as the driver's plugin gives them to the executors' plugins. */
record Secret(String application, String hex) {
    /** Why the driver decided against the service; for whoever reports on the run. */
    static final String REASON_KEY = "spark.firesteel.shuffle.fallbackReason";
    static final String REASON_TEXT_KEY = "spark.firesteel.shuffle.fallbackText";

    private static final String APPLICATION = "application";
    // Spark hides values of settings with this word in their name from its pages and logs.
    private static final String SECRET = "secret";

    Map<String, String> toMap() {
        return Map.of(APPLICATION, application, SECRET, hex);
    }

    /** Null when the driver decided against the service. */
    static Secret of(Map<String, String> extra) {
        return extra.containsKey(SECRET) ? new Secret(extra.get(APPLICATION), extra.get(SECRET)) : null;
    }

    /** Not the secret. */
    @Override
    public String toString() {
        return "Secret[" + application + "]";
    }
}
