package firesteel.shuffle.session;

import java.nio.file.Path;
import java.util.concurrent.atomic.AtomicReference;

import org.apache.spark.SparkConf;
import org.apache.spark.SparkEnv;
import org.apache.spark.api.plugin.PluginContext;
import org.apache.spark.storage.BlockManagerId;

import firesteel.shuffle.wire.NodeService;
import firesteel.shuffle.wire.Secret;

/**
 * The application as this JVM knows it. There is one session in a JVM, like SparkEnv: Spark creates our classes by name
 * in three places, and they must find each other.
 *
 * <p>In local mode the driver's and the executor's plugin share it.
 */
public final class Session {
    public enum Side {
        DRIVER,
        EXECUTOR
    }

    private static final String DEFAULT_SOCKET = "/run/firesteel/shuffle.sock";
    private static final AtomicReference<Session> CURRENT = new AtomicReference<>();

    private final SparkConf conf;
    private final PluginContext plugin;
    private final Secret secret;
    private final NodeService service;
    private final String host;

    private Session(SparkConf conf, PluginContext plugin, Secret secret) {
        this.conf = conf;
        this.plugin = plugin;
        this.secret = secret;
        this.host = hostOf(conf);
        this.service = serviceOf(conf, plugin, secret);
    }

    public static synchronized Session open(SparkConf conf, PluginContext plugin, Secret secret) {
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

    public static boolean isOpen() {
        return CURRENT.get() != null;
    }

    public static Session current() {
        Session session = CURRENT.get();
        if (session == null) {
            throw new IllegalStateException("firesteel shuffle: the shuffle manager is set without its plugin."
                    + " hint: set spark.plugins=firesteel.shuffle.ShufflePlugin.");
        }
        return session;
    }

    public static synchronized void close(Side side) {
        Session session = CURRENT.get();
        boolean local = SparkEnv.get() != null && "driver".equals(SparkEnv.get().executorId());
        // In local mode the executor's plugin shuts down first, and the driver still has shuffles to remove.
        if (session != null && (side == Side.DRIVER || !local)) {
            CURRENT.set(null);
            session.service.close();
        }
    }

    public SparkConf conf() {
        return conf;
    }

    public String host() {
        return host;
    }

    /** The host name in map statuses. PluginContext.hostname() throws on executors of 4.3: their RpcEnv has no address. */
    private static String hostOf(SparkConf conf) {
        BlockManagerId id = SparkEnv.get().blockManager().blockManagerId();
        return id == null ? conf.get("spark.driver.host", "localhost") : id.host();
    }

    /** The client of this node's service, by the settings. It opens no connection yet. */
    public static NodeService serviceOf(SparkConf conf, PluginContext plugin, Secret secret) {
        String path = Setting.SOCKET.text(conf);
        if (path.isEmpty()) {
            path = System.getenv().getOrDefault("FIRESTEEL_SHUFFLE_SOCKET", DEFAULT_SOCKET);
        }
        Path socket = Path.of(path.replace("{host}", hostOf(conf)));
        return new NodeService(socket, secret, plugin.executorID(), Setting.CONNECT_TIMEOUT.millis(conf));
    }

    public NodeService service() {
        return service;
    }

    /** Report a host whose outputs cannot be reached to the driver. Returns when the driver has removed them. */
    public void reportHostLost(HostLost lost) throws Exception {
        plugin.ask(lost.text());
    }
}
