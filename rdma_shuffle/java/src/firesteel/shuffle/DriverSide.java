package firesteel.shuffle;

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

/** Decides for the application, hands out its secret, and drops the map outputs of dead nodes. */
final class DriverSide implements DriverPlugin {
    private static final Logger LOG = LoggerFactory.getLogger(DriverSide.class);

    @Override
    public Map<String, String> init(SparkContext context, PluginContext plugin) {
        SparkConf conf = context.conf();
        Reason against = Preflight.byConf(conf);
        String detail = "";
        if (against == null && !ClientSwap.works(SparkEnv.get().blockManager())) {
            against = Reason.CLIENT_NOT_SWAPPED;
        }
        byte[] random = new byte[8 + 32];
        new SecureRandom().nextBytes(random);
        // Not spark.app.id: that is not known yet, and two attempts of one YARN application must not share map ids.
        String application = "fs-" + HexFormat.of().formatHex(random, 0, 8);
        Secret secret = new Secret(application, HexFormat.of().formatHex(random, 8, random.length));
        if (against == null && Setting.PREFLIGHT.flag(conf)) {
            try (NodeService service = NodeService.of(conf, Session.hostOf(conf), plugin.executorID(), secret)) {
                detail = service.check();
            } catch (IOException error) {
                against = Reason.NO_SERVICE;
                detail = String.valueOf(error.getMessage());
            }
        }
        if (against != null) {
            return refuse(conf, against, detail);
        }
        conf.set(Preflight.MANAGER_KEY, FiresteelShuffleManager.class.getName());
        conf.set(Preflight.IO_KEY, FiresteelShuffleDataIO.class.getName());
        // Our outputs outlive executors; tracking would keep the executors, and reading a neighbour's local
        // directories would go around us and fail for executors that are gone.
        conf.setIfMissing("spark.dynamicAllocation.shuffleTracking.enabled", "false");
        conf.set("spark.shuffle.readHostLocalDisk", "false");
        conf.setIfMissing("spark.storage.decommission.shuffleBlocks.enabled", "false");
        conf.setIfMissing(WrittenChecksums.ALGORITHM_KEY, WrittenChecksums.ALGORITHM);
        Session session = Session.open(conf, plugin, secret);
        Nodes nodes = new Nodes(session);
        session.drives(nodes);
        context.addSparkListener(nodes);
        LOG.info("firesteel shuffle: application {} by {}", application, detail.isEmpty() ? "the nodes' services" : detail);
        return secret.toMap();
    }

    private static Map<String, String> refuse(SparkConf conf, Reason reason, String detail) {
        if (reason != Reason.SWITCHED_OFF && !Setting.FALLBACK.text(conf).equals("sort")) {
            throw new IllegalStateException("firesteel shuffle: " + reason.meaning() + ". " + detail
                    + " hint: set " + Setting.FALLBACK.key() + "=sort to run without the service instead.");
        }
        if (conf.get(Preflight.MANAGER_KEY, "").equals(FiresteelShuffleManager.class.getName())) {
            conf.set(Preflight.MANAGER_KEY, "sort");
        }
        if (conf.get(Preflight.IO_KEY, "").equals(FiresteelShuffleDataIO.class.getName())) {
            conf.set(Preflight.IO_KEY, Preflight.STOCK_IO);
        }
        reason.happened("application", detail);
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
     * A reducer reached neither the service of a host nor the executor: drop all map outputs of that host.
     *
     * <p>With reliable storage Spark drops one executor's outputs for each FetchFailed, and a stage has four tries: a
     * node with more executors than that would fail the job.
     */
    @Override
    public Object receive(Object message) {
        HostLost lost = HostLost.parse(String.valueOf(message));
        MapOutputTrackerMaster tracker = (MapOutputTrackerMaster) SparkEnv.get().mapOutputTracker();
        Option<BlockManagerId> location = tracker.getMapOutputLocation(lost.shuffle(), lost.map());
        // A late report, about an output that is gone or was made anew elsewhere, must not drop fresh outputs.
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
        // Not in ShuffleDriverComponents.cleanupApplication: Spark calls that after it has ended the plugins.
        if (Session.isOpen()) {
            Session.current().nodes().end();
        }
        Session.close(Session.Side.DRIVER);
    }
}
