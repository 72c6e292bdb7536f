package firesteel.shuffle;

import java.io.IOException;
import java.io.UncheckedIOException;
import java.util.Map;

import org.apache.spark.api.plugin.ExecutorPlugin;
import org.apache.spark.api.plugin.PluginContext;

import firesteel.shuffle.session.Session;
import firesteel.shuffle.session.ShuffleMetrics;
import firesteel.shuffle.wire.Reason;
import firesteel.shuffle.wire.Secret;

/** Connects an executor to its node's service. Without a service the executor fails: its tasks could not commit. */
final class ShuffleExecutorPlugin implements ExecutorPlugin {
    @Override
    public void init(PluginContext plugin, Map<String, String> extra) {
        Secret secret = Secret.of(extra);
        if (secret == null) {
            return;
        }
        Session session = Session.open(plugin.conf(), plugin, secret);
        try {
            session.service().check();
        } catch (IOException error) {
            throw new UncheckedIOException(
                    "firesteel shuffle: " + Reason.NO_SERVICE.meaning() + ": " + error.getMessage(), error);
        }
        ShuffleMetrics.register(plugin.metricRegistry());
    }

    @Override
    public void shutdown() {
        Session.close(Session.Side.EXECUTOR);
    }
}
