package firesteel.shuffle;

import java.io.EOFException;
import java.io.File;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.StandardOpenOption;
import java.util.zip.CRC32C;

/** CRC32C of each block of a data file, by one pass over what the page cache still holds. */
final class BlockChecksums {
    private static final int STEP = 1 << 18;

    private BlockChecksums() {}

    static int[] of(File data, long[] lengths) throws IOException {
        int[] crcs = new int[lengths.length];
        long total = 0;
        for (long length : lengths) {
            total += length;
        }
        if (total == 0) {
            return crcs; // Writers leave no data file for an empty output; the CRC32C of nothing is 0.
        }
        try (FileChannel channel = FileChannel.open(data.toPath(), StandardOpenOption.READ)) {
            if (channel.size() != total) {
                throw new EOFException("the data file has " + channel.size() + " bytes, its index says " + total);
            }
            // Many small blocks lie in one step, so reading follows the file and not the blocks.
            ByteBuffer step = ByteBuffer.allocateDirect((int) Math.min(STEP, total)).limit(0);
            for (int reduce = 0; reduce < lengths.length; reduce++) {
                crcs[reduce] = next(channel, step, lengths[reduce]);
            }
        }
        return crcs;
    }

    private static int next(FileChannel channel, ByteBuffer step, long length) throws IOException {
        CRC32C crc = new CRC32C();
        long left = length;
        while (left > 0) {
            if (!step.hasRemaining()) {
                step.clear();
                if (channel.read(step) < 0) {
                    throw new EOFException("the data file ends within a block");
                }
                step.flip();
            }
            int count = (int) Math.min(left, step.remaining());
            ByteBuffer part = step.slice(step.position(), count);
            crc.update(part);
            step.position(step.position() + count);
            left -= count;
        }
        return (int) crc.getValue();
    }
}
