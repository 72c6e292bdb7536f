package firesteel.shuffle.session;

import org.apache.spark.SparkConf;

/** The settings of the plugin: {@code spark.firesteel.shuffle.*}, defaults and descriptions. */
public enum Setting {
    ENABLED("enabled", "true", "false: use Spark's own sort shuffle, as if the plugin were absent."),
    SOCKET(
            "socket",
            "",
            "Unix socket of the node's service. If empty: the environment variable FIRESTEEL_SHUFFLE_SOCKET, else"
                    + " /run/firesteel/shuffle.sock. {host} is replaced by the executor's host name."),
    FALLBACK(
            "fallback",
            "sort",
            "What to do when the service cannot be used. sort: run on Spark's sort shuffle (or the configured"
                    + " manager) and log the reason once. fail: do not start the application."),
    PREFLIGHT(
            "preflight",
            "true",
            "Whether the driver checks the service of its own machine at start. Set false if drivers run on"
                    + " machines without a service. Nodes without an executor then keep outputs for one lease only."),
    CONNECT_TIMEOUT("connectTimeout", "10s", "Time that an executor waits for its node's service to answer."),
    REGISTER_TIMEOUT("registerTimeout", "60s", "Time that a map task waits for the service to accept its output."),
    FETCH_TIMEOUT("fetchTimeout", "60s", "Time that one fetch waits for the service, without retries."),
    FETCH_THREADS("fetchThreads", "8", "Threads of an executor that wait for fetches."),
    MAX_RETRIES("maxRetries", "2", "Number of retries of a fetch that failed for a transient reason."),
    RETRY_WAIT("retryWait", "200ms", "Wait before the first retry. It doubles with each retry."),
    BREAKER_FAILURES("breaker.failures", "3", "Consecutive failures after which a peer gets no requests for a while."),
    BREAKER_RESET("breaker.reset", "30s", "Time that such a peer gets no requests. Then one fetch probes it."),
    NETTY_FALLBACK(
            "nettyFallback", "true", "Whether to fetch blocks from the live executor when the service cannot give them.");

    private static final String PREFIX = "spark.firesteel.shuffle.";

    private final String name;
    private final String defaultText;
    private final String doc;

    Setting(String name, String defaultText, String doc) {
        this.name = name;
        this.defaultText = defaultText;
        this.doc = doc;
    }

    public String key() {
        return PREFIX + name;
    }

    public String text(SparkConf conf) {
        return conf.get(key(), defaultText).trim();
    }

    public boolean flag(SparkConf conf) {
        String text = text(conf);
        if (text.equalsIgnoreCase("true") || text.equalsIgnoreCase("false")) {
            return Boolean.parseBoolean(text);
        }
        throw new IllegalArgumentException(key() + "=" + text + " is not a flag. hint: set true or false.");
    }

    public int count(SparkConf conf) {
        String text = text(conf);
        try {
            int count = Integer.parseInt(text);
            if (count >= 0) {
                return count;
            }
        } catch (NumberFormatException error) {
            // The error below names the key.
        }
        throw new IllegalArgumentException(key() + "=" + text + " is not a count. hint: set a whole number, 0 or more.");
    }

    public long millis(SparkConf conf) {
        return conf.getTimeAsMs(key(), defaultText);
    }

    /** Print the settings as a Markdown table, for the generated reference. */
    public static void main(String[] args) {
        System.out.println("| setting | default | description |\n|---|---|---|");
        for (Setting setting : values()) {
            String shown = setting.defaultText.isEmpty() ? "" : "`" + setting.defaultText + "`";
            System.out.println("| `" + setting.key() + "` | " + shown + " | " + setting.doc + " |");
        }
    }
}
