"""The command line under arguments that nobody means: each call ends with a code and a hint, and never with a fault of ours."""

from __future__ import annotations

import json
import os
import re

import click
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from firesteel.jobs.cli.main import COMMANDS, cli, invoke
from support.specs import EXAMPLE, example_with

STARTS_SPARK_OR_WORKS_LONG = {"test", "pack", "doctor"}
"""Their bad arguments are tried below, one by one."""
FLAGS_LEFT_OUT = {"--spark", "--demo", "--help"}
FILES = {
    "bytes.yaml": bytes(range(256)),
    "bytes.json": bytes(range(255, -1, -1)),
    "empty.yaml": b"",
    "empty.json": b"",
    "utf16.yaml": "spec_version: 1".encode("utf-16"),
    "list.yaml": b"[]",
    "number.json": b"1",
    "deep.yaml": b"[" * 1000,
    "deep.json": b"[" * 100_000,
    "nul.yaml": b"name: a\0b",
    "plan.json": b'{"format": 1}',
}
PATHS = [
    *FILES,
    "folder.yaml",
    "folder.json",
    "loop.yaml",
    "absent.yaml",
    "absent.json",
    "nul.yaml/below.yaml",
    "pipeline.yaml",
]
VALUES = [
    "", "-1", "0", "1", "nan", "99999999999999999999", "today", "2013-06-01", "2013-02-30", "2013-13-01", "0001-01-01",
    "9999-12-31", "10000-01-01", "2013-06-01T25:00", "2013-06-02..2013-06-01", "2013-06-01..", "..", "../..", "a/b", "~", "*",
    "Zoë", "a\nb", "\x1b[31m", "a\udcffb", "\0", "x" * 5000, "=", "=x", "root=", "root=relative", "root=hdfs://", "spark.x=1",
    "scores", "local[", "k8s", "--", "-", "--json",
]  # fmt: skip


def leaves(group: click.Group, context: click.Context, *path: str):
    """Every command with its words."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from leaves(command, context, *path, name)
        elif name not in STARTS_SPARK_OR_WORKS_LONG:
            yield (*path, name), command


CALLS = list(leaves(cli, click.Context(cli)))


@st.composite
def arguments(draw: st.DrawFn) -> list[str]:
    """A command with some of its options, each with some value, and some positional arguments."""
    path, command = draw(st.sampled_from(CALLS))
    words = [*path]
    options = [
        param for param in command.params if isinstance(param, click.Option) and param.opts[0] not in FLAGS_LEFT_OUT
    ]
    required = [each for each in options if each.required]
    for option in [*required, *draw(st.lists(st.sampled_from(options), max_size=3))] if options else []:
        words.append(option.opts[0])
        if not option.is_flag:
            words.append(draw(st.sampled_from([*VALUES, *PATHS, "2013-06-01"])))
    positional = sum(isinstance(param, click.Argument) for param in command.params)
    words += draw(st.lists(st.sampled_from([*PATHS, *["pipeline.yaml"] * 8, *VALUES]), max_size=positional))
    return words


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A project without data, deep enough for `../..`, among files that are no specs and no plans."""
    folder = tmp_path_factory.mktemp("fuzz") / "a" / "b" / "c"
    example_with(folder, {"root:    {type: uri,": f'root:    {{type: uri, default: "file://{folder}/data",'})
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    for name in ("folder.yaml", "folder.json"):
        (folder / name).mkdir()
    (folder / "loop.yaml").symlink_to("loop.yaml")
    before = os.getcwd()
    os.chdir(folder)
    yield folder
    os.chdir(before)


def check(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    code = invoke(words)
    captured = capsys.readouterr()
    said = captured.out + captured.err
    assert "FS9999" not in said, (words, said)
    assert "Traceback" not in said, (words, said)
    assert code in {0, 1, 2, 3, 4, 5, 6, 7, 8}, words
    if code == 0:
        return
    if "--json" in words:
        errors = json.loads(captured.out)["errors"]
        assert all(re.fullmatch(r"FS\d{4}", error["code"]) and error["hint"] for error in errors), (words, errors)
    else:
        assert re.search(r"^FS\d{4} ", captured.err, re.MULTILINE), (words, said)


@settings(
    max_examples=300, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(words=arguments())
@example(words=["backfill", "pipeline.yaml", "--start", "", "--end", "2013-06-01"])
@example(words=["rollback", "pipeline.yaml", "--interval", ""])
@example(words=["history", "pipeline.yaml", "--interval", "a\udcffb"])
@example(words=["explain", "pipeline.yaml", "--html", ""])
@example(words=["data-docs", "-o", "\0"])
@example(words=["apply", "folder.json"])
def test_bad_arguments_end_with_a_code_and_a_hint(words, project, capsys):
    check(words, capsys)


@pytest.mark.parametrize(
    "words",
    [
        *[
            ("test", "pipeline.yaml", "--file", name)
            for name in PATHS
            if name.endswith(".yaml") and name != "pipeline.yaml"
        ],
        ("test", "absent.yaml"),
        ("test", "folder.yaml"),
        ("test", "pipeline.yaml", "-k", "nothing of that name"),
        ("pack", "--without", "nothing-of-that-name"),
        ("pack", "-o", ""),
        ("pack", "-o", "folder.json"),
        ("pack", "-o", "nul.yaml/below.tar.gz"),
        ("doctor", "absent.yaml"),
        ("doctor", "folder.yaml"),
        ("nothing-of-that-name",),
        ("dead-letter", "nothing-of-that-name"),
        ("--nothing",),
    ],
    ids=" ".join,
)
def test_bad_arguments_of_what_works_long_end_likewise(words, project, capsys):
    check(list(words), capsys)
    assert invoke(list(words)) != 0
    capsys.readouterr()


def test_every_verb_is_tried():
    assert {path[0] for path, _ in CALLS} | STARTS_SPARK_OR_WORKS_LONG == set(COMMANDS)
    assert EXAMPLE.is_dir()
