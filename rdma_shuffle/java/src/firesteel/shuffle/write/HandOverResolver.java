package firesteel.shuffle.write;

import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.concurrent.TimeUnit;

import org.apache.spark.SparkConf;
import org.apache.spark.storage.BlockManager;

import firesteel.shuffle.session.Session;
import firesteel.shuffle.session.Setting;
import firesteel.shuffle.session.ShuffleMetrics;
import firesteel.shuffle.wire.BlockChecksums;
import firesteel.shuffle.wire.NodeService;
import firesteel.shuffle.wire.Wire;

import scala.Option;

/** Spark's block resolver, which also hands each committed map output over to the node's service. */
public final class HandOverResolver extends VerifyingResolver {
    private final NodeService service;
    private final long registerMillis;
    private final boolean writersKnow;

    public HandOverResolver(SparkConf conf, BlockManager manager, Session session) {
        super(conf, manager);
        this.service = session.service();
        this.registerMillis = Setting.REGISTER_TIMEOUT.millis(session.conf());
        this.writersKnow = WrittenChecksums.coverTheFile(conf);
    }

    /**
     * Commit, then hand over. If the hand-over fails, the task fails: Spark was told that outputs outlive executors,
     * and a copy that only this executor has would be lost with it.
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
            keep(shuffleId, mapId, crcs);
            handOver(shuffleId, mapId, data, index, lengths, crcs);
        } catch (IOException error) {
            throw new UncheckedIOException(
                    "firesteel shuffle: the service did not accept map output " + shuffleId + "/" + mapId + ": "
                            + error.getMessage(),
                    error);
        }
        ShuffleMetrics.HAND_OVER_NANOS.update(System.nanoTime() - start, TimeUnit.NANOSECONDS);
        ShuffleMetrics.OUTPUTS.inc();
        ShuffleMetrics.OUTPUT_BYTES.inc(data.length());
    }

    /** Link the files into the service's folder and register them. Waits for a service that restarts. */
    private void handOver(int shuffle, long map, File data, File index, long[] lengths, int[] crcs) throws IOException {
        service.retrying(registerMillis, (connection, deadline) -> {
            try (LinkedOutput linked = LinkedOutput.into(connection.folders(), service.application(), data, index)) {
                connection.ask(
                        Wire.register(shuffle, map, linked.data(), linked.index(), lengths, crcs), Wire.OK, deadline);
                linked.keep();
                return null;
            }
        });
    }
}
