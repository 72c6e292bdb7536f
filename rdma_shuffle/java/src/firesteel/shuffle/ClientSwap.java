package firesteel.shuffle;

import java.lang.reflect.Field;

import org.apache.spark.network.shuffle.BlockStoreClient;
import org.apache.spark.storage.BlockManager;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

/**
 * Puts our BlockStoreClient where Spark's own reader looks for one.
 *
 * <p>The other way is a reader of our own over ShuffleBlockFetcherIterator. Not taken: BlockStoreShuffleReader of 4.3
 * holds the fused aggregation and sort, the row checksums, the batch-fetch rules and the completion order of streams,
 * and a copy of them would be ours to keep equal. Here one private field is set, and {@link #works} tries that on the
 * driver before the application is told that its map outputs are safe; if it fails, it runs on the sort shuffle.
 */
final class ClientSwap {
    private static final Logger LOG = LoggerFactory.getLogger(ClientSwap.class);

    private ClientSwap() {}

    /** Whether the swap takes; the client is the same as before when this returns. */
    static boolean works(BlockManager manager) {
        BlockStoreClient stock = manager.blockStoreClient();
        try {
            LadderClient probe = new LadderClient(stock, null, null);
            set(manager, probe);
            boolean taken = manager.blockStoreClient() == probe;
            set(manager, stock);
            return taken && manager.blockStoreClient() == stock;
        } catch (ReflectiveOperationException | RuntimeException error) {
            LOG.debug("BlockManager.blockStoreClient cannot be set", error);
            return false;
        }
    }

    /** Put the ladder in front of the stock client, once a BlockManager. */
    static synchronized void install(BlockManager manager, Session session) {
        BlockStoreClient current = manager.blockStoreClient();
        if (current instanceof LadderClient ladder && ladder.serves(session)) {
            return;
        }
        BlockStoreClient stock = current instanceof LadderClient ladder ? ladder.stock() : current;
        try {
            set(manager, new LadderClient(stock, manager.blockTransferService(), session));
        } catch (ReflectiveOperationException error) {
            throw new IllegalStateException("firesteel shuffle: " + Reason.CLIENT_NOT_SWAPPED.meaning(), error);
        }
        if (!(manager.blockStoreClient() instanceof LadderClient)) {
            throw new IllegalStateException("firesteel shuffle: " + Reason.CLIENT_NOT_SWAPPED.meaning());
        }
    }

    private static void set(BlockManager manager, BlockStoreClient client) throws ReflectiveOperationException {
        Field field = BlockManager.class.getDeclaredField("blockStoreClient");
        field.setAccessible(true);
        field.set(manager, client);
    }
}
