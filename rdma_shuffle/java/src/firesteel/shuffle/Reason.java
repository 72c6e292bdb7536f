package firesteel.shuffle;

import java.util.Set;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;
import java.util.concurrent.atomic.LongAdder;

import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/** Why something else than the service was used. Each is counted always and logged once a JVM and subject. */
enum Reason {
    SWITCHED_OFF("spark.firesteel.shuffle.enabled is false"),
    OTHER_MANAGER("another shuffle manager or shuffle I/O plugin is configured"),
    PLAINTEXT("network encryption is on and spark.io.encryption.enabled is off: the service's transports are plaintext"),
    NO_SERVICE("this machine's shuffle service does not answer"),
    CLIENT_NOT_SWAPPED("this Spark's BlockManager does not take another BlockStoreClient"),
    FOREIGN_BLOCK("a block that is not plain shuffle data, e.g. of push-based shuffle"),
    PEER_REFUSED("the service does not have the block"),
    PEER_UNREACHABLE("the peer's service cannot be reached"),
    TIMEOUT("the service did not answer in time"),
    CORRUPT("the checksum of a block did not match"),
    UNREADABLE("what the service lends cannot be read"),
    NO_SPACE("the service has no room left"),
    BREAKER_OPEN("the peer failed several times in a row and is left alone"),
    UNKNOWN_APPLICATION("the service does not know the application"),
    REFUSED("the service does not accept the application's secret, or what it asks for"),
    MALFORMED("the service and the plugin do not speak the same protocol"),
    SERVICE_LOST("the connection to this node's service broke");

    private static final Logger LOG = LoggerFactory.getLogger(Reason.class);
    private static final Set<String> SAID = ConcurrentHashMap.newKeySet();
    private static final ConcurrentMap<Reason, LongAdder> COUNTS = new ConcurrentHashMap<>();

    private final String meaning;

    Reason(String meaning) {
        this.meaning = meaning;
    }

    String meaning() {
        return meaning;
    }

    /** Whether trying the same again soon can help. */
    boolean passes() {
        return this == TIMEOUT
                || this == CORRUPT
                || this == UNREADABLE
                || this == SERVICE_LOST
                || this == NO_SERVICE
                || this == PEER_UNREACHABLE
                || this == NO_SPACE;
    }

    /** Whether it speaks about the peer as a whole, so that it counts for the circuit breaker. */
    boolean blamesPeer() {
        return this == TIMEOUT || this == PEER_UNREACHABLE;
    }

    long count() {
        LongAdder adder = COUNTS.get(this);
        return adder == null ? 0 : adder.sum();
    }

    /** Count it; log it if it was not logged before for this subject (a host, a setting). */
    void happened(String subject, String detail) {
        COUNTS.computeIfAbsent(this, reason -> new LongAdder()).increment();
        if (SAID.add(name() + " " + subject)) {
            LOG.warn("firesteel shuffle fallback {} ({}): {}. {}", name(), subject, meaning, detail);
        }
    }
}
