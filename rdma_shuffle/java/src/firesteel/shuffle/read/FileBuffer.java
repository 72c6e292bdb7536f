package firesteel.shuffle.read;

import java.io.EOFException;
import java.io.IOException;
import java.io.InputStream;
import java.io.UncheckedIOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;

import firesteel.shuffle.wire.BlockChecksums;

/**
 * A block in a file of this node's service. The open channel keeps the bytes after the service unlinks the file.
 *
 * <p>Streams read through the channel and not through a mapping. PySpark's writer threads read for a moment after their
 * task has ended, and a read from an unmapped region would crash the JVM.
 */
final class FileBuffer extends ChecksummedBuffer {
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
        checkInUse();
        return BlockChecksums.in(channel, offset, size);
    }

    @Override
    public ByteBuffer nioByteBuffer() throws IOException {
        checkInUse();
        return channel.map(MapMode.READ_ONLY, offset, size); // the garbage collector unmaps it, see above
    }

    @Override
    public InputStream createInputStream() throws IOException {
        checkInUse();
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
