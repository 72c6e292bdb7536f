package firesteel.shuffle.read;

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

/** Copies a block above {@code maxRemoteBlockSizeFetchToMem} into a file that Spark's iterator cleans up. */
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
            // False after the task has ended: then nobody else deletes the file.
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
