package firesteel.shuffle;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.Files;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.List;
import java.util.Random;
import java.util.concurrent.atomic.AtomicInteger;
import java.util.concurrent.atomic.AtomicLong;
import java.util.zip.CRC32C;

import org.apache.spark.SparkConf;

/** Plain tests of the parts that need no cluster; pytest runs each by its name. */
public final class PartsTest {
    private PartsTest() {}

    /** Run the tests named; a failed one ends the JVM with its trace. */
    public static void main(String[] names) throws Exception {
        for (String name : names) {
            PartsTest.class.getDeclaredMethod(name).invoke(null);
        }
    }

    static void blockIdsSingleAndBatched() {
        equal(BlockName.parse("shuffle_3_41_7"), new BlockName("shuffle_3_41_7", 3, 41L, 7, 8));
        equal(BlockName.parse("shuffle_3_9000000000_7_12"), new BlockName("shuffle_3_9000000000_7_12", 3, 9000000000L, 7, 12));
        for (String other : List.of(
                "shuffleChunk_0_0_1_2", "shuffleMerged_x_1_2_3", "rdd_1_2", "broadcast_1", "shuffle_0_1",
                "shuffle_0_1_2.data", "shuffle_0_1_2_3_4", "shuffle_a_1_2", "", "shuffle_0_1_2147483647")) {
            equal(BlockName.parse(other), null);
        }
    }

    static void breakerOpensAfterFailuresInARowAndTriesOneAgain() {
        AtomicLong now = new AtomicLong();
        CircuitBreaker breaker = new CircuitBreaker(2, 100, now::get);
        breaker.failed("a");
        breaker.succeeded("a");
        breaker.failed("a");
        check(breaker.allows("a"), "one failure in a row");
        breaker.failed("a");
        check(!breaker.allows("a"), "two in a row");
        check(breaker.allows("b"), "another peer");
        equal(breaker.open(), 1);
        now.set(100);
        check(breaker.allows("a"), "the probe");
        check(!breaker.allows("a"), "one probe only");
        breaker.failed("a");
        now.set(199);
        check(!breaker.allows("a"), "the probe failed");
        now.set(200);
        check(breaker.allows("a"), "the next probe");
        now.set(300);
        check(breaker.allows("a"), "a probe that never reported");
        breaker.succeeded("a");
        check(breaker.allows("a") && breaker.allows("a") && breaker.open() == 0, "closed");
    }

    static void checksumsFollowBlocksAcrossSteps() throws IOException {
        Random random = new Random(7);
        long[] lengths = {0, 1, 300_000, 0, 262_143, 2, 1 << 18, 0};
        int total = (int) Arrays.stream(lengths).sum();
        byte[] bytes = new byte[total];
        random.nextBytes(bytes);
        Path file = Files.createTempFile("blocks", null);
        try {
            Files.write(file, bytes);
            int[] crcs = BlockChecksums.of(file.toFile(), lengths);
            int offset = 0;
            for (int block = 0; block < lengths.length; block++) {
                CRC32C crc = new CRC32C();
                crc.update(bytes, offset, (int) lengths[block]);
                equal(crcs[block], (int) crc.getValue());
                offset += (int) lengths[block];
            }
            lengths[1] = 2;
            throwsIo(() -> BlockChecksums.of(file.toFile(), lengths));
        } finally {
            Files.delete(file);
        }
        equal(BlockChecksums.of(file.toFile(), new long[3]).length, 3);
    }

    static void checksumsFollowBlocksAcrossPartsOfMemory() throws IOException {
        byte[] bytes = "abcdefgh".getBytes(java.nio.charset.StandardCharsets.US_ASCII);
        CRC32C whole = new CRC32C();
        whole.update(bytes, 2, 4);
        ByteBuffer[] parts = {
            ByteBuffer.wrap(bytes, 0, 3).slice(), ByteBuffer.allocate(0), ByteBuffer.wrap(bytes, 3, 5).slice(),
        };
        int[] crcs = BlockChecksums.of(BlockChecksums.in(parts), new long[] {2, 4, 0, 2});
        equal(crcs[1], (int) whole.getValue());
        equal(crcs[2], 0);
        equal(parts[0].remaining() + parts[2].remaining(), 8);
        throwsIo(() -> BlockChecksums.of(BlockChecksums.in(parts), new long[] {9}));
    }

    static void checksumsOfWritersAreTakenWhereTheyAreOfTheFile() {
        check(Arrays.equals(WrittenChecksums.of(new long[] {0xFFFFFFFFL, 0, 7}), new int[] {-1, 0, 7}), "unsigned");
        check(WrittenChecksums.areOfTheFile(crc32c()), "by default");
        check(WrittenChecksums.areOfTheFile(crc32c().set("spark.io.compression.codec", "zstd")), "zstd");
        check(!WrittenChecksums.areOfTheFile(new SparkConf(false)), "Spark's default is ADLER32");
        check(!WrittenChecksums.areOfTheFile(crc32c().set("spark.shuffle.checksum.enabled", "false")), "none are made");
        check(!WrittenChecksums.areOfTheFile(crc32c().set("spark.io.encryption.enabled", "true")), "merges encrypt again");
        check(!WrittenChecksums.areOfTheFile(crc32c().set("spark.shuffle.unsafe.fastMergeEnabled", "false")), "compress again");
    }

    private static SparkConf crc32c() {
        return new SparkConf(false).set("spark.shuffle.checksum.algorithm", "CRC32C");
    }

    static void slabBuffersEndWithTheirLastUser() throws IOException {
        AtomicInteger given = new AtomicInteger();
        Lease lease = new Lease(given::incrementAndGet);
        ByteBuffer memory = ByteBuffer.wrap("abcdefgh".getBytes(java.nio.charset.StandardCharsets.US_ASCII));
        SlabBuffer one = new SlabBuffer(new ByteBuffer[] {memory.slice(0, 3), memory.slice(3, 0), memory.slice(3, 2)}, lease.use());
        SlabBuffer two = new SlabBuffer(new ByteBuffer[] {memory.slice(5, 3)}, lease.use());
        lease.done();
        equal(one.size(), 5L);
        InputStream stream = one.createInputStream();
        equal(new String(stream.readNBytes(2)), "ab");
        equal(stream.skip(2), 2L);
        equal((char) stream.read(), 'e');
        equal(stream.read(), -1);
        equal(one.nioByteBuffer().remaining(), 5);
        one.retain();
        one.release();
        equal(new String(one.createInputStream().readAllBytes()), "abcde");
        one.release();
        throwsIo(one::createInputStream);
        throwsIo(() -> stream.read());
        equal(given.get(), 0);
        two.release();
        equal(given.get(), 1);
        try {
            two.release();
            throw new AssertionError("a second release");
        } catch (IllegalStateException expected) {
            equal(given.get(), 1);
        }
    }

    static void fileBuffersOutliveTheirFilesName() throws IOException {
        Path file = Files.createTempFile("blocks", null);
        Files.writeString(file, "0123456789");
        FileBuffer buffer = new FileBuffer(FileChannel.open(file, StandardOpenOption.READ), 2, 5);
        Files.delete(file);
        equal(new String(buffer.createInputStream().readAllBytes()), "23456");
        InputStream open = buffer.createInputStream();
        buffer.release();
        throwsIo(() -> open.read());
        throwsIo(buffer::createInputStream);
    }

    static void shortFilesAreAnError() throws IOException {
        Path file = Files.createTempFile("blocks", null);
        Files.writeString(file, "0123");
        FileBuffer buffer = new FileBuffer(FileChannel.open(file, StandardOpenOption.READ), 2, 5);
        throwsIo(() -> buffer.createInputStream().readAllBytes());
        buffer.release();
        Files.delete(file);
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

    static void answersAsTheProtocolDrawsThem() throws IOException {
        List<BlockName> asked = List.of(BlockName.parse("shuffle_1_2_3"), BlockName.parse("shuffle_1_9_0_2"), BlockName.parse("shuffle_1_4_0"));
        Wire.Blocks blocks = Wire.blocks(ByteBuffer.wrap(answer()), asked);
        equal(blocks.lease(), 77L);
        equal(blocks.found().get(0).reason(), Reason.PEER_REFUSED);
        equal(blocks.found().get(0).detail(), "gone");
        equal(blocks.found().get(1).lengths()[1], 5L);
        equal(blocks.found().get(1).crcs()[0], 0xfffffffe);
        equal(blocks.found().get(1).extents(), List.of(new Wire.Extent(null, 6, 4096, 3), new Wire.Extent(null, 6, 9000, 6)));
        equal(blocks.found().get(2).extents(), List.of(new Wire.Extent("/f", -1, 8, 2)));
    }

    /** Cut, stretched and mutated answers are MALFORMED, or values: nothing else comes out, and nothing huge is made. */
    static void brokenAnswersAreMalformed() throws IOException {
        List<BlockName> asked = List.of(BlockName.parse("shuffle_1_2_3"), BlockName.parse("shuffle_1_9_0_2"), BlockName.parse("shuffle_1_4_0"));
        byte[] whole = answer();
        for (int length = 0; length < whole.length; length++) {
            malformed(Arrays.copyOf(whole, length), asked);
        }
        malformed(Arrays.copyOf(whole, whole.length + 1), asked);
        Random random = new Random(20);
        int refused = 0;
        for (int round = 0; round < 200_000; round++) {
            byte[] bytes = whole.clone();
            for (int change = 1 + random.nextInt(3); change > 0; change--) {
                bytes[random.nextInt(bytes.length)] = (byte) random.nextInt();
            }
            try {
                Wire.blocks(ByteBuffer.wrap(bytes), asked);
                Wire.welcome(ByteBuffer.wrap(bytes));
            } catch (ShuffleFailure expected) {
                equal(expected.reason(), Reason.MALFORMED);
                refused++;
            }
            try {
                Wire.told(ByteBuffer.wrap(bytes));
                Wire.error(ByteBuffer.wrap(bytes));
            } catch (ShuffleFailure expected) {
                equal(expected.reason(), Reason.MALFORMED);
            }
        }
        check(refused > 100_000, "most were refused");
    }

    private static byte[] answer() {
        ByteBuffer out = ByteBuffer.allocate(1000);
        out.putLong(77).putInt(3);
        out.put((byte) 1).putShort((short) 4).put("gone".getBytes(java.nio.charset.StandardCharsets.US_ASCII));
        out.put((byte) 0).putInt(2).putLong(4).putInt(0xfffffffe).putLong(5).putInt(1).putShort((short) 2);
        out.put((byte) 1).putInt(6).putLong(4096).putLong(3);
        out.put((byte) 1).putInt(6).putLong(9000).putLong(6);
        out.put((byte) 0).putInt(1).putLong(2).putInt(9).putShort((short) 1);
        out.put((byte) 0).putShort((short) 2).put((byte) '/').put((byte) 'f').putLong(8).putLong(2);
        return Arrays.copyOf(out.array(), out.position());
    }

    private static void malformed(byte[] bytes, List<BlockName> asked) throws IOException {
        try {
            Wire.blocks(ByteBuffer.wrap(bytes), asked);
        } catch (ShuffleFailure expected) {
            equal(expected.reason(), Reason.MALFORMED);
            return;
        }
        throw new AssertionError("read " + bytes.length + " bytes");
    }

    static void requestsStayWithinTheLimits() throws IOException {
        BlockName wide = BlockName.parse("shuffle_0_1_0_300000");
        equal(Wire.most(List.of(wide, wide, wide), 0), 1);
        equal(Wire.most(java.util.Collections.nCopies(40_000, BlockName.parse("shuffle_0_1_0")), 0), 32_768);
        equal(Wire.most(java.util.Collections.nCopies(40_000, BlockName.parse("shuffle_0_1_0")), 32_768), 40_000);
        ByteBuffer frame = Wire.fetch("h", 5, List.of(BlockName.parse("shuffle_1_2_3"))).frame(9);
        equal(frame.getInt(), frame.remaining());
        equal((int) frame.get(), 6);
        equal(frame.getInt(), 9);
        equal(frame.remaining(), 3 + 4 + 4 + 20);
    }

    static void messagesToTheDriver() {
        HostLost lost = new HostLost(3, 9000000000L, "node-7.example");
        equal(HostLost.parse(lost.text()), lost);
        try {
            HostLost.parse("host-lost 1 2");
            throw new AssertionError("a cut message");
        } catch (IllegalArgumentException expected) {
            check(expected.getMessage() != null, "says so");
        }
    }

    static void secretsAreNotPrinted() {
        check(!new Secret("fs-1", "abcdef").toString().contains("abcdef"), "in toString");
        equal(Secret.of(new Secret("fs-1", "abcdef").toMap()), new Secret("fs-1", "abcdef"));
        equal(Secret.of(java.util.Map.of()), null);
    }

    private static SparkConf conf(String... pairs) {
        SparkConf conf = new SparkConf(false);
        for (int index = 0; index < pairs.length; index += 2) {
            conf.set(pairs[index], pairs[index + 1]);
        }
        return conf;
    }

    private interface Reading {
        Object go() throws IOException;
    }

    private static void throwsIo(Reading reading) {
        try {
            reading.go();
        } catch (IOException expected) {
            return;
        }
        throw new AssertionError("no IOException");
    }

    private static void check(boolean holds, String what) {
        if (!holds) {
            throw new AssertionError(what);
        }
    }

    private static void equal(Object found, Object wanted) {
        if (!java.util.Objects.equals(found, wanted)) {
            throw new AssertionError("found " + found + ", wanted " + wanted);
        }
    }
}
