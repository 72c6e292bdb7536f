package firesteel.shuffle;

import org.apache.spark.api.plugin.DriverPlugin;
import org.apache.spark.api.plugin.ExecutorPlugin;
import org.apache.spark.api.plugin.SparkPlugin;

/**
 * What {@code spark.plugins} names. It is enough: the driver's side sets the shuffle manager and the shuffle I/O plugin.
 *
 * <p>Spark 4.3 makes a SparkContext in this order: environment, plugins, shuffle manager, task scheduler, shuffle I/O
 * plugin. So what the driver's side decides and sets is what the rest of the application sees, executors included.
 */
public final class ShufflePlugin implements SparkPlugin {
    @Override
    public DriverPlugin driverPlugin() {
        return new DriverSide();
    }

    @Override
    public ExecutorPlugin executorPlugin() {
        return new ExecutorSide();
    }
}
