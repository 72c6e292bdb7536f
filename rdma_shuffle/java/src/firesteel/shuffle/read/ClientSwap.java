package firesteel.shuffle.read;

import java.lang.reflect.Field;

import org.apache.spark.network.shuffle.BlockStoreClient;
import org.apache.spark.storage.BlockManager;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import firesteel.shuffle.session.Session;
import firesteel.shuffle.wire.Reason;

/**
 * Replaces the BlockStoreClient that Spark's own reader uses.
 *
 * <p>The alternative is a reader of our own over ShuffleBlockFetcherIterator. It would have to copy much of
 * BlockStoreShuffleReader of 4.3 and keep up with it: the fused aggregation and sort, the row checksums, the batch-fetch
 * rules and the completion order of streams. This class sets one private field instead. {@link #works} tries that on
 * the driver before the application relies on the service; if it fails, the application runs on the sort shuffle.
 */
public final class ClientSwap {
    private static final Logger LOG = LoggerFactory.getLogger(ClientSwap.class);

    private ClientSwap() {}

    /** Whether the client can be replaced. On return the original client is back in place. */
    public static boolean works(BlockManager manager) {
        BlockStoreClient stock = manager.blockStoreClient();
        try {
            FallbackBlockClient probe = new FallbackBlockClient(stock, null, null);
            set(manager, probe);
            boolean accepted = manager.blockStoreClient() == probe;
            set(manager, stock);
            return accepted && manager.blockStoreClient() == stock;
        } catch (ReflectiveOperationException | RuntimeException error) {
            LOG.debug("BlockManager.blockStoreClient cannot be set", error);
            return false;
        }
    }

    /** Put our client in front of Spark's, once per BlockManager. */
    public static synchronized void install(BlockManager manager, Session session) {
        BlockStoreClient current = manager.blockStoreClient();
        if (current instanceof FallbackBlockClient client && client.serves(session)) {
            return;
        }
        BlockStoreClient stock = current instanceof FallbackBlockClient client ? client.stock() : current;
        try {
            set(manager, new FallbackBlockClient(stock, manager.blockTransferService(), session));
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException("firesteel shuffle: " + Reason.CLIENT_NOT_SWAPPED.meaning(), error);
        }
        if (!(manager.blockStoreClient() instanceof FallbackBlockClient)) {
            throw new IllegalStateException("firesteel shuffle: " + Reason.CLIENT_NOT_SWAPPED.meaning());
        }
    }

    private static void set(BlockManager manager, BlockStoreClient client) throws ReflectiveOperationException {
        Field field = BlockManager.class.getDeclaredField("blockStoreClient");
        field.setAccessible(true);
        field.set(manager, client);
    }
}
