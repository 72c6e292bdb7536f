"""What documents show is what the code takes: specs are valid, verbs and options exist, links lead somewhere."""

from __future__ import annotations

import ast
import json
import re
import shlex
from itertools import groupby
from pathlib import Path

import click
import pytest
from ruamel.yaml import YAML

from firesteel.jobs.cli.main import cli
from firesteel.pipelines.publish.policy import PolicyFile
from firesteel.pipelines.spec.load import load_spec
from firesteel.pipelines.spec.model import Score, Spec
from support.documents import ROOT, Block, blocks, documents

BLOCKS = [block for document in documents() for block in blocks(document)]
LANGUAGES = {"bash", "python", "yaml", "text", "sql", "properties"}


def of(*languages: str) -> list[Block]:
    return [block for block in BLOCKS if block.language in languages]


@pytest.mark.parametrize("block", BLOCKS, ids=str)
def test_a_block_says_what_it_is(block):
    assert block.language in LANGUAGES


@pytest.mark.parametrize("block", of("python"), ids=str)
def test_python_compiles(block):
    ast.parse(block.text)


def commands(text: str) -> list[list[str]]:
    """The firesteel lines of a shell block, without what a shell does with them."""
    found = []
    for line in text.replace("\\\n", " ").splitlines():
        lexer = shlex.shlex(line, posix=True, punctuation_chars=";&|")  # one in a comment or in quotes ends no command
        lexer.whitespace_split = True
        for ends, words in groupby(lexer, lambda word: word in {";", "&&", "||"}):
            first, *rest = words
            if not ends and first == "firesteel":
                found.append(rest)
    return found


def lines() -> list[tuple[str, list[str]]]:
    return [(f"{block} {' '.join(words)}", words) for block in of("bash") for words in commands(block.text)]


@pytest.mark.parametrize("words", [words for _, words in lines()], ids=[name for name, _ in lines()])
def test_the_command_line_takes_it(words):
    command: click.Command = cli
    context = click.Context(command, info_name="firesteel")
    while isinstance(command, click.Group) and words and not words[0].startswith("-"):
        found = command.get_command(context, words[0])
        assert found is not None, f"no verb {words[0]}"
        command, words = found, words[1:]
        context = click.Context(command, info_name=command.name, parent=context)
    command.make_parser(context).parse_args(list(words))


def place(fragment: dict) -> dict:
    """A spec's fragment, as deep in the spec as its keys say."""
    if fragment.keys() <= {field.alias or name for name, field in Spec.model_fields.items()}:
        return fragment
    if fragment.keys() <= {field.alias or name for name, field in Score.model_fields.items()}:
        return {"steps": {"scored": {"score": fragment}}}
    assert all(isinstance(value, dict) and value.keys() & {"score", "sql", "sql_file"} for value in fragment.values())
    return {"steps": fragment}


def merged(base: dict, over: dict) -> dict:
    both = {
        key: merged(base[key], over[key])
        for key in base.keys() & over.keys()
        if isinstance(base[key], dict) and isinstance(over[key], dict)
    }
    return {**base, **over, **both}


@pytest.mark.parametrize("block", of("yaml"), ids=str)
def test_a_piece_of_a_spec_is_valid_in_the_example(block, tmp_path):
    yaml = YAML(typ="safe")
    piece = yaml.load(block.text)
    if "test_version" in piece:
        pytest.skip("a test file: tests/integration/test_cases.py runs them")
    if "policy_version" in piece:
        assert PolicyFile.model_validate(piece).allow
        return
    example = ROOT / "examples" / "flights" / "pipeline.yaml"
    spec = piece if "spec_version" in piece else merged(yaml.load(example.read_text(encoding="utf-8")), place(piece))
    (tmp_path / "sql").mkdir()
    (tmp_path / "sql" / "features.sql").write_bytes((example.parent / "sql" / "features.sql").read_bytes())
    for name in (gate["suite"] for gate in spec.get("gates", {}).values() if "suite" in gate):
        suite = {"expectations": [{"type": "expect_table_row_count_to_be_between", "kwargs": {"min_value": 1}}]}
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(json.dumps(suite), encoding="utf-8")
    with (tmp_path / "pipeline.yaml").open("w", encoding="utf-8") as file:
        yaml.dump(spec, file)
    params = {"root": "file:///data"} if "root" in spec.get("params", {}) else {}
    loaded = load_spec(tmp_path / "pipeline.yaml", params=params, environ={"MLFLOW_TRACKING_URI": "sqlite:///m.db"})
    assert [str(error) for error in loaded.errors] == []


@pytest.mark.parametrize("document", documents(), ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document):
    for target in re.findall(r"\]\(([^)#\s]+)(?:#[^)]*)?\)", document.read_text(encoding="utf-8")):
        if not re.match(r"[a-z]+:", target):
            assert (document.parent / target).exists(), target


def test_what_is_not_run_says_why():
    assert all(len(block.not_run) > 15 for block in BLOCKS if block.not_run)
    assert Path(ROOT / "docs" / "tutorial.md") not in {block.document for block in BLOCKS if block.not_run}
