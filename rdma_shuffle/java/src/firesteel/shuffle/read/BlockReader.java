package firesteel.shuffle.read;

import java.io.EOFException;
import java.io.IOException;
import java.nio.ByteBuffer;
import java.nio.channels.FileChannel;
import java.nio.file.NoSuchFileException;
import java.nio.file.Path;
import java.nio.file.StandardOpenOption;
import java.util.ArrayList;
import java.util.List;

import org.apache.spark.network.buffer.ManagedBuffer;
import org.apache.spark.network.buffer.NioManagedBuffer;

import firesteel.shuffle.wire.BlockChecksums;
import firesteel.shuffle.wire.BlockName;
import firesteel.shuffle.wire.NodeService;
import firesteel.shuffle.wire.Reason;
import firesteel.shuffle.wire.ShuffleFailure;
import firesteel.shuffle.wire.Wire;

/** Fetches blocks from the node's service, wraps them in buffers and checks every byte against its CRC32C. */
final class BlockReader {
    /** The result of one block: a buffer with one user, or a failure and what the service said of the block, if it did. */
    record Outcome(BlockName block, ManagedBuffer buffer, ShuffleFailure failure, Wire.Found found) {}

    /** A block of a file up to this size is read at once: one copy, no open file. */
    private static final long MAX_COPIED_BYTES = 1 << 20;

    private final NodeService service;
    private final long fetchMillis;
    private final SlabMaps maps = new SlabMaps();

    BlockReader(NodeService service, long fetchMillis) {
        this.service = service;
        this.fetchMillis = fetchMillis;
    }

    /** Fetch blocks of one owner without retries. Throws if the request as a whole fails. */
    List<Outcome> fetch(String host, List<BlockName> blocks) throws IOException {
        List<Outcome> outcomes = new ArrayList<>(blocks.size());
        int end;
        for (int start = 0; start < blocks.size(); start = end) {
            end = Wire.endOfRequest(blocks, start);
            try {
                outcomes.addAll(fetchPart(host, blocks.subList(start, end)));
            } catch (IOException | RuntimeException error) {
                outcomes.stream().filter(outcome -> outcome.buffer() != null).forEach(outcome -> outcome.buffer().release());
                throw error;
            }
        }
        return outcomes;
    }

    private record Answer(Wire.Blocks blocks, List<Wire.Slab> slabs) {}

    private List<Outcome> fetchPart(String host, List<BlockName> blocks) throws IOException {
        // The service gives up before we do, so that we receive its reason.
        Answer answer = service.exchange(fetchMillis + fetchMillis / 4, (connection, deadline) -> {
            ByteBuffer body = connection.ask(Wire.fetch(host, (int) fetchMillis, blocks), Wire.BLOCKS, deadline);
            return new Answer(Wire.blocks(body, blocks), connection.slabs());
        });
        return open(blocks, answer);
    }

    private List<Outcome> open(List<BlockName> blocks, Answer answer) {
        long number = answer.blocks().lease();
        // We hold one use until all buffers exist: a corrupt first block must not release the memory of the others.
        Lease lease = number == 0 ? null : new Lease(() -> service.release(number));
        List<Outcome> outcomes = new ArrayList<>(blocks.size());
        try {
            for (int index = 0; index < blocks.size(); index++) {
                outcomes.add(open(blocks.get(index), answer.blocks().results().get(index), answer.slabs(), lease));
            }
        } finally {
            if (lease != null) {
                lease.done();
            }
        }
        return outcomes;
    }

    private Outcome open(BlockName block, Wire.Found found, List<Wire.Slab> slabs, Lease lease) {
        if (found.reason() != null) {
            ShuffleFailure failure = new ShuffleFailure(found.reason(), block.text() + ": " + found.detail());
            return new Outcome(block, null, failure, null);
        }
        try {
            ManagedBuffer buffer = buffer(found, slabs, lease);
            try {
                verify(block, buffer, found);
                return new Outcome(block, buffer, null, found);
            } catch (IOException | RuntimeException error) {
                buffer.release();
                throw error;
            }
        } catch (ShuffleFailure error) {
            return failed(block, found, error);
        } catch (EOFException error) {
            return failed(block, found, new ShuffleFailure(Reason.CORRUPT, block.text() + ": " + error.getMessage(), error));
        } catch (NoSuchFileException error) {
            return failed(block, found, new ShuffleFailure(Reason.PEER_REFUSED, block.text() + " was removed meanwhile", error));
        } catch (IOException error) {
            return failed(block, found, new ShuffleFailure(Reason.UNREADABLE, block.text() + ": " + error, error));
        }
    }

    private static Outcome failed(BlockName block, Wire.Found found, ShuffleFailure failure) {
        return new Outcome(block, null, failure, found);
    }

    private ManagedBuffer buffer(Wire.Found found, List<Wire.Slab> slabs, Lease lease) throws IOException {
        List<Wire.Extent> extents = found.extents();
        if (extents.size() == 1 && extents.get(0).path() != null) {
            return file(extents.get(0));
        }
        List<ByteBuffer> parts = new ArrayList<>();
        for (Wire.Extent extent : extents) {
            if (extent.path() != null) {
                throw new ShuffleFailure(Reason.MALFORMED, "a block with several extents has one in a file");
            }
            if (lease == null) {
                throw new ShuffleFailure(Reason.MALFORMED, "an extent of a slab came without a lease");
            }
            parts.addAll(maps.view(slab(slabs, extent.slab()), extent.offset(), extent.length()));
        }
        return new SlabBuffer(parts.toArray(ByteBuffer[]::new), lease == null ? null : lease.use());
    }

    private static Wire.Slab slab(List<Wire.Slab> slabs, int id) throws ShuffleFailure {
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
            if (extent.length() > MAX_COPIED_BYTES) {
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
        BlockChecksums.Bytes bytes = buffer instanceof ChecksummedBuffer checksummed
                ? checksummed.bytes()
                : BlockChecksums.in(buffer.nioByteBuffer());
        BlockChecksums.verify(block, bytes, found.lengths(), found.crcs());
    }
}
