package firesteel.shuffle;

import java.io.IOException;
import java.util.ArrayList;
import java.util.List;
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

/**
 * Fetches shuffle blocks down a ladder: the node's service, with retries; Netty to the live executor; failure.
 *
 * <p>A failure told to Spark's iterator becomes FetchFailed at once, with the map id, map index and address that the
 * iterator knows, so everything that may pass is tried in here first.
 */
final class LadderClient extends BlockStoreClient {
    private static final Logger LOG = LoggerFactory.getLogger(LadderClient.class);

    private final BlockStoreClient stock;
    private final BlockTransferService netty;
    private final Session session;
    private final ExecutorService threads;
    private final TransportConf diskConf;
    private final CircuitBreaker breaker;
    private final boolean mayUseNetty;
    private final int maxRetries;
    private final long retryWaitMillis;

    /** A client over the stock one. Without a session it only stands in for the self-check of ClientSwap. */
    LadderClient(BlockStoreClient stock, BlockTransferService netty, Session session) {
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
                Reason.FOREIGN_BLOCK.happened("push-merge", "first: " + id);
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

    /** One call of fetchBlocks on its way down the ladder. */
    private final class Request {
        private final String host;
        private final int port;
        private final String execId;
        private final BlockFetchingListener listener;
        private final DownloadFileManager files;

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
                failure = new ShuffleFailure(Reason.SERVICE_LOST, "the executor stops", error);
            } catch (RuntimeException | Error error) {
                // A listener that never hears of a block hangs its reducer.
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
            failure.reason().happened(host, left.size() + " blocks of executor " + execId + ". " + failure.getMessage());
            ShuffleMetrics.FALLBACK_BLOCKS.inc(left.size());
            if (mayUseNetty) {
                byNetty(left, failure);
            } else {
                fail(left, failure, failure);
            }
        }

        /** Take from {@code left} what the service gives; the failure is why the rest is left. */
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
                    List<NodeService.Outcome> outcomes = session.service().fetch(host, List.copyOf(left));
                    ShuffleMetrics.FETCH_NANOS.update(System.nanoTime() - start, TimeUnit.NANOSECONDS);
                    failure = deliver(outcomes, left);
                } catch (ShuffleFailure error) {
                    failure = error;
                } catch (IOException error) {
                    failure = new ShuffleFailure(Reason.SERVICE_LOST, String.valueOf(error.getMessage()), error);
                }
                if (failure == null) {
                    breaker.succeeded(host);
                } else if (failure.reason().blamesPeer()) {
                    breaker.failed(host);
                }
                if (failure != null && !failure.reason().passes()) {
                    return failure;
                }
            }
            return failure;
        }

        private ShuffleFailure deliver(List<NodeService.Outcome> outcomes, List<BlockName> left) {
            ShuffleFailure failure = null;
            for (NodeService.Outcome outcome : outcomes) {
                if (outcome.failure() != null) {
                    // A reason that stays ends the retries; one that passes must not hide it.
                    if (failure == null || failure.reason().passes()) {
                        failure = outcome.failure();
                    }
                    continue;
                }
                ManagedBuffer buffer = outcome.buffer();
                try {
                    long size = buffer.size();
                    ManagedBuffer told = files == null ? buffer : DiskCopy.of(buffer, files, diskConf);
                    left.remove(outcome.block());
                    listener.onBlockFetchSuccess(outcome.block().text(), told);
                    ShuffleMetrics.SERVICE_BLOCKS.inc();
                    ShuffleMetrics.SERVICE_BYTES.inc(size);
                } catch (IOException error) {
                    failure = new ShuffleFailure(Reason.CORRUPT, "to disk: " + error.getMessage(), error);
                } finally {
                    // The iterator has retained it if its task still lives; a zombie's buffer ends here.
                    buffer.release();
                }
            }
            return failure;
        }

        private void byNetty(List<BlockName> blocks, ShuffleFailure why) {
            String[] ids = blocks.stream().map(BlockName::text).toArray(String[]::new);
            BlockFetchingListener relay = new BlockFetchingListener() {
                @Override
                public void onBlockFetchSuccess(String id, ManagedBuffer buffer) {
                    ShuffleMetrics.NETTY_BLOCKS.inc();
                    listener.onBlockFetchSuccess(id, buffer);
                }

                @Override
                public void onBlockFetchFailure(String id, Throwable error) {
                    // Netty's threads must not wait for the driver.
                    try {
                        threads.execute(() -> fail(List.of(BlockName.parse(id)), why, error));
                    } catch (RejectedExecutionException stopping) {
                        listener.onBlockFetchFailure(id, error);
                    }
                }
            };
            try {
                stock.fetchBlocks(host, port, execId, ids, relay, files);
            } catch (RuntimeException error) {
                fail(blocks, why, error);
            }
        }

        private void fail(List<BlockName> blocks, ShuffleFailure why, Throwable last) {
            ShuffleMetrics.FAILED_BLOCKS.inc(blocks.size());
            if (last != why) {
                last.addSuppressed(why);
            }
            boolean ownService = why.reason() == Reason.SERVICE_LOST || why.reason() == Reason.NO_SERVICE;
            boolean hostLost = why.reason() == Reason.PEER_UNREACHABLE
                    || why.reason() == Reason.BREAKER_OPEN
                    || ownService && host.equals(session.host());
            if (hostLost) {
                BlockName first = blocks.get(0);
                try {
                    session.hostLost(new HostLost(first.shuffle(), first.map(), host));
                } catch (Exception error) {
                    // The driver then learns of it by FetchFailed, one executor at a time.
                    LOG.warn("the driver was not told that {} is lost", host, error);
                }
            }
            blocks.forEach(block -> listener.onBlockFetchFailure(block.text(), last));
        }
    }

    /** BlockManager.stop calls this because we are not its transfer service; that one it closes itself. */
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
