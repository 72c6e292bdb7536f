package firesteel.shuffle;

import java.util.concurrent.atomic.LongAdder;

import com.codahale.metrics.Counter;
import com.codahale.metrics.Gauge;
import com.codahale.metrics.MetricRegistry;
import com.codahale.metrics.Timer;

/**
 * The plugin's metrics, in Spark's metrics system under {@code plugin.firesteel.shuffle.ShufflePlugin}.
 *
 * <p>What a task read and how long it waited stands in Spark's own shuffle read metrics: its iterator counts it.
 */
final class ShuffleMetrics {
    static final Counter SERVICE_BLOCKS = new Counter();
    static final Counter SERVICE_BYTES = new Counter();
    static final Counter NETTY_BLOCKS = new Counter();
    static final Counter FALLBACK_BLOCKS = new Counter();
    static final Counter FAILED_BLOCKS = new Counter();
    static final Counter RETRIES = new Counter();
    static final Counter OUTPUTS = new Counter();
    static final Counter OUTPUT_BYTES = new Counter();
    static final Counter HELD_EXTENTS = new Counter();
    static final Timer FETCH_NANOS = new Timer();
    static final Timer HAND_OVER_NANOS = new Timer();
    static final LongAdder HOSTS_LOST = new LongAdder();

    private ShuffleMetrics() {}

    static void register(MetricRegistry registry) {
        registry.register("blocksByService", SERVICE_BLOCKS);
        registry.register("bytesByService", SERVICE_BYTES);
        registry.register("blocksByNetty", NETTY_BLOCKS);
        registry.register("blocksFallenBack", FALLBACK_BLOCKS);
        registry.register("blocksFailed", FAILED_BLOCKS);
        registry.register("fetchRetries", RETRIES);
        registry.register("outputsHandedOver", OUTPUTS);
        registry.register("bytesHandedOver", OUTPUT_BYTES);
        registry.register("extentsHeld", HELD_EXTENTS);
        registry.register("fetchTime", FETCH_NANOS);
        registry.register("handOverTime", HAND_OVER_NANOS);
        registry.register("hostsLost", (Gauge<Long>) HOSTS_LOST::sum);
        for (Reason reason : Reason.values()) {
            registry.register("fallback." + reason.name(), (Gauge<Long>) reason::count);
        }
    }
}
