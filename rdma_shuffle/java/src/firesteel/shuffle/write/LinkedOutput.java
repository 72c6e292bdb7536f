package firesteel.shuffle.write;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

import firesteel.shuffle.wire.Reason;
import firesteel.shuffle.wire.ShuffleFailure;

/** A map output whose files are linked into a folder of the service. Closing removes the links unless {@link #keep}. */
final class LinkedOutput implements Closeable {
    private final Path data;
    private final Path index;
    private boolean kept;

    private LinkedOutput(Path data, Path index) {
        this.data = data;
        this.index = index;
    }

    /** Hard links outlive the executor's folders and need no copy. If no folder is on their file system, copy the files. */
    static LinkedOutput into(List<String> folders, String application, File data, File index) throws IOException {
        if (folders.isEmpty()) {
            throw new ShuffleFailure(Reason.REFUSED, "the service offers no folder for map outputs");
        }
        boolean hasData = data.exists(); // an empty output has no data file
        for (String folder : folders) {
            Path target = Path.of(folder, application); // the service creates it at CLAIM
            try {
                Path linkedIndex = link(index, target);
                return new LinkedOutput(hasData ? link(data, target) : null, linkedIndex);
            } catch (FileSystemException error) {
                // EXDEV has no exception type of its own. The copy below fails too for any other cause.
                org.slf4j.LoggerFactory.getLogger(LinkedOutput.class).debug("no link into {}", folder, error);
            }
        }
        Path target = Path.of(folders.get(0), application);
        try {
            Path copiedIndex = Files.copy(index.toPath(), absent(target.resolve(index.getName())));
            return new LinkedOutput(hasData ? Files.copy(data.toPath(), absent(target.resolve(data.getName()))) : null, copiedIndex);
        } catch (FileSystemException error) {
            throw new ShuffleFailure(Reason.NO_SPACE, "a map output could not be copied to the service: " + error.getMessage(), error);
        }
    }

    private static Path link(File file, Path folder) throws IOException {
        Path target = folder.resolve(file.getName());
        try {
            return Files.createLink(target, file.toPath());
        } catch (FileAlreadyExistsException error) {
            // Our own link, from a registration whose answer was lost: map ids are unique to a task attempt.
            return Files.createLink(absent(target), file.toPath());
        }
    }

    private static Path absent(Path target) throws IOException {
        Files.deleteIfExists(target);
        return target;
    }

    String data() {
        return data == null ? "" : data.toString();
    }

    String index() {
        return index.toString();
    }

    /** The service has moved the files. */
    void keep() {
        kept = true;
    }

    @Override
    public void close() throws IOException {
        if (!kept) {
            Files.deleteIfExists(index);
            if (data != null) {
                Files.deleteIfExists(data);
            }
        }
    }
}
