"""`dead-letter ls` and `dead-letter show` over files as runs leave them."""

from __future__ import annotations

import json

import pytest

from firesteel.jobs.cli.main import invoke
from support.specs import EXAMPLE

RUN = "20130602T0310-ab12"
SPEC = str(EXAMPLE / "pipeline.yaml")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "data/_firesteel/flight_delay_scores/dead_letter/scored/2013-06-01"
    folder.mkdir(parents=True)
    dead_letters = [
        {"row": {"flight_id": number, "name": "Zoë"}, "error": error, "message": message, "model_version": "7"}
        for number, (error, message) in enumerate(
            [("KeyError", "'wind'"), *[("ValueError", f"a negative \x1b[31mnumber, {n}") for n in range(24)]]
        )
    ]
    lines = [json.dumps(letter, ensure_ascii=False) for letter in dead_letters]
    (folder / f"{RUN}.jsonl").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return tmp_path / "data"


def call(*words: str, root) -> int:
    return invoke(["dead-letter", *words, "--param", f"root=file://{root}"])


def test_ls_shows_the_count_the_message_of_each_error_and_the_path(root, capsys):
    assert call("ls", SPEC, root=root) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        f"2013-06-01  scored  25 rows, closed, model version 7, run {RUN}",
        r"         24  ValueError: a negative \x1b[31mnumber, 0",
        "          1  KeyError: 'wind'",
        f"             file://{root}/_firesteel/flight_delay_scores/dead_letter/scored/2013-06-01/{RUN}.jsonl",
    ]


def test_ls_as_json_has_all_of_it(root, capsys):
    assert call("ls", SPEC, "--json", root=root) == 0
    (found,) = json.loads(capsys.readouterr().out)
    assert (found["run_id"], found["rows"], found["open"]) == (RUN, 25, False)
    assert found["errors"][1] == {"error": "KeyError", "rows": 1, "message": "'wind'"}
    assert found["path"].startswith(f"file://{root}")


def test_show_prints_rows_up_to_the_limit_and_says_where_the_others_are(root, capsys):
    assert call("show", RUN, SPEC, "--limit", "2", root=root) == 0
    shown = capsys.readouterr().out.splitlines()
    assert shown[1:3] == ["  KeyError: 'wind'", '    {"flight_id": 0, "name": "Zoë"}']
    assert len(shown) == 6
    assert shown[-1].startswith("  ... 23 more in file://")
    assert call("show", RUN, SPEC, "--json", root=root) == 0
    assert len(json.loads(capsys.readouterr().out)[0]["dead_letters"]) == 20


def test_show_of_a_run_without_dead_letters_says_so(root, capsys):
    assert call("show", "another", SPEC, root=root) == 1
    assert "FS8003 run another has no dead letters." in capsys.readouterr().err


@pytest.mark.parametrize("line", ["{", "[]", '{"error": "E"}', "\x00"])
def test_a_file_that_was_cut_is_named_with_its_line(root, capsys, line):
    path = next(root.rglob("*.jsonl"))
    path.write_text(path.read_text(encoding="utf-8") + line + "\n", encoding="utf-8")
    assert call("ls", SPEC, root=root) == 1
    error = capsys.readouterr().err
    assert "FS8006" in error
    assert f"{RUN}.jsonl:26" in error
