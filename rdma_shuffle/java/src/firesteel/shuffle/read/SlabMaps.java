package firesteel.shuffle.read;

import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.channels.FileChannel.MapMode;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.ConcurrentHashMap;
import java.util.concurrent.ConcurrentMap;

import firesteel.shuffle.wire.Reason;
import firesteel.shuffle.wire.ShuffleFailure;
import firesteel.shuffle.wire.Wire;

/** Maps each slab of the service once, in pieces of 1 GiB because a ByteBuffer is limited to 2 GiB. */
final class SlabMaps {
    private static final long PIECE = 1L << 30;

    // A restarted service gives its slabs new names, so a mapping never mixes the data of two service processes.
    private final ConcurrentMap<Wire.Slab, ByteBuffer[]> pieces = new ConcurrentHashMap<>();

    /** The bytes of an extent without a copy, in several parts if it crosses pieces. */
    List<ByteBuffer> view(Wire.Slab slab, long offset, long length) throws IOException {
        if (offset > slab.size() || length > slab.size() - offset) {
            throw new ShuffleFailure(Reason.MALFORMED, "an extent is outside its slab");
        }
        ByteBuffer[] mapped = pieces.get(slab);
        if (mapped == null) {
            mapped = map(slab);
        }
        List<ByteBuffer> parts = new ArrayList<>(1);
        long at = offset;
        long left = length;
        while (left > 0) {
            int within = (int) (at % PIECE);
            int count = (int) Math.min(left, PIECE - within);
            parts.add(mapped[(int) (at / PIECE)].slice(within, count));
            at += count;
            left -= count;
        }
        return parts;
    }

    private synchronized ByteBuffer[] map(Wire.Slab slab) throws IOException {
        ByteBuffer[] existing = pieces.get(slab);
        if (existing != null) {
            return existing;
        }
        int count = Math.toIntExact((slab.size() + PIECE - 1) / PIECE);
        ByteBuffer[] mapped = new ByteBuffer[count];
        try (FileChannel channel = FileChannel.open(Path.of(slab.path()), StandardOpenOption.READ)) {
            if (channel.size() < slab.size()) {
                // A read past the end of a mapped file raises SIGBUS: an InternalError, or the end of the JVM.
                throw new ShuffleFailure(Reason.MALFORMED, "the slab is shorter than the service reported");
            }
            for (int index = 0; index < count; index++) {
                long start = index * PIECE;
                mapped[index] = channel.map(MapMode.READ_ONLY, start, Math.min(PIECE, slab.size() - start));
            }
        }
        pieces.put(slab, mapped);
        return mapped;
    }
}
