"""Fetch model files: use local files in place, and cache downloaded files by digest."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path
from urllib.parse import unquote, urlsplit

from firesteel.conf.errors import ModelError
from firesteel.conf.secrets import reveal
from firesteel.jobs.tracking.connect import mlflow_faults


def cache_folder() -> Path:
    """Return `$XDG_CACHE_HOME/firesteel/models`, by default below `~/.cache`."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "firesteel" / "models"


def cached(digest: str) -> Path | None:
    """Return the cached folder with this digest, or None. A changed folder is deleted."""
    from firesteel.udfs.digest import digest_of

    folder = cache_folder() / digest
    if not folder.is_dir():
        return None
    try:
        if digest_of(folder).hex == digest:
            return folder
    except ModelError:
        pass  # it has links or other files that no model has
    shutil.rmtree(folder)
    return None


def fetch(source: str, tracking_uri: str, max_size: int | None = None) -> Path:
    """Return the folder of an artifact URI: the local folder, or a download in the cache, of at most `max_size` bytes."""
    from firesteel.udfs.digest import digest_of

    parts = urlsplit(source)
    if parts.scheme in ("", "file"):
        return Path(unquote(parts.path))
    root = cache_folder()
    root.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".partial-", dir=root) as partial:
        with mlflow_faults(tracking_uri, f"downloading {source}"):
            from mlflow.artifacts import download_artifacts

            downloaded = Path(
                download_artifacts(artifact_uri=source, dst_path=partial, tracking_uri=reveal(tracking_uri) or None)
            )
        digest = digest_of(downloaded, max_size).hex
        target = cached(digest)
        if target is None:
            target = root / digest
            try:
                downloaded.rename(target)  # atomic, so that readers never see a partial model
            except OSError:
                if cached(digest) is None:  # unless another run has cached it
                    raise
    return target
