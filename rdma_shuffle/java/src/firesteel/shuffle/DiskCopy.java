package firesteel.shuffle;

import java.io.IOException;
import java.io.InputStream;
import java.nio.ByteBuffer;
import java.nio.channels.Channels;
import java.nio.channels.ReadableByteChannel;

import org.apache.spark.network.buffer.ManagedBuffer;
import org.apache.spark.network.shuffle.DownloadFile;
import org.apache.spark.network.shuffle.DownloadFileManager;
import org.apache.spark.network.shuffle.DownloadFileWritableChannel;
import org.apache.spark.network.util.TransportConf;

/** A block too large for memory, in a file that Spark's iterator cleans up ({@code maxRemoteBlockSizeFetchToMem}). */
final class DiskCopy {
    private static final int STEP = 1 << 20;

    private DiskCopy() {}

    static ManagedBuffer of(ManagedBuffer buffer, DownloadFileManager files, TransportConf conf) throws IOException {
        DownloadFile file = files.createTempFile(conf);
        try (InputStream stream = buffer.createInputStream();
                ReadableByteChannel from = Channels.newChannel(stream)) {
            DownloadFileWritableChannel to = file.openForWriting();
            ByteBuffer step = ByteBuffer.allocate((int) Math.min(STEP, Math.max(1, buffer.size())));
            while (from.read(step) >= 0) {
                step.flip();
                while (step.hasRemaining()) {
                    to.write(step);
                }
                step.clear();
            }
            ManagedBuffer copy = to.closeAndRead();
            // False once the task has ended: nobody else would delete it.
            if (!files.registerTempFileToClean(file)) {
                file.delete();
            }
            return copy;
        } catch (IOException error) {
            file.delete();
            throw error;
        }
    }
}
