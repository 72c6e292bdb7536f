"""Whatever the text: coded errors on one line each, or a pipeline. Never a traceback, in bounded time and memory.

FIRESTEEL_FUZZ_CASES=20000 looks longer.
"""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys

import pytest
from ruamel.yaml import YAML

from firesteel.conf.codes import CODES
from firesteel.conf.errors import SpecErrors
from firesteel.pipelines.planner.builder import sketch
from firesteel.pipelines.planner.check import check
from firesteel.pipelines.spec.load import load_spec
from support.mutations import mutated
from support.specs import EXAMPLE, FixedBackend, example_with

CASES = int(os.environ.get("FIRESTEEL_FUZZ_CASES", "120"))


def _errors(path, params=None):
    try:
        loaded = load_spec(path, params={"root": "file:///tmp/none", **(params or {})}, environ={"HOME": "/home"})
        sketch(loaded, check(loaded, FixedBackend()), FixedBackend())
    except SpecErrors as error:
        return error.errors
    return ()


def test_a_spec_that_was_changed_at_random_is_a_pipeline_or_coded_errors(tmp_path):
    yaml = YAML(typ="safe", pure=True)
    whole = yaml.load((EXAMPLE / "pipeline.yaml").read_text(encoding="utf-8"))
    path = example_with(tmp_path, {})
    passed = 0
    for seed in range(CASES):
        spec, text = mutated(random.Random(seed), whole), io.StringIO()
        yaml.dump(spec, text)
        path.write_text(text.getvalue(), encoding="utf-8")
        try:
            first, second = _errors(path), _errors(path)
        except Exception as error:
            raise AssertionError(f"seed {seed}: {path.read_text(encoding='utf-8')}") from error
        passed += not first
        assert [str(each) for each in first] == [str(each) for each in second], f"seed {seed}"
        for each in first:
            assert each.code in CODES, f"seed {seed}: {each}"
            assert each.what, f"seed {seed}"
            assert str(each).isprintable(), f"seed {seed}: {each!r}"
    assert 0 < passed < CASES, "both happen"


HOSTILE = {
    "items": "a:\n" + "- x\n" * 250_000,
    "flow": "a: [" + "1," * 500_000 + "]",
    "deep": "[" * 500_000,
    "deep blocks": "".join(" " * min(depth, 900) + "a:\n" for depth in range(1200)),
    "keys": "".join(f"k{number}: 1\n" for number in range(20_000)),
    "bomb": "a: &a [x, x, x, x, x, x, x, x, x, x]\n"
    + "".join(f"{b}: &{b} [{', '.join([f'*{a}'] * 10)}]\n" for a, b in zip("abcdefghijk", "bcdefghijkl", strict=True)),
    "itself": "a: &a [*a]",
    "braces": "{" * 200_000,
    "sql": "spec_version: 1\nsteps: {a: {sql: 'SELECT " + "(" * 100_000 + "'}}",
    "reference": "name: " + "${param." * 30_000,
}
LIMITED = """
import re, resource, sys
from pathlib import Path
resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
resource.setrlimit(resource.RLIMIT_CPU, (60, 60))
from firesteel.jobs.cli.main import invoke
code = invoke(["validate", sys.argv[1]])
# Not ru_maxrss: Linux hands the parent's, who forked this process, on to it.
print(re.search(r"VmHWM:\\s*(\\d+) kB", Path("/proc/self/status").read_text())[1])
sys.exit(code)
"""


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_files_end_in_coded_errors_in_bounded_time_and_memory(name, tmp_path):
    path = tmp_path / "pipeline.yaml"
    path.write_text(HOSTILE[name], encoding="utf-8")
    done = subprocess.run([sys.executable, "-c", LIMITED, str(path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stderr[-2000:]
    assert done.stderr.startswith("FS10")
    assert "Traceback" not in done.stderr
    assert int(done.stdout.splitlines()[-1]) < 1 << 20, "KiB"


HOSTILE_VALUES = [
    "x' OR '1'='1",
    "1; DROP TABLE x",
    "-- ",
    "/*",
    "${param.root}",
    "${env:HOME}",
    ":min_distance",
    "a`b",
    "\\'",
]


@pytest.mark.parametrize("value", HOSTILE_VALUES)
def test_a_params_value_never_becomes_sql_or_a_reference(value, tmp_path):
    changes = {
        "origins: {type: array<string>, default: [JFK, LGA, EWR]}": "origins: {type: array<string>, default: [JFK, LGA, EWR]}\n  tail: {type: string, default: x}",
        'args: {min_distance: "${param.min_distance}"}': 'args: {min_distance: "${param.min_distance}", tail: "${param.tail}"}',
    }
    path = example_with(tmp_path, changes, {"WHERE f.distance": "WHERE f.flight_id <> :tail AND f.distance"})
    loaded = load_spec(path, params={"root": "file:///tmp/none", "tail": value}, environ={"HOME": "/home"})
    plan = sketch(loaded, check(loaded, FixedBackend()), FixedBackend())
    step = plan.steps[0]
    assert step.sql == (tmp_path / "sql" / "features.sql").read_text(encoding="utf-8"), "the SQL is the file's"
    assert dict(step.args)["tail"] == value, "bound as it is"


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"path: ${param.root}/scores": "path: ${param.root}/../scores"}, "FS1015"),
        ({"path: ${param.root}/scores": "path: ${param.root}/%2e%2e/scores"}, "FS1015"),
        ({"path: ${param.root}/scores": "path: scores"}, "FS1015"),
        ({"path: ${param.root}/scores": 'path: "${param.root}/a\\nb"'}, "FS1015"),
        ({"path: ${param.root}/scores": 'path: "${param.root}/a\\\\..\\\\b"'}, "FS1015"),
        ({"storage: ${param.root}/": "storage: ${param.root}/../"}, "FS1015"),
        ({"storage: ${param.root}/": 'storage: "file:///a${param.root/"   # '}, "FS1007"),
        ({"sql/features.sql": "../features.sql"}, "FS1015"),
        ({"sql/features.sql": "/etc/passwd"}, "FS1015"),
        ({"name: flight_delay_scores": "name: ../x"}, "FS1004"),
    ],
)
def test_a_path_that_climbs_out_is_refused(change, code, tmp_path):
    assert code in {error.code for error in _errors(example_with(tmp_path, change))}


def test_a_link_out_of_the_specs_folder_is_refused(tmp_path):
    outside = tmp_path / "outside.sql"
    outside.write_text("SELECT 1", encoding="utf-8")
    path = example_with(tmp_path / "p", {"sql/features.sql": "link.sql"})
    (tmp_path / "p" / "link.sql").symlink_to(outside)
    assert {error.code for error in _errors(path)} == {"FS1015"}


@pytest.mark.parametrize("root", ["file:///a/../b", "file:///a\nb", "hdfs://nn/%2E%2E/x"])
def test_a_location_param_that_climbs_out_is_refused(root, tmp_path):
    assert {error.code for error in _errors(example_with(tmp_path, {}), {"root": root})} & {"FS1015", "FS1008"}
