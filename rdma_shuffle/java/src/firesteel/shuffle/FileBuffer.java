package firesteel.shuffle;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;

/**
 * A block in a file of this node's service. Its channel stays open as long as it is used, so the service may unlink.
 *
 * <p>Streams read through the channel and not through a mapping: a mapping that is unmapped while a task's other
 * threads still read (PySpark's writer threads do, for a moment after their task ended) ends the whole JVM.
 */
final class FileBuffer extends Counted {
    private static final int STEP = 1 << 18;

    private final FileChannel channel;
    private final long offset;
    private final long size;

    FileBuffer(FileChannel channel, long offset, long size) {
        this.channel = channel;
        this.offset = offset;
        this.size = size;
    }

    @Override
    protected void free() {
        try {
            channel.close();
        } catch (IOException error) {
            throw new UncheckedIOException(error);
        }
    }

    @Override
    public long size() {
        return size;
    }

    @Override
    BlockChecksums.Bytes bytes() throws IOException {
        mustBeHeld();
        return BlockChecksums.in(channel, offset, size);
    }

    @Override
    public ByteBuffer nioByteBuffer() throws IOException {
        mustBeHeld();
        return channel.map(MapMode.READ_ONLY, offset, size); // unmapped when the collector finds it, see above
    }

    @Override
    public InputStream createInputStream() throws IOException {
        mustBeHeld();
        return new InputStream() {
            private long position;

            @Override
            public int read() throws IOException {
                byte[] one = new byte[1];
                return read(one, 0, 1) < 0 ? -1 : one[0] & 0xff;
            }

            @Override
            public int read(byte[] into, int start, int length) throws IOException {
                if (length == 0) {
                    return 0;
                }
                if (position >= size) {
                    return -1;
                }
                int count = (int) Math.min(Math.min(length, STEP), size - position);
                int got = channel.read(ByteBuffer.wrap(into, start, count), offset + position);
                if (got < 0) {
                    throw new EOFException("the file is shorter than its block");
                }
                position += got;
                return got;
            }

            @Override
            public long skip(long wanted) {
                long count = Math.max(0, Math.min(wanted, size - position));
                position += count;
                return count;
            }

            @Override
            public int available() {
                return (int) Math.min(Integer.MAX_VALUE, size - position);
            }
        };
    }
}
