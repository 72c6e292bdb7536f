"""Fetch model files: use local files in place, and cache downloaded files by digest.

::

    $XDG_CACHE_HOME/firesteel/models/<digest>/          the files of a model
                              sources/<SHA-256>.json    the digest of an artifact URI, and the fingerprint of what it had there
"""

from __future__ import annotations

import atexit
import contextlib
import hashlib
import json
import logging
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, urlsplit

from firesteel.conf.errors import ModelError, RuntimeFault
from firesteel.conf.secrets import reveal
from firesteel.jobs.tracking.connect import mlflow_faults, without_secrets

_LOG = logging.getLogger(__name__)


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/firesteel/models`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")  # noqa: PTH111 - Path.home() may raise
    return Path(base) / "firesteel" / "models"


def cached(digest: str) -> Path | None:
    """Return the cached folder with this digest, or None. A changed folder is deleted."""
    from firesteel.udfs.digest import digest_of

    for root in (cache_folder(), *_TEMPORARY.values()):
        folder = root / digest
        if not os.path.isdir(folder):  # noqa: PTH112 - Path.is_dir() may raise
            continue
        with contextlib.suppress(ModelError):  # it has links or other files that no model has
            if digest_of(folder).hex == digest:
                return folder
        shutil.rmtree(folder, ignore_errors=True)
    return None


def fetch(source: str, tracking_uri: str, max_size: int | None = None, *, known: bool = False) -> Path:
    """Return the folder of an artifact URI: the local folder, or a download in the cache.

    Parameters
    ----------
    max_size
        Largest allowed size in bytes.
    known
        Use the cached files of this URI, if its file names, sizes and MLmodel file are those of the download. MLmodel has the model's
        unique ID and time, so another model has another file. To compare the other bytes, MLflow would download all.
    """
    parts = urlsplit(source)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path))
    fingerprint = _fingerprint(source, tracking_uri) if known else ""
    index = _index(source, tracking_uri)
    folder = _indexed(index, fingerprint) if fingerprint else None
    if folder is not None:
        return folder
    with downloading() as partial:
        with mlflow_faults(tracking_uri, f"downloading {source}", _permission(source)):
            from mlflow.artifacts import download_artifacts

            downloaded = Path(
                download_artifacts(
                    artifact_uri=source, dst_path=str(partial), tracking_uri=reveal(tracking_uri) or None
                )
            )
        folder = add(downloaded, max_size)
    if fingerprint:
        _remember(index, fingerprint, folder.name)
    return folder


@contextlib.contextmanager
def downloading() -> Iterator[Path]:
    """Return a folder for the block, from which `add` moves files into the cache."""
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=_writable_cache(), ignore_cleanup_errors=True) as partial:
        yield Path(partial)


def add(downloaded: Path, max_size: int | None = None) -> Path:
    """Move a downloaded model into the cache, and return its folder there."""
    from firesteel.udfs.digest import digest_of

    digest = digest_of(downloaded, max_size).hex
    target = cached(digest)
    if target is None:
        target = _writable_cache() / digest
        try:
            downloaded.rename(target)  # atomic, so that readers never see a partial model
        except OSError as error:
            if cached(digest) is None:  # unless another run has cached it
                raise RuntimeFault("FS9008", f"the model cannot be stored in {target}: {error.strerror}.") from error
    return target


def _writable_cache() -> Path:
    """Return the cache folder, or a temporary folder of this process if this user cannot write there."""
    root = cache_folder()
    try:
        root.mkdir(mode=0o700, parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=root).close()
    except OSError as error:
        if os.getpid() not in _TEMPORARY:
            _LOG.warning(
                "the model cache %s is not writable (%s), so that each run downloads its models. Set XDG_CACHE_HOME to a writable folder.",
                root,
                error.strerror,
            )
        return _temporary_cache(os.getpid())
    return root


_TEMPORARY: dict[int, Path] = {}
"""Temporary caches by process."""


def _temporary_cache(pid: int) -> Path:
    """Return the temporary cache of this process, which deletes it at its exit. A fork has its own."""
    if pid not in _TEMPORARY:
        temporary = _TEMPORARY[pid] = Path(tempfile.mkdtemp(prefix="firesteel-models-"))
        atexit.register(_delete, pid, temporary)
    return _TEMPORARY[pid]


def _delete(pid: int, temporary: Path) -> None:
    if os.getpid() == pid:  # a fork inherits its parent's exit functions
        shutil.rmtree(temporary, ignore_errors=True)


def check_readable(source: str, tracking_uri: str) -> None:
    """Read the MLmodel file of an artifact URI, as a plan does. FS9003, FS9034 or FS9035 if that fails."""
    with mlflow_faults(tracking_uri, f"reading {source}", _permission(source)):
        from mlflow.artifacts import download_artifacts

        with tempfile.TemporaryDirectory(prefix="firesteel-mlmodel-") as target:
            download_artifacts(
                artifact_uri=f"{source.rstrip('/')}/MLmodel", dst_path=target, tracking_uri=reveal(tracking_uri) or None
            )


def _permission(source: str) -> str:
    """Return the permission that reading artifacts through the server needs, for messages."""
    return f"READ on the experiment that has the artifacts {source}"


def _fingerprint(source: str, tracking_uri: str) -> str:
    """Return the digest of names, sizes and the MLmodel file of an artifact folder; empty if the store does not list sizes."""
    with mlflow_faults(tracking_uri, f"listing {source}", _permission(source)):
        from mlflow.store.artifact.artifact_repository_registry import get_artifact_repository

        repository = get_artifact_repository(source, tracking_uri=reveal(tracking_uri) or None)
        files, folders = [], [""]
        while folders:
            folder = folders.pop()
            for entry in repository.list_artifacts(folder or None):
                if entry.is_dir:
                    folders.append(entry.path)
                else:
                    files.append([entry.path, entry.file_size])
        if not any(path == "MLmodel" for path, _ in files) or any(size is None for _, size in files):
            return ""
        with tempfile.TemporaryDirectory(prefix="firesteel-mlmodel-") as target:
            mlmodel = Path(repository.download_artifacts("MLmodel", target)).read_bytes()
    listed = json.dumps(sorted(files)).encode()
    return hashlib.sha256(listed + b"\n" + mlmodel).hexdigest()


def _index(source: str, tracking_uri: str) -> Path:
    key = hashlib.sha256(f"{without_secrets(tracking_uri)} {source}".encode()).hexdigest()
    return cache_folder().parent / "sources" / f"{key}.json"


def _indexed(index: Path, fingerprint: str) -> Path | None:
    """Return the cached folder of a fingerprint. Only this user's index counts: its entries decide which model is planned."""
    try:
        status = index.stat()
        entry = json.loads(index.read_text())
        if status.st_uid != os.getuid() or status.st_mode & 0o022 or entry["fingerprint"] != fingerprint:
            return None
        return cached(str(entry["digest"]))
    except (OSError, ValueError, TypeError, KeyError):
        return None


def _remember(index: Path, fingerprint: str, digest: str) -> None:
    """Write an index entry. Without it, the next plan downloads the model again."""
    try:
        index.parent.mkdir(mode=0o700, exist_ok=True)
        with tempfile.NamedTemporaryFile("w", dir=index.parent, delete=False) as file:
            json.dump({"fingerprint": fingerprint, "digest": digest}, file)
        Path(file.name).rename(index)
    except OSError as error:
        _LOG.info("the model cache has no index entry %s: %s", index, error)
