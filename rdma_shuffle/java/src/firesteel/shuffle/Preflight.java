package firesteel.shuffle;

import org.apache.spark.SparkConf;

/** The one decision of an application, made on the driver before anything shuffles: service, or Spark's sort shuffle. */
final class Preflight {
    static final String MANAGER_KEY = "spark.shuffle.manager";
    static final String IO_KEY = "spark.shuffle.sort.io.plugin.class";
    static final String STOCK_IO = "org.apache.spark.shuffle.sort.io.LocalDiskShuffleDataIO";

    private Preflight() {}

    /** The reason in the configuration not to use the service, or null. */
    static Reason byConf(SparkConf conf) {
        if (!Setting.ENABLED.flag(conf)) {
            return Reason.SWITCHED_OFF;
        }
        String manager = conf.get(MANAGER_KEY, FiresteelShuffleManager.class.getName());
        String io = conf.get(IO_KEY, FiresteelShuffleDataIO.class.getName());
        if (!manager.equals(FiresteelShuffleManager.class.getName())
                || !io.equals(FiresteelShuffleDataIO.class.getName())) {
            return Reason.OTHER_MANAGER;
        }
        // Blocks are ciphertext already with io.encryption. Without it, who asked for encrypted networks gets Netty.
        boolean encryptedNetwork = conf.getBoolean("spark.network.crypto.enabled", false)
                || conf.getBoolean("spark.authenticate.enableSaslEncryption", false)
                || conf.getBoolean("spark.ssl.rpc.enabled", false);
        if (encryptedNetwork && !conf.getBoolean("spark.io.encryption.enabled", false)) {
            return Reason.PLAINTEXT;
        }
        return null;
    }
}
