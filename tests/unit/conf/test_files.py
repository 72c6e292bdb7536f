"""Files that users wrote are read only if they are regular."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from firesteel.conf.files import UnusableFileError, read_user_text


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.mkdir, "is a folder, not a file"),
        (os.mkfifo, "is not a regular file"),
        (Path.absolute, "cannot be read: "),
    ],
)
def test_what_is_no_file_is_refused_with_the_reason(tmp_path, make, why):
    path = tmp_path / "spec.yaml"
    make(path)
    before = len(os.listdir("/proc/self/fd"))
    with pytest.raises(UnusableFileError, match=why):
        read_user_text(path)
    assert len(os.listdir("/proc/self/fd")) == before
