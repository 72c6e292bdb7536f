package firesteel.shuffle.wire;

import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.StandardOpenOption;
import java.util.Arrays;
import java.util.zip.CRC32C;

/** CRC32C of consecutive blocks, in one pass over their bytes and without a copy. */
public final class BlockChecksums {
    private static final int STEP = 1 << 18;

    /** Direct buffers: neither the kernel nor the checksum instruction then needs a copy on the heap. */
    private static final ThreadLocal<ByteBuffer> STEPS = ThreadLocal.withInitial(() -> ByteBuffer.allocateDirect(STEP));

    private BlockChecksums() {}

    /** The bytes, in steps. */
    public interface Bytes {
        /** The next bytes, at least one, or null at the end. Valid until the next call. */
        ByteBuffer next() throws IOException;
    }

    public static int[] of(File data, long[] lengths) throws IOException {
        long total = 0;
        for (long length : lengths) {
            total += length;
        }
        if (total == 0) {
            return new int[lengths.length]; // An empty output has no data file, and the CRC32C of no bytes is 0.
        }
        try (FileChannel channel = FileChannel.open(data.toPath(), StandardOpenOption.READ)) {
            if (channel.size() != total) {
                throw new EOFException("the data file has " + channel.size() + " bytes, its index " + total);
            }
            return of(in(channel, 0, total), lengths);
        }
    }

    /** Throws EOFException if there are fewer bytes than the blocks have. */
    public static int[] of(Bytes bytes, long[] lengths) throws IOException {
        int[] crcs = new int[lengths.length];
        CRC32C crc = new CRC32C();
        // One step holds many small blocks, so the loop reads by step and not by block.
        ByteBuffer step = ByteBuffer.allocate(0);
        for (int block = 0; block < lengths.length; block++) {
            crc.reset();
            for (long left = lengths[block]; left > 0; ) {
                if (!step.hasRemaining()) {
                    step = bytes.next();
                    if (step == null) {
                        throw new EOFException("the block is truncated");
                    }
                }
                int count = (int) Math.min(left, step.remaining());
                crc.update(step.slice(step.position(), count));
                step.position(step.position() + count);
                left -= count;
            }
            crcs[block] = (int) crc.getValue();
        }
        return crcs;
    }

    /** Throws CORRUPT if the bytes of a block do not have its lengths and checksums, one of each for each reduce. */
    public static void verify(BlockName block, Bytes bytes, long[] lengths, int[] crcs) throws IOException {
        int[] actual;
        try {
            actual = of(bytes, lengths);
        } catch (EOFException error) {
            throw new ShuffleFailure(Reason.CORRUPT, block.text() + ": " + error.getMessage(), error);
        }
        int wrong = Arrays.mismatch(actual, crcs);
        if (wrong >= 0) {
            throw new ShuffleFailure(
                    Reason.CORRUPT, block.text() + ": the CRC32C of reduce " + (block.first() + wrong) + " does not match");
        }
    }

    /** The {@code size} bytes of a file from {@code offset}. */
    public static Bytes in(FileChannel channel, long offset, long size) {
        ByteBuffer step = STEPS.get();
        return new Bytes() {
            private long done;

            @Override
            public ByteBuffer next() throws IOException {
                step.clear().limit((int) Math.min(STEP, size - done));
                int count = step.hasRemaining() ? channel.read(step, offset + done) : -1;
                if (count <= 0) {
                    return null;
                }
                done += count;
                return step.flip();
            }
        };
    }

    /** The bytes of a stream, which the caller closes. */
    public static Bytes in(InputStream stream) {
        byte[] step = new byte[STEP];
        return () -> {
            int count = stream.read(step);
            return count < 0 ? null : ByteBuffer.wrap(step, 0, count);
        };
    }

    /** Consecutive parts in memory. Their positions do not change. */
    public static Bytes in(ByteBuffer... parts) {
        return new Bytes() {
            private int index;

            @Override
            public ByteBuffer next() {
                while (index < parts.length) {
                    ByteBuffer part = parts[index++].duplicate();
                    if (part.hasRemaining()) {
                        return part;
                    }
                }
                return null;
            }
        };
    }
}
