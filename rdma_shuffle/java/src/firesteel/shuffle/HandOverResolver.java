package firesteel.shuffle;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.concurrent.TimeUnit;

import org.apache.spark.SparkConf;
import org.apache.spark.shuffle.IndexShuffleBlockResolver;
import org.apache.spark.storage.BlockManager;

import scala.Option;

/** Spark's resolver, which gives each map output to the node's service as soon as it is committed. */
final class HandOverResolver extends IndexShuffleBlockResolver {
    private final Session session;
    private final boolean writersKnow;

    HandOverResolver(SparkConf conf, BlockManager manager, Session session) {
        super(conf, manager);
        this.session = session;
        this.writersKnow = WrittenChecksums.areOfTheFile(conf);
    }

    /**
     * Commit, then hand over. A failed hand-over fails the task: the application was promised that outputs outlive
     * executors, and a copy that only this executor has would be lost with it.
     */
    @Override
    public void writeMetadataFileAndCommit(
            int shuffleId, long mapId, long[] lengths, long[] checksums, File dataTmp) {
        super.writeMetadataFileAndCommit(shuffleId, mapId, lengths, checksums, dataTmp);
        long start = System.nanoTime();
        File data = getDataFile(shuffleId, mapId);
        File index = getIndexFile(shuffleId, mapId, Option.empty());
        try {
            boolean known = writersKnow && checksums.length == lengths.length;
            int[] crcs = known ? WrittenChecksums.of(checksums) : BlockChecksums.of(data, lengths);
            session.service().register(shuffleId, mapId, data, index, lengths, crcs);
        } catch (IOException error) {
            throw new UncheckedIOException(
                    "firesteel shuffle: the map output " + shuffleId + "/" + mapId + " was not taken: "
                            + error.getMessage(),
                    error);
        }
        ShuffleMetrics.HAND_OVER_NANOS.update(System.nanoTime() - start, TimeUnit.NANOSECONDS);
        ShuffleMetrics.OUTPUTS.inc();
        ShuffleMetrics.OUTPUT_BYTES.inc(data.length());
    }
}
