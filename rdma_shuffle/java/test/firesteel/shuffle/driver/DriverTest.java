package firesteel.shuffle.driver;

import static firesteel.shuffle.Checks.check;
import static firesteel.shuffle.Checks.equal;

import org.apache.spark.SparkConf;

import firesteel.shuffle.FiresteelShuffleDataIO;
import firesteel.shuffle.FiresteelShuffleManager;
import firesteel.shuffle.wire.Reason;

final class DriverTest {
    private DriverTest() {}

    static void theNamesOfTheConfigurationAreThoseOfTheClasses() {
        equal(Preflight.MANAGER, FiresteelShuffleManager.class.getName());
        equal(Preflight.IO, FiresteelShuffleDataIO.class.getName());
    }

    static void preflightByConfiguration() {
        equal(Preflight.byConf(conf()), null);
        equal(Preflight.byConf(conf("spark.firesteel.shuffle.enabled", "false")), Reason.SWITCHED_OFF);
        equal(Preflight.byConf(conf("spark.shuffle.manager", "sort")), Reason.OTHER_MANAGER);
        equal(Preflight.byConf(conf("spark.shuffle.sort.io.plugin.class", "x.Y")), Reason.OTHER_MANAGER);
        equal(Preflight.byConf(conf("spark.network.crypto.enabled", "true")), Reason.PLAINTEXT);
        equal(Preflight.byConf(conf("spark.ssl.rpc.enabled", "true")), Reason.PLAINTEXT);
        equal(Preflight.byConf(conf("spark.network.crypto.enabled", "true", "spark.io.encryption.enabled", "true")), null);
        try {
            Preflight.byConf(conf("spark.firesteel.shuffle.enabled", "perhaps"));
            throw new AssertionError("a flag that is none");
        } catch (IllegalArgumentException expected) {
            check(expected.getMessage().contains("spark.firesteel.shuffle.enabled=perhaps"), expected.getMessage());
        }
    }

    private static SparkConf conf(String... pairs) {
        SparkConf conf = new SparkConf(false);
        for (int index = 0; index < pairs.length; index += 2) {
            conf.set(pairs[index], pairs[index + 1]);
        }
        return conf;
    }
}
