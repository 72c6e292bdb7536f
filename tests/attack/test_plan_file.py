"""A plan file is edited between `plan` and `apply`: it is refused before anything is read."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from firesteel.conf.errors import PlanDrift
from firesteel.jobs.cli.main import invoke
from firesteel.pipelines import Pipeline, Plan
from support.data import write_days
from support.specs import FixedBackend, example_with

DAY = "2013-06-01"


@pytest.fixture(scope="module")
def plan(tmp_path_factory) -> Plan:
    folder = tmp_path_factory.mktemp("plan")
    write_days(folder / "data", [DAY])
    spec = example_with(folder / "project", {}, None)
    return Pipeline.load(spec, params={"root": f"file://{folder}/data"}, backend=FixedBackend()).plan(DAY)


def leaves(value: object, path: tuple[str | int, ...] = ()) -> Iterator[tuple[str | int, ...]]:
    """The paths of all values of a JSON document, containers too."""
    if path:
        yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, item in items:
        yield from leaves(item, (*path, key))


def changed(text: str, path: tuple[str | int, ...], value: object) -> str:
    content = json.loads(text)
    *folders, last = path
    at = content
    for key in folders:
        at = at[key]
    if value == "removed":
        del at[last]
    else:
        at[last] = value
    return json.dumps(content)


@settings(max_examples=150)
@given(draw=st.data())
def test_any_edit_is_noticed(plan, draw):
    text = plan.to_json()
    path = draw.draw(st.sampled_from(list(leaves(json.loads(text)))))
    value = draw.draw(st.sampled_from(["removed", "other", "", 7, 7.5, True, None, [], {}, ["x"], {"a": 1}]))
    edited = changed(text, path, value)
    if json.loads(edited) == json.loads(text):
        return
    with pytest.raises(PlanDrift, match="FS6005|FS6003") as caught:
        Plan.from_json(edited)
    assert "Run `firesteel plan` again" in caught.value.hint
    assert (caught.value.code == "FS6005") or path[0] == "format"


@pytest.mark.parametrize("key", ["gates", "storage", "models", "steps", "sinks", "security", "spark_conf", "digest"])
def test_no_part_is_left_out(plan, key):
    with pytest.raises(PlanDrift, match="FS6005"):
        Plan.from_json(changed(plan.to_json(), (key,), "removed"))


def test_white_space_and_the_order_of_keys_do_not_matter(plan):
    content = json.loads(plan.to_json())
    assert Plan.from_json(json.dumps(dict(reversed(content.items())))) == plan


def test_a_key_that_stands_twice_has_one_meaning(plan):
    text = plan.to_json()
    assert Plan.from_json('{"gates": [], ' + text[1:]) == plan
    with pytest.raises(PlanDrift, match="FS6005"):
        Plan.from_json(text.rstrip()[:-1] + ', "gates": []}')


@pytest.mark.parametrize(
    "text", ["[" * 100_000, '{"format": "firesteel-plan/1", "a": ' + "9" * 5000 + "}", "nul", '"x"']
)
def test_what_is_no_plan_is_an_error_of_ours(text):
    with pytest.raises(PlanDrift, match="FS600[35]"):
        Plan.from_json(text)


def test_apply_refuses_before_it_looks_for_anything(plan, tmp_path, capsys):
    file = Path(tmp_path, "plan.json")
    file.write_text(changed(plan.to_json(), ("gates",), []), encoding="utf-8")
    assert invoke(["apply", str(file)]) == 6
    assert "FS6005" in capsys.readouterr().err
    entry = [sys.executable, "-m", "firesteel.jobs.run_plan", "--plan", str(file)]
    submitted = subprocess.run(entry, capture_output=True, text=True, check=False)
    assert (submitted.returncode, "FS6005" in submitted.stderr) == (6, True), submitted.stderr
