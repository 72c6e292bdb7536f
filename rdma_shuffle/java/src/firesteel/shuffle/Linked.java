package firesteel.shuffle;

import java.io.Closeable;
import java.io.File;
import java.io.IOException;
import java.nio.file.FileAlreadyExistsException;
import java.nio.file.FileSystemException;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.List;

/** A map output's files linked into a folder of the service; removed again unless the service took them, which moves them. */
final class Linked implements Closeable {
    private final Path data;
    private final Path index;
    private boolean kept;

    private Linked(Path data, Path index) {
        this.data = data;
        this.index = index;
    }

    /** Hard links outlive the executor's folders and cost nothing; a copy is made if no folder is on its file system. */
    static Linked into(List<String> folders, String application, File data, File index) throws IOException {
        if (folders.isEmpty()) {
            throw new ShuffleFailure(Reason.REFUSED, "the service names no folder for map outputs");
        }
        boolean filled = data.exists(); // an empty output has no data file
        for (String folder : folders) {
            Path target = Path.of(folder, application); // made by the service at CLAIM
            try {
                Path linkedIndex = link(index, target);
                return new Linked(filled ? link(data, target) : null, linkedIndex);
            } catch (FileSystemException error) {
                // EXDEV has no type of its own; the copy below meets every other cause again.
                org.slf4j.LoggerFactory.getLogger(Linked.class).debug("no link into {}", folder, error);
            }
        }
        Path target = Path.of(folders.get(0), application);
        try {
            Path copiedIndex = Files.copy(index.toPath(), fresh(target.resolve(index.getName())));
            return new Linked(filled ? Files.copy(data.toPath(), fresh(target.resolve(data.getName()))) : null, copiedIndex);
        } catch (FileSystemException error) {
            throw new ShuffleFailure(Reason.NO_SPACE, "a map output was not copied to the service: " + error.getMessage(), error);
        }
    }

    private static Path link(File file, Path folder) throws IOException {
        Path target = folder.resolve(file.getName());
        try {
            return Files.createLink(target, file.toPath());
        } catch (FileAlreadyExistsException error) {
            // Ours, of a registration whose answer was lost: map ids are unique to an attempt.
            return Files.createLink(fresh(target), file.toPath());
        }
    }

    private static Path fresh(Path target) throws IOException {
        Files.deleteIfExists(target);
        return target;
    }

    String data() {
        return data == null ? "" : data.toString();
    }

    String index() {
        return index.toString();
    }

    /** The service has them now. */
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
