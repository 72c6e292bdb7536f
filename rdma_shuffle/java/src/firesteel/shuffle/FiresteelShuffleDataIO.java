package firesteel.shuffle;

import java.util.Map;

import org.apache.spark.SparkConf;
import org.apache.spark.SparkEnv;
import org.apache.spark.shuffle.api.ShuffleDataIO;
import org.apache.spark.shuffle.api.ShuffleDriverComponents;
import org.apache.spark.shuffle.api.ShuffleExecutorComponents;
import org.apache.spark.shuffle.api.ShuffleMapOutputWriter;
import org.apache.spark.shuffle.api.SingleSpillShuffleMapOutputWriter;
import org.apache.spark.shuffle.sort.io.LocalDiskShuffleDriverComponents;
import org.apache.spark.shuffle.sort.io.LocalDiskShuffleExecutorComponents;
import org.apache.spark.storage.BlockManager;

import firesteel.shuffle.driver.NodeTracker;
import firesteel.shuffle.session.Session;
import firesteel.shuffle.write.HandOverResolver;

/** Spark's local disk writers, with a hand-over to the node's service when they commit. */
public final class FiresteelShuffleDataIO implements ShuffleDataIO {
    private final SparkConf conf;

    /** Spark calls this constructor by name. */
    public FiresteelShuffleDataIO(SparkConf conf) {
        this.conf = conf;
    }

    @Override
    public ShuffleExecutorComponents executor() {
        return new ExecutorComponents(conf);
    }

    @Override
    public ShuffleDriverComponents driver() {
        return new DriverComponents();
    }

    /** Tells Spark that outputs outlive their executors. */
    private static final class DriverComponents extends LocalDiskShuffleDriverComponents {
        @Override
        public boolean supportsReliableStorage() {
            return true;
        }

        @Override
        public void removeShuffle(int shuffleId, boolean blocking) {
            // Live executors remove it from the services of their nodes. This reaches the nodes without executors.
            NodeTracker.removeShuffle(shuffleId, blocking);
            super.removeShuffle(shuffleId, blocking);
        }
    }

    /** Spark's local writers over a resolver that hands committed outputs over. */
    private static final class ExecutorComponents implements ShuffleExecutorComponents {
        private final SparkConf conf;
        private LocalDiskShuffleExecutorComponents local;

        private ExecutorComponents(SparkConf conf) {
            this.conf = conf;
        }

        @Override
        public void initializeExecutor(String appId, String execId, Map<String, String> extra) {
            BlockManager manager = SparkEnv.get().blockManager();
            if (manager == null) {
                throw new IllegalStateException("No blockManager available from the SparkEnv.");
            }
            HandOverResolver resolver = new HandOverResolver(conf, manager, Session.current());
            local = new LocalDiskShuffleExecutorComponents(conf, manager, resolver);
        }

        @Override
        public ShuffleMapOutputWriter createMapOutputWriter(int shuffleId, long mapId, int partitions) {
            return local.createMapOutputWriter(shuffleId, mapId, partitions);
        }

        @Override
        public java.util.Optional<SingleSpillShuffleMapOutputWriter> createSingleFileMapOutputWriter(
                int shuffleId, long mapId) {
            return local.createSingleFileMapOutputWriter(shuffleId, mapId);
        }
    }
}
