package firesteel.shuffle.session;

import java.util.concurrent.atomic.LongAdder;

import com.codahale.metrics.Counter;
import com.codahale.metrics.Gauge;
import com.codahale.metrics.MetricRegistry;
import com.codahale.metrics.Timer;

import firesteel.shuffle.wire.Reason;

/**
 * The plugin's metrics, in Spark's metrics system under {@code plugin.firesteel.shuffle.ShufflePlugin}.
 *
 * <p>Spark's own shuffle read metrics hold the bytes that a task read and the time that it waited.
 */
public final class ShuffleMetrics {
    public static final Counter SERVICE_BLOCKS = new Counter();
    public static final Counter SERVICE_BYTES = new Counter();
    public static final Counter NETTY_BLOCKS = new Counter();
    public static final Counter FALLBACK_BLOCKS = new Counter();
    public static final Counter FAILED_BLOCKS = new Counter();
    public static final Counter RETRIES = new Counter();
    public static final Counter OUTPUTS = new Counter();
    public static final Counter OUTPUT_BYTES = new Counter();
    public static final Counter HELD_EXTENTS = new Counter();
    public static final Timer FETCH_NANOS = new Timer();
    public static final Timer HAND_OVER_NANOS = new Timer();
    public static final LongAdder HOSTS_LOST = new LongAdder();

    private ShuffleMetrics() {}

    public static void register(MetricRegistry registry) {
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
