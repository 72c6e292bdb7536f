package firesteel.shuffle.driver;

import org.apache.spark.SparkConf;

import firesteel.shuffle.session.Setting;
import firesteel.shuffle.wire.Reason;

/** The driver decides once for the application, before the first shuffle: the service, or Spark's sort shuffle. */
final class Preflight {
    static final String MANAGER_KEY = "spark.shuffle.manager";
    static final String IO_KEY = "spark.shuffle.sort.io.plugin.class";
    /** Constants and not class literals: the package of the classes that Spark creates lies above this one. */
    static final String MANAGER = "firesteel.shuffle.FiresteelShuffleManager";
    static final String IO = "firesteel.shuffle.FiresteelShuffleDataIO";
    static final String STOCK_IO = "org.apache.spark.shuffle.sort.io.LocalDiskShuffleDataIO";

    private Preflight() {}

    /** The reason in the configuration that excludes the service, or null. */
    static Reason byConf(SparkConf conf) {
        if (!Setting.ENABLED.flag(conf)) {
            return Reason.SWITCHED_OFF;
        }
        String manager = conf.get(MANAGER_KEY, MANAGER);
        String io = conf.get(IO_KEY, IO);
        if (!manager.equals(MANAGER) || !io.equals(IO)) {
            return Reason.OTHER_MANAGER;
        }
        // With io.encryption blocks are ciphertext on the wire. Without it, a user who asked for network encryption gets Netty.
        boolean encryptedNetwork = conf.getBoolean("spark.network.crypto.enabled", false)
                || conf.getBoolean("spark.authenticate.enableSaslEncryption", false)
                || conf.getBoolean("spark.ssl.rpc.enabled", false);
        if (encryptedNetwork && !conf.getBoolean("spark.io.encryption.enabled", false)) {
            return Reason.PLAINTEXT;
        }
        return null;
    }
}
