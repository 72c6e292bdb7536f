package firesteel.shuffle.wire;

import java.io.Closeable;
import java.io.EOFException;
import java.io.IOException;
import java.net.UnixDomainSocketAddress;
import java.nio.ByteBuffer;
import java.nio.ByteOrder;
import java.nio.channels.SelectionKey;
import java.nio.channels.Selector;
import java.nio.channels.SocketChannel;
import java.nio.file.Path;
import java.util.concurrent.TimeUnit;

/** A Unix socket with a deadline for every wait. Java's blocking Unix channels have no timeout. */
final class UnixSocket implements Closeable {
    private final SocketChannel channel;
    private final Selector selector;
    private final SelectionKey key;

    private UnixSocket(SocketChannel channel) throws IOException {
        this.channel = channel;
        this.selector = Selector.open();
        this.key = channel.configureBlocking(false).register(selector, 0);
    }

    static UnixSocket open(Path path) throws IOException {
        SocketChannel channel = SocketChannel.open(java.net.StandardProtocolFamily.UNIX);
        try {
            channel.connect(UnixDomainSocketAddress.of(path));
            return new UnixSocket(channel);
        } catch (IOException | RuntimeException error) {
            channel.close();
            throw error;
        }
    }

    void write(ByteBuffer bytes, long deadlineNanos) throws IOException {
        while (bytes.hasRemaining()) {
            if (channel.write(bytes) == 0) {
                await(SelectionKey.OP_WRITE, deadlineNanos);
            }
        }
    }

    /** Read exactly {@code count} bytes, big-endian. */
    ByteBuffer read(int count, long deadlineNanos) throws IOException {
        ByteBuffer bytes = ByteBuffer.allocate(count).order(ByteOrder.BIG_ENDIAN);
        while (bytes.hasRemaining()) {
            int got = channel.read(bytes);
            if (got < 0) {
                throw new EOFException("the service closed the connection");
            }
            if (got == 0) {
                await(SelectionKey.OP_READ, deadlineNanos);
            }
        }
        return bytes.flip();
    }

    /** Whether the service has closed the connection or sent unexpected bytes, so that it cannot be reused. */
    boolean stale() {
        try {
            return channel.read(ByteBuffer.allocate(1)) != 0;
        } catch (IOException error) {
            return true;
        }
    }

    private void await(int operation, long deadlineNanos) throws IOException {
        key.interestOps(operation);
        long left = deadlineNanos - System.nanoTime();
        if (left <= 0) {
            throw new ShuffleFailure(Reason.TIMEOUT, "the service of this node did not answer in time");
        }
        selector.select(Math.max(1, TimeUnit.NANOSECONDS.toMillis(left)));
        selector.selectedKeys().clear();
        if (Thread.currentThread().isInterrupted()) {
            throw new IOException("interrupted while waiting for the service");
        }
    }

    @Override
    public void close() {
        try (selector;
                channel) {
            key.cancel();
        } catch (IOException error) {
            org.slf4j.LoggerFactory.getLogger(UnixSocket.class).debug("closing a connection", error);
        }
    }
}
