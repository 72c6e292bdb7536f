package firesteel.shuffle.wire;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.List;

import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** A connection to the service on which both sides have proved that they know the application's secret. */
public final class ServiceConnection implements Closeable {
    private static final SecureRandom RANDOM = new SecureRandom();

    private final UnixSocket socket;
    private Wire.Welcome welcome;
    private boolean answered = true;
    private int number;

    private ServiceConnection(UnixSocket socket) {
        this.socket = socket;
    }

    static ServiceConnection open(Path path, Secret secret, String executor, long deadline) throws IOException {
        ServiceConnection connection;
        try {
            connection = new ServiceConnection(UnixSocket.open(path));
        } catch (IOException error) {
            throw new ShuffleFailure(Reason.NO_SERVICE, path + ": " + error.getMessage(), error);
        }
        try {
            connection.authenticate(secret, executor, deadline);
            return connection;
        } catch (IOException | RuntimeException error) {
            connection.close();
            throw error;
        }
    }

    private void authenticate(Secret secret, String executor, long deadline) throws IOException {
        ByteBuffer challenge = receive(Wire.CHALLENGE, 0, deadline);
        int version = challenge.remaining() < 2 ? -1 : challenge.getShort();
        if (version != Wire.VERSION || challenge.remaining() != Wire.NONCE) {
            throw new ShuffleFailure(
                    Reason.MALFORMED,
                    "the service speaks protocol version " + version + ", this plugin version " + Wire.VERSION);
        }
        byte[] serviceNonce = Wire.raw(challenge, Wire.NONCE);
        byte[] key = HexFormat.of().parseHex(secret.hex());
        try {
            hello(secret, executor, key, serviceNonce, deadline);
        } catch (ShuffleFailure error) {
            if (error.reason() != Reason.UNKNOWN_APPLICATION) {
                throw error;
            }
            ask(new Wire.Out(Wire.CLAIM).text(secret.application()).raw(key), Wire.OK, deadline);
            hello(secret, executor, key, serviceNonce, deadline);
        }
    }

    private void hello(Secret secret, String executor, byte[] key, byte[] serviceNonce, long deadline)
            throws IOException {
        byte[] nonce = new byte[Wire.NONCE];
        RANDOM.nextBytes(nonce);
        byte[] name = secret.application().getBytes(StandardCharsets.UTF_8);
        Wire.Out request = new Wire.Out(Wire.HELLO).text(secret.application()).text(executor);
        request.raw(nonce).raw(mac(key, "client", serviceNonce, nonce, name));
        welcome = Wire.welcome(ask(request, Wire.WELCOME, deadline));
        if (!MessageDigest.isEqual(welcome.mac(), mac(key, "server", serviceNonce, nonce, name))) {
            throw new ShuffleFailure(
                    Reason.REFUSED, "the process that answers at the socket does not know the application's secret");
        }
    }

    private static byte[] mac(byte[] key, String side, byte[]... parts) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            mac.update(side.getBytes(StandardCharsets.US_ASCII));
            for (byte[] part : parts) {
                mac.update(part);
            }
            return mac.doFinal();
        } catch (GeneralSecurityException impossible) {
            throw new IllegalStateException(impossible); // every JVM has HmacSHA256
        }
    }

    String node() {
        return welcome.node();
    }

    int leaseSeconds() {
        return welcome.leaseSeconds();
    }

    /** The folders into which map outputs are handed over, one for each file system. */
    public List<String> folders() {
        return welcome.folders();
    }

    public List<Wire.Slab> slabs() {
        return welcome.slabs();
    }

    /** Send a request and return its answer. Throws an ERROR answer; the connection stays usable after it. */
    public ByteBuffer ask(Wire.Out request, byte expected, long deadline) throws IOException {
        answered = false;
        number = number == Integer.MAX_VALUE ? 1 : number + 1;
        socket.write(request.frame(number), deadline);
        ByteBuffer body = receive(expected, number, deadline);
        answered = true;
        return body;
    }

    /** Send a message that has no answer. */
    void tell(Wire.Out message, long deadline) throws IOException {
        answered = false; // a frame that is cut off must not be followed by another
        socket.write(message.frame(0), deadline);
        answered = true;
    }

    private ByteBuffer receive(byte expected, int request, long deadline) throws IOException {
        int length = Wire.checkedLength(socket.read(4, deadline).getInt());
        ByteBuffer body = socket.read(length, deadline);
        byte type = body.get();
        int answers = body.getInt();
        if (type == Wire.ERROR) {
            answered = answers == request;
            throw Wire.error(body);
        }
        if (type != expected || answers != request) {
            throw new ShuffleFailure(
                    Reason.MALFORMED, "the service answered with frame " + type + " instead of " + expected);
        }
        return body;
    }

    /** Whether the last message was sent whole and answered. A late answer cannot be taken for the answer of the next request. */
    boolean usable() {
        return answered;
    }

    boolean stale() {
        return socket.stale();
    }

    @Override
    public void close() {
        socket.close();
    }
}
