package firesteel.shuffle;

import java.util.concurrent.atomic.AtomicReference;

import org.apache.spark.SparkConf;
import org.apache.spark.SparkEnv;
import org.apache.spark.api.plugin.PluginContext;
import org.apache.spark.storage.BlockManagerId;

/**
 * What this JVM knows of its application. One a JVM, like SparkEnv: Spark makes our classes by name, in three places.
 *
 * <p>In local mode the driver's and the executor's plugin share it.
 */
final class Session {
    enum Side {
        DRIVER,
        EXECUTOR
    }

    private static final AtomicReference<Session> CURRENT = new AtomicReference<>();

    private final SparkConf conf;
    private final PluginContext plugin;
    private final Secret secret;
    private final NodeService service;
    private final String host;
    private volatile Nodes nodes;

    private Session(SparkConf conf, PluginContext plugin, Secret secret) {
        this.conf = conf;
        this.plugin = plugin;
        this.secret = secret;
        this.host = hostOf(conf);
        this.service = NodeService.of(conf, host, plugin.executorID(), secret);
    }

    static synchronized Session open(SparkConf conf, PluginContext plugin, Secret secret) {
        Session current = CURRENT.get();
        if (current != null && current.secret.equals(secret)) {
            return current;
        }
        Session session = new Session(conf, plugin, secret);
        CURRENT.set(session);
        if (current != null) {
            current.service.close();
        }
        return session;
    }

    static boolean isOpen() {
        return CURRENT.get() != null;
    }

    static Session current() {
        Session session = CURRENT.get();
        if (session == null) {
            throw new IllegalStateException("firesteel shuffle: spark.plugins=" + ShufflePlugin.class.getName()
                    + " is missing; the shuffle manager does nothing without it.");
        }
        return session;
    }

    static synchronized void close(Side side) {
        Session session = CURRENT.get();
        boolean local = SparkEnv.get() != null && "driver".equals(SparkEnv.get().executorId());
        // In local mode the executor's plugin ends first, and the driver still has shuffles to remove.
        if (session != null && (side == Side.DRIVER || !local)) {
            CURRENT.set(null);
            session.service.close();
        }
    }

    SparkConf conf() {
        return conf;
    }

    /** The driver's; null elsewhere. */
    Nodes nodes() {
        return nodes;
    }

    /** Before it is used by others: the driver's side knows the nodes. */
    void drives(Nodes known) {
        nodes = known;
    }

    String application() {
        return secret.application();
    }

    String host() {
        return host;
    }

    /** As map outputs name it. PluginContext.hostname() throws on executors of 4.3: their RpcEnv has no address. */
    static String hostOf(SparkConf conf) {
        BlockManagerId id = SparkEnv.get().blockManager().blockManagerId();
        return id == null ? conf.get("spark.driver.host", "localhost") : id.host();
    }

    NodeService service() {
        return service;
    }

    /** Tell the driver that a host's outputs are out of reach; returns when it has dropped them. */
    void hostLost(HostLost lost) throws Exception {
        plugin.ask(lost.text());
    }
}
