package firesteel.shuffle.wire;

import java.io.ByteArrayOutputStream;
import java.io.DataOutputStream;
import java.io.IOException;
import java.nio.BufferUnderflowException;
import java.nio.ByteBuffer;
import java.nio.charset.StandardCharsets;
import java.util.ArrayList;
import java.util.List;

/** The frames between plugin and service, as PROTOCOL.md defines them. No other class knows their bytes. */
public final class Wire {
    static final int VERSION = 1;
    static final int MAX_FRAME = 16 << 20;
    /** Bytes of the type and the request number, which the frame's length includes. */
    static final int HEAD = 5;
    static final int NONCE = 32;
    static final int MAX_BLOCKS = 32_768;
    static final int MAX_REDUCES = 524_288;

    static final byte CHALLENGE = 1;
    static final byte CLAIM = 2;
    static final byte HELLO = 3;
    static final byte WELCOME = 4;
    static final byte REGISTER = 5;
    static final byte FETCH = 6;
    public static final byte BLOCKS = 7;
    static final byte RELEASE = 8;
    static final byte REMOVE = 9;
    static final byte END = 10;
    static final byte PING = 11;
    public static final byte OK = 12;
    static final byte ERROR = 13;
    static final byte NOTIFIED = 16;

    static final int UNKNOWN_APPLICATION = 6;

    /** The location of bytes of a block: in a file if {@code path} is set, else in a slab. */
    public record Extent(String path, int slab, long offset, long length) {}

    /** The answer for one block. If {@code reason} is set, only {@code detail} is set with it. */
    public record Found(long[] lengths, int[] crcs, List<Extent> extents, Reason reason, String detail) {}

    public record Blocks(long lease, List<Found> results) {}

    public record Slab(int id, String path, long size) {}

    record Welcome(byte[] mac, String node, int leaseSeconds, List<String> folders, List<Slab> slabs) {}

    private Wire() {}

    /** A request under construction. */
    public static final class Out {
        private final byte type;
        private final ByteArrayOutputStream bytes = new ByteArrayOutputStream();
        private final DataOutputStream out = new DataOutputStream(bytes);

        Out(byte type) {
            this.type = type;
        }

        private interface Put {
            void into(DataOutputStream out) throws IOException;
        }

        private Out put(Put put) {
            try {
                put.into(out);
            } catch (IOException impossible) {
                throw new java.io.UncheckedIOException(impossible); // the stream is in memory
            }
            return this;
        }

        Out u16(int value) {
            return put(out -> out.writeShort(value));
        }

        Out u32(int value) {
            return put(out -> out.writeInt(value));
        }

        Out u64(long value) {
            return put(out -> out.writeLong(value));
        }

        Out raw(byte[] value) {
            return put(out -> out.write(value));
        }

        Out text(String value) {
            byte[] utf8 = value.getBytes(StandardCharsets.UTF_8);
            if (utf8.length > 0xffff) {
                throw new IllegalArgumentException("a string of " + utf8.length + " bytes does not fit a frame");
            }
            return put(out -> out.writeShort(utf8.length)).raw(utf8);
        }

        ByteBuffer frame(int request) throws IOException {
            int length = HEAD + bytes.size();
            if (length > MAX_FRAME) {
                throw new ShuffleFailure(Reason.MALFORMED, "a request of " + length + " bytes is over the limit");
            }
            ByteBuffer frame = ByteBuffer.allocate(4 + length);
            return frame.putInt(length).put(type).putInt(request).put(bytes.toByteArray()).flip();
        }
    }

    static int checkedLength(int length) throws IOException {
        if (length < HEAD || length > MAX_FRAME) {
            throw new ShuffleFailure(Reason.MALFORMED, "the service sent a frame of " + Integer.toUnsignedString(length) + " bytes");
        }
        return length;
    }

    public static Out register(int shuffle, long map, String data, String index, long[] lengths, int[] crcs) {
        Out out = new Out(REGISTER).u32(shuffle).u64(map).text(data).text(index).u32(lengths.length);
        for (int block = 0; block < lengths.length; block++) {
            out.u64(lengths[block]).u32(crcs[block]);
        }
        return out;
    }

    public static Out fetch(String host, int millis, List<BlockName> blocks) {
        Out out = new Out(FETCH).text(host).u32(millis).u32(blocks.size());
        for (BlockName block : blocks) {
            out.u32(block.shuffle()).u64(block.map()).u32(block.first()).u32(block.end());
        }
        return out;
    }

    /** Append the other nodes that a REMOVE, END or PING is for. */
    static Out to(Out out, List<String> owners) {
        out.u16(owners.size());
        owners.forEach(out::text);
        return out;
    }

    /** The owners that the service could not notify. */
    static List<String> notified(ByteBuffer body) throws IOException {
        return read(body, in -> {
            List<String> failed = new ArrayList<>();
            for (int left = in.getShort() & 0xffff; left > 0; left--) {
                failed.add(text(in) + " (" + reason(in.get() & 0xff) + ")");
            }
            return failed;
        });
    }

    /** The end of the blocks, from {@code start}, that fit one FETCH. */
    public static int endOfRequest(List<BlockName> blocks, int start) {
        long reduces = 0;
        int end = start;
        while (end < blocks.size() && end - start < MAX_BLOCKS) {
            reduces += (long) blocks.get(end).end() - blocks.get(end).first();
            if (reduces > MAX_REDUCES && end > start) {
                break;
            }
            end++;
        }
        return end;
    }

    static Welcome welcome(ByteBuffer body) throws IOException {
        return read(body, in -> {
            byte[] mac = raw(in, NONCE);
            String node = text(in);
            int leaseSeconds = Math.max(1, in.getInt());
            List<String> folders = new ArrayList<>();
            for (int left = in.getShort() & 0xffff; left > 0; left--) {
                folders.add(text(in));
            }
            List<Slab> slabs = new ArrayList<>();
            for (int left = in.getShort() & 0xffff; left > 0; left--) {
                slabs.add(new Slab(in.getInt(), text(in), length(in)));
            }
            return new Welcome(mac, node, leaseSeconds, folders, slabs);
        });
    }

    public static Blocks blocks(ByteBuffer body, List<BlockName> requested) throws IOException {
        return read(body, in -> {
            long lease = in.getLong();
            if (in.getInt() != requested.size()) {
                throw new ShuffleFailure(Reason.MALFORMED, "the service answered for a different number of blocks");
            }
            List<Found> results = new ArrayList<>(requested.size());
            for (BlockName block : requested) {
                int reason = in.get() & 0xff;
                results.add(reason == 0 ? found(in, block) : new Found(null, null, null, reason(reason), text(in)));
            }
            return new Blocks(lease, results);
        });
    }

    private static Found found(ByteBuffer in, BlockName block) throws IOException {
        int count = in.getInt();
        if (count != block.end() - block.first()) {
            throw new ShuffleFailure(Reason.MALFORMED, "the service answered for different reduces");
        }
        if (in.remaining() < 12L * count) {
            throw new BufferUnderflowException();
        }
        long[] lengths = new long[count];
        int[] crcs = new int[count];
        long total = 0;
        for (int index = 0; index < count; index++) {
            lengths[index] = length(in);
            total = Math.addExact(total, lengths[index]);
            crcs[index] = in.getInt();
        }
        List<Extent> extents = new ArrayList<>();
        for (int left = in.getShort() & 0xffff; left > 0; left--) {
            boolean file = in.get() == 0;
            String path = file ? text(in) : null;
            int slab = file ? -1 : in.getInt();
            Extent extent = new Extent(path, slab, length(in), length(in));
            total = Math.subtractExact(total, extent.length());
            extents.add(extent);
        }
        if (total != 0) {
            throw new ShuffleFailure(Reason.MALFORMED, "the extents of a block do not add up to its length");
        }
        return new Found(lengths, crcs, extents, null, "");
    }

    /** The error of an ERROR frame. */
    static ShuffleFailure error(ByteBuffer body) throws IOException {
        return read(body, in -> new ShuffleFailure(reason(in.get() & 0xff), text(in)));
    }

    static Reason reason(int code) {
        return switch (code) {
            case 1 -> Reason.PEER_REFUSED;
            case 2 -> Reason.PEER_UNREACHABLE;
            case 3 -> Reason.TIMEOUT;
            case 4 -> Reason.CORRUPT;
            case 5 -> Reason.NO_SPACE;
            case UNKNOWN_APPLICATION -> Reason.UNKNOWN_APPLICATION;
            case 7 -> Reason.REFUSED;
            default -> Reason.MALFORMED;
        };
    }

    private interface Reading<T> {
        T of(ByteBuffer in) throws IOException;
    }

    /** Read a whole body. A body that is too short, too long or has invalid numbers is MALFORMED. */
    private static <T> T read(ByteBuffer body, Reading<T> reading) throws IOException {
        try {
            T value = reading.of(body);
            if (body.hasRemaining()) {
                throw new ShuffleFailure(Reason.MALFORMED, "the service's answer is too long");
            }
            return value;
        } catch (BufferUnderflowException | ArithmeticException error) {
            throw new ShuffleFailure(Reason.MALFORMED, "the service's answer is truncated", error);
        }
    }

    private static long length(ByteBuffer in) {
        long value = in.getLong();
        if (value < 0) {
            throw new ArithmeticException("negative");
        }
        return value;
    }

    static byte[] raw(ByteBuffer in, int count) {
        byte[] bytes = new byte[count];
        in.get(bytes);
        return bytes;
    }

    static String text(ByteBuffer in) {
        return new String(raw(in, in.getShort() & 0xffff), StandardCharsets.UTF_8);
    }
}
