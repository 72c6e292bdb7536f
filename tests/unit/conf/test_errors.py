from __future__ import annotations

import pickle
import re
from pathlib import Path

import pytest

from firesteel.conf import errors
from firesteel.conf.codes import CODES
from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, Where

ROOT = Path(__file__).parents[3]
KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, FiresteelError) and kind is not SpecErrors
]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_survive_pickling_whole(kind):
    error = kind("FS1003", "what was found.", where=Where("a.yaml", 3, 5), hint="Do this.")
    again = pickle.loads(pickle.dumps(error))
    assert (type(again), str(again), again.as_dict()) == (kind, str(error), error.as_dict())


def test_an_error_says_code_place_fact_and_remedy_in_this_order():
    error = SpecError("FS1003", "unknown key `x`.", where=Where("a.yaml", 3, 5), hint="Did you mean `y`?")
    assert str(error) == "FS1003 a.yaml:3:5  unknown key `x`. Did you mean `y`?"


def test_errors_come_in_the_order_of_the_file():
    listed = [
        SpecError("FS1003", "b", where=Where("a", 9)),
        SpecError("FS1003", "a", where=Where("a", 10)),
        SpecError("FS1001", "c", where=Where("a", 9)),
    ]
    assert [error.what for error in SpecErrors.of(listed).errors] == ["c", "b", "a"]


def test_every_code_that_is_raised_is_in_the_catalogue_and_every_code_of_the_catalogue_is_used():
    used = set()
    for component in ("api", "conf", "pipelines", "udfs", "rdma_shuffle", "jobs"):
        for path in (ROOT / component / "src").rglob("*.py"):
            if path.name != "codes.py":
                used |= set(re.findall(r"\bFS\d{4}\b", path.read_text(encoding="utf-8")))
    assert used <= CODES.keys()
    assert CODES.keys() - used == set()
