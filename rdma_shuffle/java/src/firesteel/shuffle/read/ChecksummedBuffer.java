package firesteel.shuffle.read;

import java.io.IOException;
import java.util.concurrent.atomic.AtomicInteger;

import io.netty.buffer.Unpooled;
import io.netty.handler.stream.ChunkedStream;

import org.apache.spark.network.buffer.ManagedBuffer;

import firesteel.shuffle.wire.BlockChecksums;

/**
 * A buffer with a reference count, whose bytes can be checksummed in place. It starts with one user and frees its
 * memory or file when the last user releases it.
 *
 * <p>Spark's iterator retains a buffer only while its task runs. The fetching thread releases its own use after it has
 * passed the buffer to the iterator, so the buffer of a finished task is freed by that release.
 */
abstract class ChecksummedBuffer extends ManagedBuffer {
    private final AtomicInteger users = new AtomicInteger(1);

    /** Free the memory or file. Called once. */
    protected abstract void free();

    /** The bytes in place, for one pass. */
    abstract BlockChecksums.Bytes bytes() throws IOException;

    @Override
    public final ManagedBuffer retain() {
        if (users.getAndUpdate(count -> count == 0 ? 0 : count + 1) == 0) {
            throw new IllegalStateException("the block was already released");
        }
        return this;
    }

    @Override
    public final ManagedBuffer release() {
        int before = users.getAndUpdate(count -> Math.max(0, count - 1));
        if (before == 0) {
            throw new IllegalStateException("the block was already released");
        }
        if (before == 1) {
            free();
        }
        return this;
    }

    /** Without users the memory may hold other data already. Fail instead of returning wrong bytes. */
    protected final void checkInUse() throws IOException {
        if (users.get() == 0) {
            throw new IOException("the block was already released");
        }
    }

    @Override
    public final Object convertToNetty() throws IOException {
        return Unpooled.wrappedBuffer(nioByteBuffer());
    }

    @Override
    public final Object convertToNettyForSsl() throws IOException {
        return new ChunkedStream(createInputStream());
    }
}
