package firesteel.shuffle;

import org.apache.spark.SparkConf;

/** Every setting of the plugin: {@code spark.firesteel.shuffle.*}, its default and what it does. */
enum Setting {
    ENABLED("enabled", "true", "false: Spark's own sort shuffle, as if the plugin were not there."),
    SOCKET(
            "socket",
            "",
            "Unix socket of this node's service. Empty: the environment's FIRESTEEL_SHUFFLE_SOCKET, else"
                    + " /run/firesteel/shuffle.sock. A {host} in it is replaced by the executor's host."),
    FALLBACK(
            "fallback",
            "sort",
            "sort: when the driver finds a reason not to use the service, the application runs on Spark's sort"
                    + " shuffle (or the manager that is configured) and the reason is logged once. fail: it does not start."),
    PREFLIGHT(
            "preflight",
            "true",
            "Whether the driver asks the service of its own machine at start. false where drivers run on machines"
                    + " without a service: then nodes without an executor keep outputs for one lease only."),
    CONNECT_TIMEOUT("connectTimeout", "10s", "How long an executor waits for its node's service to answer."),
    REGISTER_TIMEOUT("registerTimeout", "60s", "How long a map task waits for the service to take its output."),
    FETCH_TIMEOUT("fetchTimeout", "60s", "How long a fetch waits for the service, retries not included."),
    FETCH_THREADS("fetchThreads", "8", "Threads an executor that wait for fetches."),
    MAX_RETRIES("maxRetries", "2", "How often a fetch that failed for a passing reason is tried again."),
    RETRY_WAIT("retryWait", "200ms", "Wait before the first retry; it doubles with each."),
    BREAKER_FAILURES("breaker.failures", "3", "Failures in a row after which a peer is left alone for a while."),
    BREAKER_RESET("breaker.reset", "30s", "How long a peer is left alone; then one fetch tries it again."),
    NETTY_FALLBACK(
            "nettyFallback", "true", "Whether blocks that the service cannot give are asked of the live executor.");

    private static final String PREFIX = "spark.firesteel.shuffle.";

    private final String name;
    private final String fallback;
    private final String doc;

    Setting(String name, String fallback, String doc) {
        this.name = name;
        this.fallback = fallback;
        this.doc = doc;
    }

    String key() {
        return PREFIX + name;
    }

    String text(SparkConf conf) {
        return conf.get(key(), fallback).trim();
    }

    boolean flag(SparkConf conf) {
        String text = text(conf);
        if (text.equalsIgnoreCase("true") || text.equalsIgnoreCase("false")) {
            return Boolean.parseBoolean(text);
        }
        throw new IllegalArgumentException(key() + "=" + text + ": true or false is needed.");
    }

    int count(SparkConf conf) {
        String text = text(conf);
        try {
            int count = Integer.parseInt(text);
            if (count >= 0) {
                return count;
            }
        } catch (NumberFormatException error) {
            // Told below, with the key.
        }
        throw new IllegalArgumentException(key() + "=" + text + ": a whole number from 0 up is needed.");
    }

    long millis(SparkConf conf) {
        return conf.getTimeAsMs(key(), fallback);
    }

    long bytes(SparkConf conf) {
        return conf.getSizeAsBytes(key(), fallback);
    }

    /** Print the settings as a Markdown table, for the generated reference. */
    public static void main(String[] words) {
        System.out.println("| setting | default | what it does |\n|---|---|---|");
        for (Setting setting : values()) {
            String shown = setting.fallback.isEmpty() ? "" : "`" + setting.fallback + "`";
            System.out.println("| `" + setting.key() + "` | " + shown + " | " + setting.doc + " |");
        }
    }
}
