package firesteel.shuffle;

import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.Arrays;
import java.util.List;

import org.apache.spark.network.buffer.ManagedBuffer;
import org.apache.spark.network.buffer.NioManagedBuffer;

/** Makes buffers of what the service answered, and checks every byte against the checksums made at commit. */
final class Opener {
    /** Up to here a file's block is read at once: one copy, no open file. */
    private static final long SMALL = 1 << 20;

    private final SlabMaps maps;
    private final List<Wire.Slab> slabs;

    Opener(SlabMaps maps, List<Wire.Slab> slabs) {
        this.maps = maps;
        this.slabs = slabs;
    }

    /** One outcome a block; {@code giveBack} runs when the last buffer over lent memory is released. */
    List<NodeService.Outcome> open(List<BlockName> asked, Wire.Blocks answer, Runnable giveBack) {
        // One use is ours until all buffers exist: a first one that is bad must not give back the others' memory.
        Lease lease = answer.lease() == 0 ? null : new Lease(giveBack);
        List<NodeService.Outcome> outcomes = new ArrayList<>(asked.size());
        try {
            for (int index = 0; index < asked.size(); index++) {
                outcomes.add(open(asked.get(index), answer.found().get(index), lease));
            }
        } finally {
            if (lease != null) {
                lease.done();
            }
        }
        return outcomes;
    }

    private NodeService.Outcome open(BlockName block, Wire.Found found, Lease lease) {
        if (found.reason() != null) {
            return failed(block, new ShuffleFailure(found.reason(), block.text() + ": " + found.detail()));
        }
        try {
            ManagedBuffer buffer = buffer(found, lease);
            try {
                verify(block, buffer, found);
                return new NodeService.Outcome(block, buffer, null);
            } catch (IOException | RuntimeException error) {
                buffer.release();
                throw error;
            }
        } catch (ShuffleFailure error) {
            return failed(block, error);
        } catch (EOFException error) {
            return failed(block, new ShuffleFailure(Reason.CORRUPT, block.text() + ": " + error.getMessage(), error));
        } catch (NoSuchFileException error) {
            return failed(block, new ShuffleFailure(Reason.PEER_REFUSED, block.text() + " was removed meanwhile", error));
        } catch (IOException error) {
            return failed(block, new ShuffleFailure(Reason.UNREADABLE, block.text() + ": " + error, error));
        }
    }

    private static NodeService.Outcome failed(BlockName block, ShuffleFailure failure) {
        return new NodeService.Outcome(block, null, failure);
    }

    private ManagedBuffer buffer(Wire.Found found, Lease lease) throws IOException {
        List<Wire.Extent> extents = found.extents();
        if (extents.size() == 1 && extents.get(0).path() != null) {
            return file(extents.get(0));
        }
        List<ByteBuffer> parts = new ArrayList<>();
        for (Wire.Extent extent : extents) {
            if (extent.path() != null) {
                throw new ShuffleFailure(Reason.MALFORMED, "a block in several extents lies in a file");
            }
            if (lease == null) {
                throw new ShuffleFailure(Reason.MALFORMED, "an extent of a slab came without a lease");
            }
            parts.addAll(maps.view(slab(extent.slab()), extent.offset(), extent.length()));
        }
        return new SlabBuffer(parts.toArray(ByteBuffer[]::new), lease == null ? null : lease.use());
    }

    private Wire.Slab slab(int id) throws ShuffleFailure {
        for (Wire.Slab slab : slabs) {
            if (slab.id() == id) {
                return slab;
            }
        }
        throw new ShuffleFailure(Reason.MALFORMED, "the service names an unknown slab");
    }

    private static ManagedBuffer file(Wire.Extent extent) throws IOException {
        FileChannel channel = FileChannel.open(Path.of(extent.path()), StandardOpenOption.READ);
        boolean handedOn = false;
        try {
            if (extent.length() > SMALL) {
                handedOn = true;
                return new FileBuffer(channel, extent.offset(), extent.length());
            }
            ByteBuffer bytes = ByteBuffer.allocate((int) extent.length());
            while (bytes.hasRemaining()) {
                if (channel.read(bytes, extent.offset() + bytes.position()) < 0) {
                    throw new EOFException("the file is shorter than its block");
                }
            }
            return new NioManagedBuffer(bytes.flip());
        } finally {
            if (!handedOn) {
                channel.close();
            }
        }
    }

    private static void verify(BlockName block, ManagedBuffer buffer, Wire.Found found) throws IOException {
        BlockChecksums.Bytes bytes =
                buffer instanceof Counted held ? held.bytes() : BlockChecksums.in(buffer.nioByteBuffer());
        int[] crcs = BlockChecksums.of(bytes, found.lengths());
        int wrong = Arrays.mismatch(crcs, found.crcs());
        if (wrong >= 0) {
            throw new ShuffleFailure(
                    Reason.CORRUPT, block.text() + ": reduce " + (block.first() + wrong) + " has another CRC32C");
        }
    }
}
