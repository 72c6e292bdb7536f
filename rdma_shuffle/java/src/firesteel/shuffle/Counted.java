package firesteel.shuffle;

import java.io.IOException;
import java.util.concurrent.atomic.AtomicInteger;

import io.netty.buffer.Unpooled;
import io.netty.handler.stream.ChunkedStream;

import org.apache.spark.network.buffer.ManagedBuffer;

/**
 * A buffer that knows its users: it begins with one, and gives up what it holds when the last one releases it.
 *
 * <p>Spark's iterator retains a buffer only while its task lives, and the ladder releases its own use after telling the
 * iterator. So the buffer of a task that ended meanwhile ends with that release.
 */
abstract class Counted extends ManagedBuffer {
    private final AtomicInteger users = new AtomicInteger(1);

    /** Give up what is held. Called once. */
    protected abstract void free();

    /** Its bytes where they are, to be looked at once. */
    abstract BlockChecksums.Bytes bytes() throws IOException;

    @Override
    public final ManagedBuffer retain() {
        if (users.getAndUpdate(count -> count == 0 ? 0 : count + 1) == 0) {
            throw new IllegalStateException("the block was released before");
        }
        return this;
    }

    @Override
    public final ManagedBuffer release() {
        int before = users.getAndUpdate(count -> Math.max(0, count - 1));
        if (before == 0) {
            throw new IllegalStateException("the block was released before");
        }
        if (before == 1) {
            free();
        }
        return this;
    }

    /** What is held may be someone else's by now if nobody uses it: then reading is an error, not wrong data. */
    protected final void mustBeHeld() throws IOException {
        if (users.get() == 0) {
            throw new IOException("the block was released before");
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
