"""The examples in the docstrings of the public API, and the Python of pages on DataFrames, on the flights example."""

from __future__ import annotations

import doctest
import re
from pathlib import Path

import pytest

import api_page
import firesteel
from support.documents import ROOT, blocks

pytestmark = pytest.mark.integration


@pytest.fixture
def folder(project, monkeypatch) -> Path:
    """The folder of a flights project that needs no params, as the working directory."""
    path = "{type: uri, required: true,"
    project.pipeline({path: f'{{type: uri, default: "{project.root}",'})
    monkeypatch.chdir(project.folder)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", project.tracking)
    return project.folder


def test_the_examples_of_the_public_names_are_true(folder, spark):
    finder, runner = doctest.DocTestFinder(recurse=False), doctest.DocTestRunner()
    shown = 0
    for name, value in api_page.PUBLIC:
        for example in finder.find(value, name, globs={"firesteel": firesteel, "spark": spark}):
            failed = runner.run(example).failed
            shown += bool(example.examples)
            assert not failed, name
    assert shown == 10


def test_every_public_name_is_on_the_page():
    page = api_page.page()
    for name in firesteel.__all__:
        assert name == "__version__" or re.search(rf"^(## firesteel\.{name}$|\| `{name}` \|)", page, re.MULTILINE), name


@pytest.mark.parametrize("document", ["README.md", "docs/how-to/from-spark-udf.md"])
def test_what_a_page_shows_on_a_dataframe_runs(document, folder, spark):
    """`flights`, a DataFrame, is the reader's own."""
    shown = [
        block
        for block in blocks(ROOT / document)
        if block.language == "python" and "firesteel.score(" in block.text and not block.not_run
    ]
    flights = firesteel.Pipeline.load("pipeline.yaml").frame("features", "2013-06-01", spark=spark)
    for block in shown:
        names = {"flights": flights}
        exec(compile(block.text, str(block), "exec"), names)
        assert names["scored"].columns == [*flights.columns, "p_delay"]
        assert names["scored"].where("p_delay BETWEEN 0 AND 1").count() == 60
    assert len(shown) == 1
