package firesteel.shuffle.read;

import java.io.IOException;
import java.io.InputStream;
import java.util.ArrayList;
import java.util.List;
import java.util.Map;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ExecutorService;
import java.util.concurrent.LinkedBlockingQueue;
import java.util.concurrent.RejectedExecutionException;
import java.util.concurrent.ThreadPoolExecutor;
import java.util.concurrent.TimeUnit;
import java.util.concurrent.atomic.AtomicInteger;

import com.codahale.metrics.MetricSet;

import org.apache.spark.SparkConf;
import org.apache.spark.network.BlockTransferService;
import org.apache.spark.network.buffer.ManagedBuffer;
import org.apache.spark.network.netty.SparkTransportConf;
import org.apache.spark.network.shuffle.BlockFetchingListener;
import org.apache.spark.network.shuffle.BlockPushingListener;
import org.apache.spark.network.shuffle.BlockStoreClient;
import org.apache.spark.network.shuffle.DownloadFileManager;
import org.apache.spark.network.shuffle.MergeFinalizerListener;
import org.apache.spark.network.shuffle.MergedBlocksMetaListener;
import org.apache.spark.network.shuffle.checksum.Cause;
import org.apache.spark.network.util.TransportConf;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import scala.Option;

import firesteel.shuffle.session.HostLost;
import firesteel.shuffle.session.Session;
import firesteel.shuffle.session.Setting;
import firesteel.shuffle.session.ShuffleMetrics;
import firesteel.shuffle.wire.BlockChecksums;
import firesteel.shuffle.wire.BlockName;
import firesteel.shuffle.wire.Reason;
import firesteel.shuffle.wire.ShuffleFailure;
import firesteel.shuffle.wire.Wire;

/**
 * Fetches shuffle blocks in three steps: from the node's service, with retries; from the live executor by Netty; failure.
 *
 * <p>Spark's iterator turns the first failure it hears of into FetchFailed. So this client makes all retries before it
 * reports one.
 */
final class FallbackBlockClient extends BlockStoreClient {
    private static final Logger LOG = LoggerFactory.getLogger(FallbackBlockClient.class);

    private final BlockStoreClient stock;
    private final BlockTransferService netty;
    private final Session session;
    private final BlockReader reader;
    private final ExecutorService threads;
    private final TransportConf diskConf;
    private final CircuitBreaker breaker;
    private final boolean mayUseNetty;
    private final int maxRetries;
    private final long retryWaitMillis;

    /** Create a client that falls back to {@code stock}. Without a session it only serves the self-check of ClientSwap. */
    FallbackBlockClient(BlockStoreClient stock, BlockTransferService netty, Session session) {
        this.stock = stock;
        this.netty = netty;
        this.session = session;
        SparkConf conf = session == null ? new SparkConf(false) : session.conf();
        int count = Math.max(1, Setting.FETCH_THREADS.count(conf));
        AtomicInteger number = new AtomicInteger();
        ThreadPoolExecutor pool =
                new ThreadPoolExecutor(count, count, 30, TimeUnit.SECONDS, new LinkedBlockingQueue<>(), task -> {
                    Thread thread = new Thread(task, "firesteel-fetch-" + number.incrementAndGet());
                    thread.setDaemon(true);
                    return thread;
                });
        pool.allowCoreThreadTimeOut(true);
        this.threads = pool;
        this.reader = session == null ? null : new BlockReader(session.service(), Setting.FETCH_TIMEOUT.millis(conf));
        this.diskConf = SparkTransportConf.fromSparkConf(conf, "shuffle", 0, Option.empty(), Option.empty());
        this.breaker = new CircuitBreaker(
                Setting.BREAKER_FAILURES.count(conf),
                Setting.BREAKER_RESET.millis(conf),
                () -> TimeUnit.NANOSECONDS.toMillis(System.nanoTime()));
        this.mayUseNetty = Setting.NETTY_FALLBACK.flag(conf);
        this.maxRetries = Setting.MAX_RETRIES.count(conf);
        this.retryWaitMillis = Setting.RETRY_WAIT.millis(conf);
    }

    boolean serves(Session other) {
        return session == other;
    }

    BlockStoreClient stock() {
        return stock;
    }

    @Override
    public void fetchBlocks(
            String host,
            int port,
            String execId,
            String[] blockIds,
            BlockFetchingListener listener,
            DownloadFileManager files) {
        List<BlockName> blocks = new ArrayList<>(blockIds.length);
        for (String id : blockIds) {
            BlockName block = BlockName.parse(id);
            if (block == null) {
                Reason.FOREIGN_BLOCK.record("push-merge", "first: " + id);
                stock.fetchBlocks(host, port, execId, blockIds, listener, files);
                return;
            }
            blocks.add(block);
        }
        Request request = new Request(host, port, execId, listener, files);
        try {
            threads.execute(() -> request.run(blocks));
        } catch (RejectedExecutionException error) {
            blocks.forEach(block -> listener.onBlockFetchFailure(block.text(), error));
        }
    }

    /** One call of fetchBlocks. */
    private final class Request {
        private final String host;
        private final int port;
        private final String execId;
        private final BlockFetchingListener listener;
        private final DownloadFileManager files;
        /** What the service said of blocks that it did not deliver. Netty's threads read it. */
        private final Map<BlockName, Wire.Found> known = new ConcurrentHashMap<>();

        private Request(
                String host, int port, String execId, BlockFetchingListener listener, DownloadFileManager files) {
            this.host = host;
            this.port = port;
            this.execId = execId;
            this.listener = listener;
            this.files = files;
        }

        private void run(List<BlockName> blocks) {
            List<BlockName> left = new ArrayList<>(blocks);
            ShuffleFailure failure;
            try {
                failure = byService(left);
            } catch (InterruptedException error) {
                Thread.currentThread().interrupt();
                failure = new ShuffleFailure(Reason.SERVICE_LOST, "the executor is stopping", error);
            } catch (RuntimeException | Error error) {
                // Without this the listener would never hear of the block, and its reducer would hang.
                LOG.error("fetching from the service failed", error);
                left.forEach(block -> listener.onBlockFetchFailure(block.text(), error));
                if (error instanceof Error fatal) {
                    throw fatal;
                }
                return;
            }
            if (left.isEmpty()) {
                return;
            }
            failure.reason().record(host, left.size() + " blocks of executor " + execId + ". " + failure.getMessage());
            ShuffleMetrics.FALLBACK_BLOCKS.inc(left.size());
            List<BlockName> refused = new ArrayList<>(left);
            refused.removeIf(this::mayUseNetty);
            left.removeAll(refused);
            if (!left.isEmpty()) {
                byNetty(left, failure);
            }
            if (!refused.isEmpty()) {
                fail(refused, failure, failure);
            }
        }

        /**
         * An executor checks each block before it sends the block by Netty (VerifyingResolver). Spark's external shuffle
         * service does not, so its bytes need a checksum that we know.
         */
        private boolean mayUseNetty(BlockName block) {
            return mayUseNetty && (stock == netty || known.containsKey(block));
        }

        /** Deliver blocks from the service and remove them from {@code left}. Returns why the rest is left. */
        private ShuffleFailure byService(List<BlockName> left) throws InterruptedException {
            ShuffleFailure failure = null;
            for (int attempt = 0; attempt <= maxRetries && !left.isEmpty(); attempt++) {
                if (attempt > 0) {
                    ShuffleMetrics.RETRIES.inc();
                    Thread.sleep(retryWaitMillis << Math.min(attempt - 1, 10));
                }
                if (!breaker.allows(host)) {
                    return failure == null
                            ? new ShuffleFailure(Reason.BREAKER_OPEN, "the service of " + host + " failed before")
                            : failure;
                }
                failure = null;
                try {
                    long start = System.nanoTime();
                    List<BlockReader.Outcome> outcomes = reader.fetch(host, List.copyOf(left));
                    ShuffleMetrics.FETCH_NANOS.update(System.nanoTime() - start, TimeUnit.NANOSECONDS);
                    failure = deliver(outcomes, left);
                } catch (ShuffleFailure error) {
                    failure = error;
                } catch (IOException error) {
                    failure = new ShuffleFailure(Reason.SERVICE_LOST, String.valueOf(error.getMessage()), error);
                }
                if (failure == null) {
                    breaker.succeeded(host);
                } else if (failure.reason().concernsPeer()) {
                    breaker.failed(host);
                }
                if (failure != null && !failure.reason().isTransient()) {
                    return failure;
                }
            }
            return failure;
        }

        private ShuffleFailure deliver(List<BlockReader.Outcome> outcomes, List<BlockName> left) {
            ShuffleFailure failure = null;
            for (BlockReader.Outcome outcome : outcomes) {
                if (outcome.failure() != null) {
                    if (outcome.found() != null) {
                        known.put(outcome.block(), outcome.found());
                    }
                    // A permanent reason ends the retries. A transient one must not hide it.
                    if (failure == null || failure.reason().isTransient()) {
                        failure = outcome.failure();
                    }
                    continue;
                }
                ManagedBuffer buffer = outcome.buffer();
                try {
                    long size = buffer.size();
                    ManagedBuffer delivered = files == null ? buffer : DiskCopy.of(buffer, files, diskConf);
                    left.remove(outcome.block());
                    listener.onBlockFetchSuccess(outcome.block().text(), delivered);
                    ShuffleMetrics.SERVICE_BLOCKS.inc();
                    ShuffleMetrics.SERVICE_BYTES.inc(size);
                } catch (IOException error) {
                    failure = new ShuffleFailure(Reason.CORRUPT, "copy to disk: " + error.getMessage(), error);
                } finally {
                    // The iterator has retained the buffer if its task still runs. Otherwise this frees it.
                    buffer.release();
                }
            }
            return failure;
        }

        private void byNetty(List<BlockName> blocks, ShuffleFailure cause) {
            String[] ids = blocks.stream().map(BlockName::text).toArray(String[]::new);
            BlockFetchingListener relay = new BlockFetchingListener() {
                @Override
                public void onBlockFetchSuccess(String id, ManagedBuffer buffer) {
                    try {
                        verify(BlockName.parse(id), buffer);
                    } catch (IOException error) {
                        onBlockFetchFailure(id, error);
                        return;
                    }
                    ShuffleMetrics.NETTY_BLOCKS.inc();
                    listener.onBlockFetchSuccess(id, buffer);
                }

                @Override
                public void onBlockFetchFailure(String id, Throwable error) {
                    // fail() waits for the driver, which Netty's threads must not do.
                    try {
                        threads.execute(() -> fail(List.of(BlockName.parse(id)), cause, error));
                    } catch (RejectedExecutionException stopped) {
                        listener.onBlockFetchFailure(id, error);
                    }
                }
            };
            try {
                stock.fetchBlocks(host, port, execId, ids, relay, files);
            } catch (RuntimeException error) {
                fail(blocks, cause, error);
            }
        }

        /** Check a block of Netty if its checksums are known. The file of the executor can be that of the service. */
        private void verify(BlockName block, ManagedBuffer buffer) throws IOException {
            Wire.Found found = known.get(block);
            if (found == null) {
                return;
            }
            if (files == null) {
                BlockChecksums.verify(block, BlockChecksums.in(buffer.nioByteBuffer()), found.lengths(), found.crcs());
                return;
            }
            try (InputStream stream = buffer.createInputStream()) { // a file, which may not fit the memory
                BlockChecksums.verify(block, BlockChecksums.in(stream), found.lengths(), found.crcs());
            }
        }

        private void fail(List<BlockName> blocks, ShuffleFailure cause, Throwable last) {
            ShuffleMetrics.FAILED_BLOCKS.inc(blocks.size());
            if (last != cause) {
                last.addSuppressed(cause);
            }
            boolean ownService = cause.reason() == Reason.SERVICE_LOST || cause.reason() == Reason.NO_SERVICE;
            boolean hostLost = cause.reason() == Reason.PEER_UNREACHABLE
                    || cause.reason() == Reason.BREAKER_OPEN
                    || ownService && host.equals(session.host());
            if (hostLost) {
                BlockName first = blocks.get(0);
                try {
                    session.reportHostLost(new HostLost(first.shuffle(), first.map(), host));
                } catch (Exception error) {
                    // The driver then learns of it from FetchFailed, one executor at a time.
                    LOG.warn("the loss of {} could not be reported to the driver", host, error);
                }
            }
            blocks.forEach(block -> listener.onBlockFetchFailure(block.text(), last));
        }
    }

    /** BlockManager.stop calls this, because this is not its transfer service, which it closes itself. */
    @Override
    public void close() throws IOException {
        threads.shutdownNow();
        if (stock != netty) {
            stock.close();
        }
    }

    @Override
    public Cause diagnoseCorruption(
            String host,
            int port,
            String execId,
            int shuffleId,
            long mapId,
            int reduceId,
            long checksum,
            String algorithm) {
        return stock.diagnoseCorruption(host, port, execId, shuffleId, mapId, reduceId, checksum, algorithm);
    }

    @Override
    public MetricSet shuffleMetrics() {
        return stock.shuffleMetrics();
    }

    @Override
    public void setAppAttemptId(String attempt) {
        stock.setAppAttemptId(attempt);
    }

    @Override
    public String getAppAttemptId() {
        return stock.getAppAttemptId();
    }

    @Override
    public void getHostLocalDirs(
            String host,
            int port,
            String[] execIds,
            java.util.concurrent.CompletableFuture<java.util.Map<String, String[]>> dirs) {
        stock.getHostLocalDirs(host, port, execIds, dirs);
    }

    @Override
    public void pushBlocks(
            String host, int port, String[] blockIds, ManagedBuffer[] buffers, BlockPushingListener listener) {
        stock.pushBlocks(host, port, blockIds, buffers, listener);
    }

    @Override
    public void finalizeShuffleMerge(
            String host, int port, int shuffleId, int mergeId, MergeFinalizerListener listener) {
        stock.finalizeShuffleMerge(host, port, shuffleId, mergeId, listener);
    }

    @Override
    public void getMergedBlockMeta(
            String host, int port, int shuffleId, int mergeId, int reduceId, MergedBlocksMetaListener listener) {
        stock.getMergedBlockMeta(host, port, shuffleId, mergeId, reduceId, listener);
    }

    @Override
    public boolean removeShuffleMerge(String host, int port, int shuffleId, int mergeId) {
        return stock.removeShuffleMerge(host, port, shuffleId, mergeId);
    }
}
