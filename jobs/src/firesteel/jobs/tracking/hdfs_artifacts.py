"""MLflow artifacts on HDFS through firesteel's storage: over WebHDFS, with HA nameservices, without libhdfs.

MLflow finds the class by the entry point `mlflow.artifact_repository`. `register` does the same where firesteel is not installed.
"""

from __future__ import annotations

import posixpath
from pathlib import Path

from mlflow.entities import FileInfo
from mlflow.store.artifact.artifact_repo import ArtifactRepository, verify_artifact_path

from firesteel.conf.errors import StorageError
from firesteel.pipelines.storage.base import Storage
from firesteel.pipelines.storage.open import locate
from firesteel.pipelines.storage.paths import join

SCHEME = "hdfs"
_BLOCK = 64 << 20


class HdfsArtifacts(ArtifactRepository):
    """The artifacts below an `hdfs://` URI.

    Each call asks for the storage, which is cached, because MLflow keeps this object and processes are forked.
    """

    def log_artifact(self, local_file: str, artifact_path: str | None = None) -> None:
        """Upload a file. An existing file is overwritten."""
        verify_artifact_path(artifact_path)
        storage, root = self._located()
        file = Path(local_file)
        storage.replace(join(root, artifact_path or "", file.name), file.read_bytes())

    def log_artifacts(self, local_dir: str, artifact_path: str | None = None) -> None:
        """Upload the files of a folder."""
        verify_artifact_path(artifact_path)
        storage, root = self._located()
        storage.mkdirs(join(root, artifact_path or ""))
        for file in sorted(path for path in Path(local_dir).rglob("*") if path.is_file()):
            folder = file.parent.relative_to(local_dir).as_posix()
            self.log_artifact(str(file), posixpath.normpath(posixpath.join(artifact_path or "", folder)))

    def list_artifacts(self, path: str | None = None) -> list[FileInfo]:
        """Return the files and folders directly in a folder. A file and a missing folder have none."""
        verify_artifact_path(path)
        storage, root = self._located()
        try:
            children = storage.list(join(root, path or ""))
        except StorageError as error:
            if error.code != "FS8003":
                raise
            return []
        return [
            FileInfo(posixpath.relpath(child.path, root), child.is_dir, None if child.is_dir else child.length)
            for child in children
        ]

    def delete_artifacts(self, artifact_path: str | None = None) -> None:
        """Delete a file, a folder, or all artifacts."""
        verify_artifact_path(artifact_path)
        storage, root = self._located()
        storage.delete(join(root, artifact_path or ""))

    def _download_file(self, remote_file_path: str, local_path: str) -> None:
        storage, root = self._located()
        source, offset = join(root, remote_file_path), 0
        with Path(local_path).open("wb") as target:
            while block := storage.read(source, offset, _BLOCK):
                offset += target.write(block)

    def _located(self) -> tuple[Storage, str]:
        return locate(self.artifact_uri)


def register() -> None:
    """Make MLflow use this class for `hdfs:` URIs in this process."""
    from mlflow.store.artifact import artifact_repository_registry as registry

    registry._artifact_repository_registry.register(SCHEME, HdfsArtifacts)  # noqa: SLF001 - MLflow has no public function
