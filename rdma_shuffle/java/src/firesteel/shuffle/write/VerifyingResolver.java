package firesteel.shuffle.write;

import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.concurrent.ConcurrentMap;

import org.apache.spark.SparkConf;
import org.apache.spark.network.buffer.ManagedBuffer;
import org.apache.spark.shuffle.IndexShuffleBlockResolver;
import org.apache.spark.storage.BlockId;
import org.apache.spark.storage.BlockManager;
import org.apache.spark.util.collection.OpenHashSet;

import firesteel.shuffle.wire.BlockChecksums;
import firesteel.shuffle.wire.BlockName;
import firesteel.shuffle.wire.Reason;
import firesteel.shuffle.wire.ShuffleFailure;

import scala.Option;

/**
 * Spark's block resolver, which checks a block against its CRC32C before it returns the block: to tasks of this executor
 * and, by Netty, to other executors. Spark turns the exception into FetchFailed and computes the map output again.
 *
 * <p>The checksums of a map output are in a file beside its index. Spark's own checksum file does not do: its algorithm
 * can be another one, and it need not be of the file's bytes ({@link WrittenChecksums}).
 */
public class VerifyingResolver extends IndexShuffleBlockResolver {
    private static final String SUFFIX = ".crc32c";

    protected VerifyingResolver(SparkConf conf, BlockManager manager) {
        super(conf, manager);
    }

    /** Create the resolver of a shuffle manager, which is created before the BlockManager. */
    public VerifyingResolver(SparkConf conf, ConcurrentMap<Object, OpenHashSet<Object>> maps) {
        super(conf, null, maps);
    }

    @Override
    public ManagedBuffer getBlockData(BlockId blockId, Option<String[]> dirs) {
        ManagedBuffer buffer = super.getBlockData(blockId, dirs);
        BlockName block = BlockName.parse(blockId.name());
        if (block != null) {
            try {
                verify(block, dirs);
            } catch (IOException error) {
                Reason.CORRUPT.record("an output of this executor", String.valueOf(error.getMessage()));
                throw new UncheckedIOException("firesteel shuffle: " + error.getMessage(), error);
            }
        }
        return buffer;
    }

    @Override
    public void removeDataByMap(int shuffleId, long mapId) {
        super.removeDataByMap(shuffleId, mapId);
        try {
            Files.deleteIfExists(checksums(shuffleId, mapId, Option.empty()));
        } catch (IOException error) {
            org.slf4j.LoggerFactory.getLogger(VerifyingResolver.class).debug("the checksums of a removed output remain", error);
        }
    }

    /** Store the checksums of a committed map output. */
    final void keep(int shuffleId, long mapId, int[] crcs) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(Math.multiplyExact(crcs.length, Integer.BYTES));
        bytes.asIntBuffer().put(crcs);
        Files.write(checksums(shuffleId, mapId, Option.empty()), bytes.array());
    }

    private Path checksums(int shuffleId, long mapId, Option<String[]> dirs) {
        File index = getIndexFile(shuffleId, mapId, dirs);
        return index.toPath().resolveSibling(index.getName().replace(".index", SUFFIX));
    }

    private void verify(BlockName block, Option<String[]> dirs) throws IOException {
        int count = block.end() - block.first();
        ByteBuffer ends = read(
                getIndexFile(block.shuffle(), block.map(), dirs).toPath(),
                (long) block.first() * Long.BYTES,
                Math.multiplyExact(count + 1, Long.BYTES));
        long start = ends.getLong();
        long[] lengths = new long[count];
        long end = start;
        for (int reduce = 0; reduce < count; reduce++) {
            long next = ends.getLong();
            lengths[reduce] = next - end;
            if (start < 0 || lengths[reduce] < 0) {
                throw new ShuffleFailure(Reason.CORRUPT, block.text() + ": the index file is damaged");
            }
            end = next;
        }
        int[] crcs = new int[count];
        read(
                        checksums(block.shuffle(), block.map(), dirs),
                        (long) block.first() * Integer.BYTES,
                        Math.multiplyExact(count, Integer.BYTES))
                .asIntBuffer()
                .get(crcs);
        if (end == start) {
            BlockChecksums.verify(block, BlockChecksums.in(), lengths, crcs); // an empty output has no data file
            return;
        }
        Path data = getDataFile(block.shuffle(), block.map(), dirs).toPath();
        try (FileChannel channel = FileChannel.open(data, StandardOpenOption.READ)) {
            BlockChecksums.verify(block, BlockChecksums.in(channel, start, end - start), lengths, crcs);
        }
    }

    private static ByteBuffer read(Path file, long offset, int count) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(count);
        try (FileChannel channel = FileChannel.open(file, StandardOpenOption.READ)) {
            while (bytes.hasRemaining()) {
                if (channel.read(bytes, offset + bytes.position()) < 0) {
                    throw new EOFException(file.getFileName() + " is truncated");
                }
            }
        }
        return bytes.flip();
    }
}
