"""Every error is ours: files that no command can use end each command with a code and a hint, within seconds."""

from __future__ import annotations

import json
import os
import pty
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.conf.errors import FiresteelError, ModelError, SpecErrors
from firesteel.conf.files import UnusableFileError, read_user_text, unstorable
from firesteel.conf.secret_sources import FolderSource
from firesteel.jobs.cli.main import invoke
from firesteel.jobs.tracking.registry import resolve_model
from firesteel.pipelines import Pipeline
from firesteel.pipelines.publish.policy import VARIABLE, policies
from firesteel.pipelines.storage.local import LocalStorage
from firesteel.rdma_shuffle import settings as shuffle_settings
from firesteel.udfs.digest import digest_of
from firesteel.udfs.mlmodel import read_mlmodel
from support.specs import FixedBackend, example

GIB = 1 << 30
SOURCES = [*Path(__file__).parents[2].glob("*/src/firesteel/**/*.py")]
DEEP = 1200


def _fifo(path: Path) -> None:
    os.mkfifo(path)


def _sparse(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(60 * GIB)


KINDS = {
    "a folder": lambda path: path.mkdir(),
    "a FIFO": _fifo,
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a sparse file of 60 GiB": _sparse,
    "a dangling link": lambda path: path.symlink_to("nowhere"),
    "a link to itself": lambda path: path.symlink_to(path.name),
    "no UTF-8": lambda path: path.write_bytes(bytes(range(256))),
    "UTF-16": lambda path: path.write_bytes("spec_version: 1".encode("utf-16")),
    "deep nesting": lambda path: path.write_text("[" * DEEP),
    "deep and closed": lambda path: path.write_text("[" * 1100 + "]" * 1100),
    "deep mappings": lambda path: path.write_text('{"a": ' * DEEP),
    "a NUL": lambda path: path.write_bytes(b"name: a\0b"),
    "an escaped NUL": lambda path: path.write_text('{"name": "a\\u0000b"}'),
    "half a pair": lambda path: path.write_text('{"name": "a\\ud800b", "\\udfff": 1}'),
    "nothing": lambda path: path.write_bytes(b""),
    "a list": lambda path: path.write_text("[1, 2]"),
    "a number": lambda path: path.write_text("1"),
    "a tag": lambda path: path.write_text('a: !!python/object/apply:os.system ["true"]'),
    "an alias of itself": lambda path: path.write_text("a: &a [*a]"),
    "control characters": lambda path: path.write_bytes(b"a: \x1b[31m\x07"),
}
INTERVAL = ("--start", "2013-06-01")
COMMANDS = {
    "validate": ["validate", "FILE.yaml"],
    "plan": ["plan", "FILE.yaml", *INTERVAL],
    "explain": ["explain", "FILE.yaml"],
    "explain a plan": ["explain", "FILE.json"],
    "diff": ["diff", "FILE.yaml", "FILE.yaml"],
    "diff plans": ["diff", "FILE.json", "FILE.json"],
    "run": ["run", "FILE.yaml", *INTERVAL],
    "backfill": ["backfill", "FILE.yaml", *INTERVAL],
    "apply": ["apply", "FILE.json"],
    "show": ["show", "features", "FILE.yaml", "--interval", "2013-06-01"],
    "test": ["test", "FILE.yaml"],
    "submit": ["submit", "FILE.yaml", *INTERVAL],
    "status": ["status", "FILE.yaml"],
    "history": ["history", "FILE.yaml"],
    "recover": ["recover", "FILE.yaml"],
    "rollback": ["rollback", "FILE.yaml", "--interval", "2013-06-01"],
    "quarantine": ["quarantine", "ls", "FILE.yaml"],
    "dead letters": ["dead-letter", "ls", "FILE.yaml"],
    "audit": ["audit", "ls", "FILE.yaml"],
}


@pytest.fixture(autouse=True)
def _within_seconds() -> Iterator[None]:
    """Interrupt a test that hangs."""
    before = signal.signal(signal.SIGALRM, lambda *_: pytest.fail("no answer within 30 s"))
    signal.alarm(30)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


def answer(capfd, arguments: list[str]) -> str:
    """What a command that must fail says."""
    code = invoke(arguments)
    said = "".join(capfd.readouterr())
    assert code not in {0, 130}, said
    assert re.search(r"FS\d{4}", said), said
    assert "FS9999" not in said
    assert "Traceback" not in said
    return said


READERS = {"validate", "explain a plan", "apply", "diff plans"}
"""Commands that are tried with every kind of file. The others read specs as `validate` does, and are tried with some kinds."""


@pytest.mark.parametrize(
    ("command", "kind"),
    [
        (command, kind)
        for command in COMMANDS
        for kind in KINDS
        if command in READERS or kind in {"a folder", "a FIFO", "no UTF-8", "half a pair"}
    ],
)
def test_a_command_names_the_problem_of_a_bad_file(tmp_path, capfd, command, kind):
    suffix = ".json" if any(word.endswith(".json") for word in COMMANDS[command]) else ".yaml"
    path = tmp_path / f"bad{suffix}"
    KINDS[kind](path)
    answer(capfd, [word.replace(f"FILE{suffix}", str(path)) for word in COMMANDS[command]])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("file", ["sql/features.sql", "tests/cases.yaml", "suite.json"])
def test_a_bad_file_that_a_spec_names_is_an_error_of_the_spec(tmp_path, capfd, kind, file):
    path = example(tmp_path / "project")
    named = path.parent / file
    if file == "suite.json":
        text = path.read_text()
        path.write_text(
            re.sub(r"(\n  input_ok:\n(?:    \S+: .*\n)*?)(    expect:)", r"\1    suite: suite.json\n\2", text)
        )
        assert "suite.json" in path.read_text()
    else:
        named.parent.mkdir(exist_ok=True)
        named.unlink(missing_ok=True)
    KINDS[kind](named)
    command = ["test", str(path), str(named)] if file.startswith("tests") else ["validate", str(path)]
    answer(capfd, [*command, "--param", "root=file:///data"] if "validate" in command else command)


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind != "nothing"])
def test_nobody_may_publish_under_a_bad_policy(tmp_path, kind, monkeypatch):
    from firesteel.pipelines.publish.policy import policies

    path = tmp_path / "policy.yaml"
    KINDS[kind](path)
    if path.exists() and not path.is_symlink():
        path.chmod(0o700 if path.is_dir() else 0o600)
    monkeypatch.setenv(VARIABLE, str(path))
    with pytest.raises(FiresteelError, match="FS7602") as caught:
        policies()
    assert caught.value.hint


@pytest.mark.parametrize("kind", [kind for kind in KINDS if kind not in {"nothing", "a link to itself"}])
def test_a_model_with_a_bad_mlmodel_file_is_an_error_of_the_model(tmp_path, kind):
    KINDS[kind](tmp_path / "MLmodel")
    with pytest.raises(ModelError, match="FS3"):
        resolve_model(
            "m",
            str(tmp_path),
            method="predict",
            trust_formats=("skops",),
            skops_types=(),
            max_size=GIB,
            tracking_uri="",
        )


BAD_TEXTS = ["a\0b", "\ud800", "x\udfffy"]


@pytest.mark.parametrize("text", BAD_TEXTS)
def test_a_param_that_no_path_can_hold_is_refused(tmp_path, text):
    path = example(tmp_path)
    for value in (text, f"file:///{text}"):
        with pytest.raises(SpecErrors, match="FS1008"):
            Pipeline.load(
                path, params={"root": value if "://" in value else f"file:///{value}"}, backend=FixedBackend()
            )


@given(st.binary(max_size=200))
def test_any_bytes_are_text_or_a_problem(tmp_path_factory, data):
    path = tmp_path_factory.mktemp("bytes") / "file"
    path.write_bytes(data)
    try:
        text = read_user_text(path, 100)
    except UnusableFileError as error:
        assert error.why.startswith("is ")
        assert len(data) > 100 or not _is_utf8(data)
    else:
        assert text.encode() in {data, data.removeprefix(b"\xef\xbb\xbf")}


def _policy(path: Path) -> None:
    policies({VARIABLE: str(path)}, Path("/nowhere"))


def _shuffle_secret(path: Path) -> None:
    shuffle_settings.read(
        shuffle_settings.parser().parse_args(["--folder", "f", "--socket", "s", "--cluster-secret", str(path)])
    )


READERS: dict[str, Callable[[Path], object]] = {
    "text": read_user_text,
    "policy": _policy,
    "secret": lambda path: FolderSource(path.parent.parent).find(path.parent.name, path.name),
    "shuffle secret": _shuffle_secret,
    "MLmodel": lambda path: read_mlmodel(path.parent),
    "model": lambda path: digest_of(path.parent, GIB),
    "stored": lambda path: LocalStorage().read(str(path)),
}


@pytest.mark.parametrize("kind", ["a folder", "a FIFO", "an endless device", "a sparse file of 60 GiB"])
@pytest.mark.parametrize("reader", READERS)
def test_each_reader_of_files_refuses_what_is_no_file_and_too_long_files(tmp_path, reader, kind):
    if reader == "stored" and kind == "a sparse file of 60 GiB":
        pytest.skip("callers of the storage limit the length")
    if reader == "model" and kind == "a folder":
        pytest.skip("a model has folders")
    path = tmp_path / "folder" / "MLmodel"
    path.parent.mkdir()
    KINDS[kind](path)
    with pytest.raises((UnusableFileError, FiresteelError)):
        READERS[reader](path)


def test_one_function_opens_the_files_of_users():
    flag = "O_NONBLOCK"  # without it, `open` of a FIFO hangs
    assert {path.name for path in SOURCES if flag in path.read_text(encoding="utf-8")} == {"files.py"}


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


@given(st.text(alphabet=st.characters(exclude_categories=())))
def test_a_text_is_storable_if_utf8_and_c_strings_can_hold_it(text):
    try:
        fits = "\0" not in text and bool(text.encode("utf-8") or True)
    except UnicodeEncodeError:
        fits = False
    assert (not unstorable(text)) == fits


SAYS = """
import json, sys
import click
from firesteel.jobs.cli.console import plain_console
from firesteel.jobs.output import keep_output_open
keep_output_open()
text = json.loads(sys.argv[1])
click.echo(f"by {text}")
plain_console().print(text, markup=False)
print(json.dumps({"run": text}, ensure_ascii=False))
click.echo(text, err=True)
"""
HOSTILE = "run\x1b]0;title\x07\x1b[2J\x1b[8mhidden\x1b[0m\x9b31m\r\x08\u202etxt.exe\x7f"


def test_text_of_others_does_not_control_the_terminal():
    words = [sys.executable, "-c", SAYS, json.dumps(HOSTILE)]
    done = subprocess.run(words, capture_output=True, check=True, timeout=60)
    for text in (done.stdout.decode(), done.stderr.decode()):
        assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text), repr(text)
    assert json.loads(done.stdout.decode().splitlines()[-1]) == {"run": HOSTILE}  # still JSON
    terminal, end = pty.openpty()
    subprocess.run(words, stdout=end, stderr=subprocess.DEVNULL, check=True, timeout=60)
    os.close(end)
    shown = b""
    while len(chunk := _read(terminal)):
        shown += chunk
    sequences = re.findall(r"\x1b[^a-zA-Z]*.?", shown.decode())
    assert all(re.fullmatch(r"\x1b\[[0-9;]*m", sequence) for sequence in sequences), sequences
    assert "\x1b[8m" not in sequences
    assert not re.search("[\x07\x08\x7f-\x9f\u202e]", shown.decode())


NO_OUTPUT = {
    "firesteel.jobs.embedded.launch",  # executes a command of its parent
    "firesteel.jobs.gates.catalogue",  # a tool of developers, without arguments
    "firesteel.rdma_shuffle.service",  # prints its own arguments and JSON in ASCII
}


def programs() -> list[str]:
    """Return the modules of firesteel that run as programs."""
    return sorted(
        ".".join(path.with_suffix("").parts[path.parts.index("src") + 1 :]).removesuffix(".__main__")
        for path in SOURCES
        if 'if __name__ == "__main__":' in path.read_text(encoding="utf-8")
    )


def test_programs_are_found():
    assert {"firesteel.jobs.cli.main", "firesteel.jobs.run_plan", *NO_OUTPUT} <= {*programs()}


@pytest.mark.parametrize("name", sorted({*programs()} - NO_OUTPUT))
def test_each_program_escapes_control_characters(name):
    words = ["--plan", HOSTILE] if name == "firesteel.jobs.run_plan" else [HOSTILE]
    done = subprocess.run([sys.executable, "-m", name, *words], capture_output=True, check=False, timeout=60)
    text = (done.stdout + done.stderr).decode()
    assert "txt.exe" in text
    assert not re.search("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]", text), repr(text)


def _read(terminal: int) -> bytes:
    try:
        return os.read(terminal, 65536)
    except OSError:  # the other end is closed
        return b""
