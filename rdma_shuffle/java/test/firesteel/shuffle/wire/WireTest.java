package firesteel.shuffle.wire;

import static firesteel.shuffle.Checks.check;
import static firesteel.shuffle.Checks.equal;
import static firesteel.shuffle.Checks.throwsIo;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import java.util.Collections;
import java.util.List;
import java.util.Map;
import java.util.Random;
import java.util.zip.CRC32C;

final class WireTest {
    private WireTest() {}

    static void blockIdsSingleAndBatched() {
        equal(BlockName.parse("shuffle_3_41_7"), new BlockName("shuffle_3_41_7", 3, 41L, 7, 8));
        equal(BlockName.parse("shuffle_3_9000000000_7_12"), new BlockName("shuffle_3_9000000000_7_12", 3, 9000000000L, 7, 12));
        for (String other : List.of(
                "shuffleChunk_0_0_1_2", "shuffleMerged_x_1_2_3", "rdd_1_2", "broadcast_1", "shuffle_0_1",
                "shuffle_0_1_2.data", "shuffle_0_1_2_3_4", "shuffle_a_1_2", "", "shuffle_0_1_2147483647")) {
            equal(BlockName.parse(other), null);
        }
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
        byte[] bytes = "abcdefgh".getBytes(StandardCharsets.US_ASCII);
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

    static void answersAsTheProtocolDrawsThem() throws IOException {
        List<BlockName> requested = List.of(BlockName.parse("shuffle_1_2_3"), BlockName.parse("shuffle_1_9_0_2"), BlockName.parse("shuffle_1_4_0"));
        Wire.Blocks blocks = Wire.blocks(ByteBuffer.wrap(answer()), requested);
        equal(blocks.lease(), 77L);
        equal(blocks.results().get(0).reason(), Reason.PEER_REFUSED);
        equal(blocks.results().get(0).detail(), "gone");
        equal(blocks.results().get(1).lengths()[1], 5L);
        equal(blocks.results().get(1).crcs()[0], 0xfffffffe);
        equal(blocks.results().get(1).extents(), List.of(new Wire.Extent(null, 6, 4096, 3), new Wire.Extent(null, 6, 9000, 6)));
        equal(blocks.results().get(2).extents(), List.of(new Wire.Extent("/f", -1, 8, 2)));
    }

    /** Cut, stretched and mutated answers are MALFORMED, or values: nothing else comes out, and nothing huge is made. */
    static void brokenAnswersAreMalformed() throws IOException {
        List<BlockName> requested = List.of(BlockName.parse("shuffle_1_2_3"), BlockName.parse("shuffle_1_9_0_2"), BlockName.parse("shuffle_1_4_0"));
        byte[] whole = answer();
        for (int length = 0; length < whole.length; length++) {
            malformed(Arrays.copyOf(whole, length), requested);
        }
        malformed(Arrays.copyOf(whole, whole.length + 1), requested);
        Random random = new Random(20);
        int refused = 0;
        for (int round = 0; round < 200_000; round++) {
            byte[] bytes = whole.clone();
            for (int change = 1 + random.nextInt(3); change > 0; change--) {
                bytes[random.nextInt(bytes.length)] = (byte) random.nextInt();
            }
            try {
                Wire.blocks(ByteBuffer.wrap(bytes), requested);
                Wire.welcome(ByteBuffer.wrap(bytes));
            } catch (ShuffleFailure expected) {
                equal(expected.reason(), Reason.MALFORMED);
                refused++;
            }
            try {
                Wire.notified(ByteBuffer.wrap(bytes));
                Wire.error(ByteBuffer.wrap(bytes));
            } catch (ShuffleFailure expected) {
                equal(expected.reason(), Reason.MALFORMED);
            }
        }
        check(refused > 100_000, "most were refused");
    }

    static void requestsStayWithinTheLimits() throws IOException {
        BlockName wide = BlockName.parse("shuffle_0_1_0_300000");
        equal(Wire.endOfRequest(List.of(wide, wide, wide), 0), 1);
        equal(Wire.endOfRequest(Collections.nCopies(40_000, BlockName.parse("shuffle_0_1_0")), 0), 32_768);
        equal(Wire.endOfRequest(Collections.nCopies(40_000, BlockName.parse("shuffle_0_1_0")), 32_768), 40_000);
        ByteBuffer frame = Wire.fetch("h", 5, List.of(BlockName.parse("shuffle_1_2_3"))).frame(9);
        equal(frame.getInt(), frame.remaining());
        equal((int) frame.get(), 6);
        equal(frame.getInt(), 9);
        equal(frame.remaining(), 3 + 4 + 4 + 20);
    }

    static void secretsAreNotPrinted() {
        check(!new Secret("fs-1", "abcdef").toString().contains("abcdef"), "in toString");
        equal(Secret.of(new Secret("fs-1", "abcdef").toMap()), new Secret("fs-1", "abcdef"));
        equal(Secret.of(Map.of()), null);
    }

    private static byte[] answer() {
        ByteBuffer out = ByteBuffer.allocate(1000);
        out.putLong(77).putInt(3);
        out.put((byte) 1).putShort((short) 4).put("gone".getBytes(StandardCharsets.US_ASCII));
        out.put((byte) 0).putInt(2).putLong(4).putInt(0xfffffffe).putLong(5).putInt(1).putShort((short) 2);
        out.put((byte) 1).putInt(6).putLong(4096).putLong(3);
        out.put((byte) 1).putInt(6).putLong(9000).putLong(6);
        out.put((byte) 0).putInt(1).putLong(2).putInt(9).putShort((short) 1);
        out.put((byte) 0).putShort((short) 2).put((byte) '/').put((byte) 'f').putLong(8).putLong(2);
        return Arrays.copyOf(out.array(), out.position());
    }

    private static void malformed(byte[] bytes, List<BlockName> requested) throws IOException {
        try {
            Wire.blocks(ByteBuffer.wrap(bytes), requested);
        } catch (ShuffleFailure expected) {
            equal(expected.reason(), Reason.MALFORMED);
            return;
        }
        throw new AssertionError("read " + bytes.length + " bytes");
    }
}
