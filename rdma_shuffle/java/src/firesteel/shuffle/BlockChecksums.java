package firesteel.shuffle;

import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.StandardOpenOption;
import java.util.zip.CRC32C;

/** CRC32C of blocks that lie one behind the other, by one pass over their bytes where they are. */
final class BlockChecksums {
    private static final int STEP = 1 << 18;

    /** Direct: the kernel and the checksum's instruction both need no copy on the heap. */
    private static final ThreadLocal<ByteBuffer> STEPS = ThreadLocal.withInitial(() -> ByteBuffer.allocateDirect(STEP));

    private BlockChecksums() {}

    /** The bytes, in steps. */
    interface Bytes {
        /** The next ones, at least one; null when there are no more. Valid until the next call. */
        ByteBuffer next() throws IOException;
    }

    static int[] of(File data, long[] lengths) throws IOException {
        long total = 0;
        for (long length : lengths) {
            total += length;
        }
        if (total == 0) {
            return new int[lengths.length]; // Writers leave no data file for an empty output; the CRC32C of nothing is 0.
        }
        try (FileChannel channel = FileChannel.open(data.toPath(), StandardOpenOption.READ)) {
            if (channel.size() != total) {
                throw new EOFException("the data file has " + channel.size() + " bytes, its index says " + total);
            }
            return of(in(channel, 0, total), lengths);
        }
    }

    /** Throws an EOFException where there are fewer bytes than the blocks have. */
    static int[] of(Bytes bytes, long[] lengths) throws IOException {
        int[] crcs = new int[lengths.length];
        CRC32C crc = new CRC32C();
        // Many small blocks lie in one step, so reading follows the bytes and not the blocks.
        ByteBuffer step = ByteBuffer.allocate(0);
        for (int block = 0; block < lengths.length; block++) {
            crc.reset();
            for (long left = lengths[block]; left > 0; ) {
                if (!step.hasRemaining()) {
                    step = bytes.next();
                    if (step == null) {
                        throw new EOFException("the block is cut");
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

    /** The {@code size} bytes of a file from {@code offset}. */
    static Bytes in(FileChannel channel, long offset, long size) {
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

    /** Parts in memory, one behind the other; their own positions stay. */
    static Bytes in(ByteBuffer... parts) {
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
