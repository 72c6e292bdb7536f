package firesteel.shuffle;

import java.util.List;

import org.apache.spark.SparkConf;
import org.apache.spark.SparkEnv;
import org.apache.spark.TaskContext;
import org.apache.spark.shuffle.IndexShuffleBlockResolver;
import org.apache.spark.shuffle.ShuffleHandle;
import org.apache.spark.shuffle.ShuffleReadMetricsReporter;
import org.apache.spark.shuffle.ShuffleReader;
import org.apache.spark.shuffle.sort.SortShuffleManager;

import firesteel.shuffle.read.ClientSwap;
import firesteel.shuffle.session.Session;
import firesteel.shuffle.write.VerifyingResolver;

/**
 * Spark's sort shuffle with outputs that the node's service keeps and serves.
 *
 * <p>It extends SortShuffleManager and does not wrap it: Spark SQL checks {@code isInstanceOf[SortShuffleManager]}
 * and copies each row before the shuffle of any other manager (ShuffleExchangeExec.needToCopyObjectsBeforeShuffle).
 */
public final class FiresteelShuffleManager extends SortShuffleManager {
    private final IndexShuffleBlockResolver resolver;

    /** Spark calls this constructor by name. */
    public FiresteelShuffleManager(SparkConf conf) {
        super(conf);
        this.resolver = new VerifyingResolver(conf, super.shuffleBlockResolver().taskIdMapsForShuffle());
    }

    /** Local tasks, and Netty for other executors, read blocks through this resolver. */
    @Override
    public IndexShuffleBlockResolver shuffleBlockResolver() {
        return resolver;
    }

    @Override
    public <K, C> ShuffleReader<K, C> getReader(
            ShuffleHandle handle,
            int startMapIndex,
            int endMapIndex,
            int startPartition,
            int endPartition,
            TaskContext context,
            ShuffleReadMetricsReporter metrics) {
        ClientSwap.install(SparkEnv.get().blockManager(), Session.current());
        return super.getReader(handle, startMapIndex, endMapIndex, startPartition, endPartition, context, metrics);
    }

    @Override
    public boolean unregisterShuffle(int shuffleId) {
        if (Session.isOpen()) {
            Session.current().service().removeShuffle(shuffleId, List.of());
        }
        return super.unregisterShuffle(shuffleId);
    }
}
