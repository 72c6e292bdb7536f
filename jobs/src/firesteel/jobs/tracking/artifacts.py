"""Model files on this machine: used in place where they are local, else in a cache keyed by the digest of the bytes."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from firesteel.conf.secrets import reveal
from firesteel.jobs.tracking.connect import mlflow_faults


def cache_folder() -> Path:
    """`$XDG_CACHE_HOME/firesteel/models`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "firesteel" / "models"


def cached(digest: str) -> Path | None:
    """The cached folder with exactly these bytes, or None. A folder that was changed since is thrown away."""
    from firesteel.udfs.digest import digest_of

    folder = cache_folder() / digest
    if not folder.is_dir():
        return None
    if digest_of(folder).hex == digest:
        return folder
    shutil.rmtree(folder)
    return None


def fetch(source: str, tracking_uri: str) -> Path:
    """The files at `source`, an artefact URI: in place when it is local, else downloaded into the cache."""
    from firesteel.udfs.digest import digest_of

    parts = urlsplit(source)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path))
    root = cache_folder()
    root.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as partial:
        with mlflow_faults(tracking_uri, f"downloading {source}"):
            from mlflow.artifacts import download_artifacts

            got = Path(
                download_artifacts(artifact_uri=source, dst_path=partial, tracking_uri=reveal(tracking_uri) or None)
            )
        digest = digest_of(got).hex
        target = cached(digest)
        if target is None:
            target = root / digest
            try:
                got.rename(target)  # atomic: readers see a whole model or none
            except OSError:
                if cached(digest) is None:  # not another run that was faster
                    raise
    return target
