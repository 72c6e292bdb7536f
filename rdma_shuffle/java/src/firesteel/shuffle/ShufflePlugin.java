package firesteel.shuffle;

import org.apache.spark.api.plugin.DriverPlugin;
import org.apache.spark.api.plugin.ExecutorPlugin;
import org.apache.spark.api.plugin.SparkPlugin;

import firesteel.shuffle.driver.ShuffleDriverPlugin;

/**
 * The class for {@code spark.plugins}. The driver's part sets the shuffle manager and the shuffle I/O plugin.
 *
 * <p>Spark 4.3 initializes a SparkContext in this order: environment, plugins, shuffle manager, task scheduler, shuffle
 * I/O plugin. So the rest of the application, executors included, sees the settings that the driver's part makes.
 */
public final class ShufflePlugin implements SparkPlugin {
    @Override
    public DriverPlugin driverPlugin() {
        return new ShuffleDriverPlugin();
    }

    @Override
    public ExecutorPlugin executorPlugin() {
        return new ShuffleExecutorPlugin();
    }
}
