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

/** Spark's own writers on local disks, with a hand-over to the service at their commit. */
public final class FiresteelShuffleDataIO implements ShuffleDataIO {
    private final SparkConf conf;

    /** As Spark makes it, by name. */
    public FiresteelShuffleDataIO(SparkConf conf) {
        this.conf = conf;
    }

    @Override
    public ShuffleExecutorComponents executor() {
        return new HandOver(conf);
    }

    @Override
    public ShuffleDriverComponents driver() {
        return new Reliable();
    }

    /** Tells Spark that outputs outlive their executors. */
    private static final class Reliable extends LocalDiskShuffleDriverComponents {
        @Override
        public boolean supportsReliableStorage() {
            return true;
        }

        @Override
        public void removeShuffle(int shuffleId, boolean blocking) {
            // The executors that are left remove it from their nodes' services; this reaches the nodes without one.
            if (Session.isOpen()) {
                Session.current().nodes().removeShuffle(shuffleId, blocking);
            }
            super.removeShuffle(shuffleId, blocking);
        }
    }

    /** Spark's local writers over a resolver that hands over what is committed. */
    private static final class HandOver implements ShuffleExecutorComponents {
        private final SparkConf conf;
        private LocalDiskShuffleExecutorComponents local;

        private HandOver(SparkConf conf) {
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
