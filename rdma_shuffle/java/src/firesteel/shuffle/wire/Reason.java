package firesteel.shuffle.wire;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.LongAdder;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Why a request failed or the service was not used. Each event is counted; the log has one line per JVM and subject. */
public enum Reason {
    SWITCHED_OFF("spark.firesteel.shuffle.enabled is false"),
    OTHER_MANAGER("another shuffle manager or shuffle I/O plugin is configured"),
    PLAINTEXT("network encryption is on and spark.io.encryption.enabled is off; the service sends blocks unencrypted"),
    NO_SERVICE("this machine's shuffle service does not answer"),
    CLIENT_NOT_SWAPPED("the BlockManager of this Spark does not accept another BlockStoreClient"),
    FOREIGN_BLOCK("the block is not plain shuffle data, e.g. it belongs to push-based shuffle"),
    PEER_REFUSED("the service does not have the block"),
    PEER_UNREACHABLE("the peer's service cannot be reached"),
    TIMEOUT("the service did not answer in time"),
    CORRUPT("the checksum of a block did not match"),
    UNREADABLE("memory or a file of the service cannot be read"),
    NO_SPACE("a limit of the service is reached"),
    BREAKER_OPEN("the peer failed several times in a row and gets no requests for a while"),
    UNKNOWN_APPLICATION("the service does not know the application"),
    REFUSED("the service refused the application's secret or its request"),
    MALFORMED("the service and the plugin do not speak the same protocol"),
    SERVICE_LOST("the connection to this node's service broke");

    private static final Logger LOG = LoggerFactory.getLogger(Reason.class);
    private static final Set<String> LOGGED = ConcurrentHashMap.newKeySet();
    private static final ConcurrentMap<Reason, LongAdder> COUNTS = new ConcurrentHashMap<>();

    private final String meaning;

    Reason(String meaning) {
        this.meaning = meaning;
    }

    public String meaning() {
        return meaning;
    }

    /** Whether a retry can succeed. */
    public boolean isTransient() {
        return this == TIMEOUT
                || this == CORRUPT
                || this == UNREADABLE
                || this == SERVICE_LOST
                || this == NO_SERVICE
                || this == PEER_UNREACHABLE
                || this == NO_SPACE;
    }

    /** Whether it concerns the peer as a whole and so counts for the circuit breaker. */
    public boolean concernsPeer() {
        return this == TIMEOUT || this == PEER_UNREACHABLE;
    }

    public long count() {
        LongAdder adder = COUNTS.get(this);
        return adder == null ? 0 : adder.sum();
    }

    /** Count an event, and log it if it is the first for this subject (a host, a setting). */
    public void record(String subject, String detail) {
        COUNTS.computeIfAbsent(this, reason -> new LongAdder()).increment();
        if (LOGGED.add(name() + " " + subject)) {
            LOG.warn("firesteel shuffle fallback {} ({}): {}. {}", name(), subject, meaning, detail);
        }
    }
}
