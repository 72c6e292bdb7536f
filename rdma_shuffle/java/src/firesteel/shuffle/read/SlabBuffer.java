package firesteel.shuffle.read;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;

import firesteel.shuffle.wire.BlockChecksums;

/** A block in the service's slab. Readers read the shared memory itself, without a copy. */
final class SlabBuffer extends ChecksummedBuffer {
    private final ByteBuffer[] parts;
    private final long size;
    private final Lease lease;

    SlabBuffer(ByteBuffer[] parts, Lease lease) {
        this.parts = parts;
        this.lease = lease;
        long sum = 0;
        for (ByteBuffer part : parts) {
            sum += part.remaining();
        }
        this.size = sum;
    }

    @Override
    protected void free() {
        if (lease != null) {
            lease.done();
        }
    }

    @Override
    public long size() {
        return size;
    }

    @Override
    BlockChecksums.Bytes bytes() throws IOException {
        checkInUse();
        return BlockChecksums.in(parts);
    }

    @Override
    public ByteBuffer nioByteBuffer() throws IOException {
        checkInUse();
        if (parts.length == 1) {
            return parts[0].asReadOnlyBuffer();
        }
        ByteBuffer whole = ByteBuffer.allocate(Math.toIntExact(size));
        for (ByteBuffer part : parts) {
            whole.put(part.duplicate());
        }
        return whole.flip();
    }

    @Override
    public InputStream createInputStream() throws IOException {
        checkInUse();
        return new PartsStream();
    }

    private final class PartsStream extends InputStream {
        private int index;
        private ByteBuffer part = parts.length == 0 ? ByteBuffer.allocate(0) : parts[0].duplicate();

        private boolean atEnd() throws IOException {
            checkInUse();
            while (!part.hasRemaining() && index + 1 < parts.length) {
                part = parts[++index].duplicate();
            }
            return !part.hasRemaining();
        }

        @Override
        public int read() throws IOException {
            return atEnd() ? -1 : part.get() & 0xff;
        }

        @Override
        public int read(byte[] into, int offset, int length) throws IOException {
            if (length == 0) {
                return 0;
            }
            if (atEnd()) {
                return -1;
            }
            int count = Math.min(length, part.remaining());
            part.get(into, offset, count);
            return count;
        }

        @Override
        public long skip(long count) throws IOException {
            long left = count;
            while (left > 0 && !atEnd()) {
                int step = (int) Math.min(left, part.remaining());
                part.position(part.position() + step);
                left -= step;
            }
            return Math.max(0, count) - Math.max(0, left);
        }

        @Override
        public int available() throws IOException {
            return atEnd() ? 0 : part.remaining();
        }
    }
}
