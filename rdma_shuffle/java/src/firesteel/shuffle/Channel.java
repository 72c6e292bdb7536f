package firesteel.shuffle;

import java.io.Closeable;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.file.Path;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.security.SecureRandom;
import java.util.HexFormat;
import java.util.List;

import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

/** A connection on which both sides have proved that they know the application's secret. */
final class Channel implements Closeable {
    private static final SecureRandom RANDOM = new SecureRandom();

    private final Connection connection;
    private Wire.Welcome welcome;
    private boolean answered = true;
    private int number;

    private Channel(Connection connection) {
        this.connection = connection;
    }

    static Channel open(Path socket, Secret secret, String executor, long deadline) throws IOException {
        Channel channel;
        try {
            channel = new Channel(Connection.open(socket));
        } catch (IOException error) {
            throw new ShuffleFailure(Reason.NO_SERVICE, socket + ": " + error.getMessage(), error);
        }
        try {
            channel.handshake(secret, executor, deadline);
            return channel;
        } catch (IOException | RuntimeException error) {
            channel.close();
            throw error;
        }
    }

    private void handshake(Secret secret, String executor, long deadline) throws IOException {
        ByteBuffer challenge = receive(Wire.CHALLENGE, 0, deadline);
        int version = challenge.remaining() < 2 ? -1 : challenge.getShort();
        if (version != Wire.VERSION || challenge.remaining() != Wire.NONCE) {
            throw new ShuffleFailure(
                    Reason.MALFORMED, "the service speaks version " + version + " and this plugin " + Wire.VERSION);
        }
        byte[] theirs = Wire.raw(challenge, Wire.NONCE);
        byte[] key = HexFormat.of().parseHex(secret.hex());
        try {
            hello(secret, executor, key, theirs, deadline);
        } catch (ShuffleFailure error) {
            if (error.reason() != Reason.UNKNOWN_APPLICATION) {
                throw error;
            }
            ask(new Wire.Out(Wire.CLAIM).text(secret.application()).raw(key), Wire.OK, deadline);
            hello(secret, executor, key, theirs, deadline);
        }
    }

    private void hello(Secret secret, String executor, byte[] key, byte[] theirs, long deadline) throws IOException {
        byte[] ours = new byte[Wire.NONCE];
        RANDOM.nextBytes(ours);
        byte[] name = secret.application().getBytes(java.nio.charset.StandardCharsets.UTF_8);
        Wire.Out out = new Wire.Out(Wire.HELLO).text(secret.application()).text(executor);
        out.raw(ours).raw(mac(key, "client", theirs, ours, name));
        welcome = Wire.welcome(ask(out, Wire.WELCOME, deadline));
        if (!MessageDigest.isEqual(welcome.mac(), mac(key, "server", theirs, ours, name))) {
            throw new ShuffleFailure(Reason.REFUSED, "what answers at the socket does not know the application's secret");
        }
    }

    private static byte[] mac(byte[] key, String side, byte[]... parts) {
        try {
            Mac mac = Mac.getInstance("HmacSHA256");
            mac.init(new SecretKeySpec(key, "HmacSHA256"));
            mac.update(side.getBytes(java.nio.charset.StandardCharsets.US_ASCII));
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

    List<String> folders() {
        return welcome.folders();
    }

    List<Wire.Slab> slabs() {
        return welcome.slabs();
    }

    /** Send, and take the one answer. An ERROR answer is thrown; the channel stays usable after it. */
    ByteBuffer ask(Wire.Out request, byte wanted, long deadline) throws IOException {
        answered = false;
        number = number == Integer.MAX_VALUE ? 1 : number + 1;
        connection.write(request.frame(number), deadline);
        ByteBuffer body = receive(wanted, number, deadline);
        answered = true;
        return body;
    }

    /** True: the answer was the one wanted. */
    boolean answers(Wire.Out request, byte wanted, long deadline) throws IOException {
        ask(request, wanted, deadline);
        return true;
    }

    /** Send what has no answer. */
    void tell(Wire.Out message, long deadline) throws IOException {
        connection.write(message.frame(0), deadline);
    }

    private ByteBuffer receive(byte wanted, int asked, long deadline) throws IOException {
        int length = Wire.checkedLength(connection.read(4, deadline).getInt());
        ByteBuffer body = connection.read(length, deadline);
        byte type = body.get();
        int answers = body.getInt();
        if (type == Wire.ERROR) {
            answered = answers == asked;
            throw Wire.error(body);
        }
        if (type != wanted || answers != asked) {
            throw new ShuffleFailure(Reason.MALFORMED, "the service answered with frame " + type + " instead of " + wanted);
        }
        return body;
    }

    /** Whether the last request has had its answer, so that the next one's cannot be taken for it. */
    boolean usable() {
        return answered;
    }

    boolean stale() {
        return connection.stale();
    }

    @Override
    public void close() {
        connection.close();
    }
}
