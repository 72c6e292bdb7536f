"""`import firesteel`: which names it gives, and what it does not import."""

from __future__ import annotations

import subprocess
import sys

import pytest

import firesteel
from firesteel.conf import errors
from firesteel.conf.errors import FiresteelError
from firesteel.conf.version import VERSION

NAMES = ["Pipeline", "Plan", "RunResult", "__version__", "read", "score"]


def run(code: str) -> str:
    return subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True).stdout.strip()


def test_the_public_names_are_these_and_the_errors():
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, FiresteelError)]
    assert sorted(firesteel.__all__) == sorted([*NAMES, *(kind.__name__ for kind in kinds)])
    assert sorted(dir(firesteel)) == sorted(firesteel.__all__)
    assert firesteel.__version__ == VERSION
    assert all(getattr(firesteel, kind.__name__) is kind for kind in kinds)


@pytest.mark.parametrize("name", NAMES)
def test_a_name_imports_by_itself(name):
    assert run(f"from firesteel import {name}; print({name!r})") == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'firesteel' has no attribute 'scores'"):
        firesteel.scores  # noqa: B018 - the access is the test


def test_import_is_light_and_so_are_its_names_until_they_are_called():
    heavy = ("pyspark", "mlflow", "pandas", "great_expectations")
    code = f"import sys, firesteel; print([n for n in {heavy} if n in sys.modules], len([n for n in sys.modules if n.startswith('firesteel')]))"
    assert run(code) == "[] 1"
    used = "firesteel.Pipeline, firesteel.Plan, firesteel.RunResult, firesteel.FiresteelError, firesteel.read, firesteel.score"
    assert run(f"import sys, firesteel; {used}; print([n for n in {heavy} if n in sys.modules])") == "[]"
