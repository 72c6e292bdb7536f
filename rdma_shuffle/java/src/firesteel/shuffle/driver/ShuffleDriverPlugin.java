package firesteel.shuffle.driver;

import java.io.IOException;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.Map;

import org.apache.spark.MapOutputTrackerMaster;
import org.apache.spark.SparkConf;
import org.apache.spark.SparkContext;
import org.apache.spark.SparkEnv;
import org.apache.spark.api.plugin.DriverPlugin;
import org.apache.spark.api.plugin.PluginContext;
import org.apache.spark.storage.BlockManagerId;
import org.slf4j.Logger;
import org.slf4j.LoggerFactory;

import scala.Option;

import firesteel.shuffle.read.ClientSwap;
import firesteel.shuffle.session.HostLost;
import firesteel.shuffle.session.Session;
import firesteel.shuffle.session.Setting;
import firesteel.shuffle.session.ShuffleMetrics;
import firesteel.shuffle.wire.NodeService;
import firesteel.shuffle.wire.Reason;
import firesteel.shuffle.wire.Secret;
import firesteel.shuffle.write.WrittenChecksums;

/** Decides whether the application uses the service, creates its secret, and drops the map outputs of dead nodes. */
public final class ShuffleDriverPlugin implements DriverPlugin {
    private static final Logger LOG = LoggerFactory.getLogger(ShuffleDriverPlugin.class);

    @Override
    public Map<String, String> init(SparkContext context, PluginContext plugin) {
        SparkConf conf = context.conf();
        Reason refusal = Preflight.byConf(conf);
        String detail = "";
        if (refusal == null && !ClientSwap.works(SparkEnv.get().blockManager())) {
            refusal = Reason.CLIENT_NOT_SWAPPED;
        }
        byte[] random = new byte[8 + 32];
        new SecureRandom().nextBytes(random);
        // Not spark.app.id: it is not set yet, and two attempts of one YARN application must not share map ids.
        String application = "fs-" + HexFormat.of().formatHex(random, 0, 8);
        Secret secret = new Secret(application, HexFormat.of().formatHex(random, 8, random.length));
        if (refusal == null && Setting.PREFLIGHT.flag(conf)) {
            try (NodeService service = Session.serviceOf(conf, plugin, secret)) {
                detail = service.check();
            } catch (IOException error) {
                refusal = Reason.NO_SERVICE;
                detail = String.valueOf(error.getMessage());
            }
        }
        if (refusal != null) {
            return fallBack(conf, refusal, detail);
        }
        conf.set(Preflight.MANAGER_KEY, Preflight.MANAGER);
        conf.set(Preflight.IO_KEY, Preflight.IO);
        // Outputs outlive executors. Shuffle tracking would keep executors alive for them. Reading the local
        // directories of another executor would bypass the service and fail if that executor is gone.
        conf.setIfMissing("spark.dynamicAllocation.shuffleTracking.enabled", "false");
        conf.set("spark.shuffle.readHostLocalDisk", "false");
        // A migrated output would have no checksums, and the service of its new node does not have it.
        conf.set("spark.storage.decommission.shuffleBlocks.enabled", "false");
        conf.setIfMissing(WrittenChecksums.ALGORITHM_KEY, WrittenChecksums.ALGORITHM);
        Session session = Session.open(conf, plugin, secret);
        context.addSparkListener(NodeTracker.start(session));
        LOG.info("firesteel shuffle: application {} uses {}", application, detail.isEmpty() ? "the services of its nodes" : detail);
        return secret.toMap();
    }

    private static Map<String, String> fallBack(SparkConf conf, Reason reason, String detail) {
        if (reason != Reason.SWITCHED_OFF && !Setting.FALLBACK.text(conf).equals("sort")) {
            throw new IllegalStateException("firesteel shuffle: " + reason.meaning() + ". " + detail
                    + " hint: set " + Setting.FALLBACK.key() + "=sort to run on Spark's sort shuffle instead.");
        }
        if (conf.get(Preflight.MANAGER_KEY, "").equals(Preflight.MANAGER)) {
            conf.set(Preflight.MANAGER_KEY, "sort");
        }
        if (conf.get(Preflight.IO_KEY, "").equals(Preflight.IO)) {
            conf.set(Preflight.IO_KEY, Preflight.STOCK_IO);
        }
        reason.record("application", detail);
        conf.set(Secret.REASON_KEY, reason.name());
        conf.set(Secret.REASON_TEXT_KEY, detail.isEmpty() ? reason.meaning() : reason.meaning() + ": " + detail);
        return Map.of();
    }

    @Override
    public void registerMetrics(String applicationId, PluginContext plugin) {
        if (Session.isOpen()) {
            ShuffleMetrics.register(plugin.metricRegistry());
        }
    }

    /**
     * Drop all map outputs of a host: a reducer reached neither its service nor the executor.
     *
     * <p>With reliable storage Spark drops the outputs of one executor for each FetchFailed, and a stage has four
     * attempts. A lost node with more executors than that would fail the job.
     */
    @Override
    public Object receive(Object message) {
        HostLost lost = HostLost.parse(String.valueOf(message));
        MapOutputTrackerMaster tracker = (MapOutputTrackerMaster) SparkEnv.get().mapOutputTracker();
        Option<BlockManagerId> location = tracker.getMapOutputLocation(lost.shuffle(), lost.map());
        // A late report about an output that was removed or recomputed elsewhere must not drop new outputs.
        if (location.isEmpty() || !location.get().host().equals(lost.host())) {
            return Boolean.FALSE;
        }
        LOG.warn("firesteel shuffle: the map outputs of host {} are lost and will be computed again", lost.host());
        tracker.removeOutputsOnHost(lost.host());
        ShuffleMetrics.HOSTS_LOST.increment();
        return Boolean.TRUE;
    }

    @Override
    public void shutdown() {
        // Not in ShuffleDriverComponents.cleanupApplication: Spark calls that after it has shut down the plugins.
        NodeTracker.end();
        Session.close(Session.Side.DRIVER);
    }
}
