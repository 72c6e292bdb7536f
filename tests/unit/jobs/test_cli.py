from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from firesteel.conf.quantities import byte_size
from firesteel.jobs.cli.main import COMMANDS, invoke
from support.specs import EXAMPLE, example_with

ROOT = Path(__file__).parents[3]


def test_every_verb_has_help(capsys):
    for verb in COMMANDS:
        assert invoke([verb, "--help"]) == 0
        assert f"firesteel {verb}" in capsys.readouterr().out


def test_help_imports_nothing_heavy():
    code = "import sys; from firesteel.jobs.cli.main import invoke; invoke(['--help']); print([n for n in ('pyspark','mlflow','great_expectations','pydantic','sqlglot','pandas') if n in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.rstrip().endswith("[]")


def test_validate_says_what_is_there(capsys):
    assert invoke(["validate", str(EXAMPLE / "pipeline.yaml"), "--param", "root=file:///data"]) == 0
    assert "valid. flight_delay_scores: 2 sources, 2 steps, 2 gates, 1 sink." in capsys.readouterr().out


def test_validate_says_what_only_plan_can_check_and_strict_refuses_it(tmp_path, capsys):
    columns = "columns: {origin: string!, hour: int!, temp: double, wind_speed: double, precip: double, visib: double}"
    path = example_with(tmp_path, {f"      {columns}\n": ""})
    assert invoke(["validate", str(path), "--param", "root=file:///data"]) == 0
    assert "`plan` checks the columns of weather, features: a source declares no columns." in capsys.readouterr().out
    assert invoke(["validate", str(path), "--param", "root=file:///data", "--strict"]) == 2
    assert "FS1016 pipeline.yaml:26:3  weather declares no columns. Add sources.weather.contract.columns." in (
        capsys.readouterr().err
    )


def test_validate_shows_all_errors_and_exits_2(tmp_path, capsys):
    path = example_with(tmp_path, {"partition_by:": "partiton_by:", "model: delay": "model: dely"})
    assert invoke(["validate", str(path), "--param", "root=file:///data"]) == 2
    shown = capsys.readouterr().err
    assert "FS1003" in shown
    assert "FS1010" in shown
    assert "2 errors." in shown
    assert invoke(["validate", str(path), "--param", "root=file:///data", "--json"]) == 2
    assert [error["code"] for error in json.loads(capsys.readouterr().out)["errors"]] == ["FS1010", "FS1003"]


def test_a_usage_error_exits_2_and_names_the_option(capsys):
    assert invoke(["plan", str(EXAMPLE / "pipeline.yaml")]) == 2
    assert "--start" in capsys.readouterr().err
    assert invoke(["validate", "--param", "root"]) == 2
    assert "is not NAME=VALUE" in capsys.readouterr().err


def test_init_writes_a_starter_that_validates_and_keeps_what_exists(tmp_path, capsys):
    assert invoke(["init", str(tmp_path)]) == 0
    assert invoke(["validate", str(tmp_path / "pipeline.yaml")]) == 0
    (tmp_path / "pipeline.yaml").write_text("mine", encoding="utf-8")
    assert invoke(["init", str(tmp_path)]) == 0
    assert (tmp_path / "pipeline.yaml").read_text(encoding="utf-8") == "mine"
    assert (
        json.loads((tmp_path / ".schema" / "pipeline-v1.json").read_text(encoding="utf-8"))["title"]
        == "firesteel pipeline"
    )
    capsys.readouterr()


def test_an_apply_of_no_plan_exits_6(tmp_path, capsys):
    (tmp_path / "plan.json").write_text("{}", encoding="utf-8")
    assert invoke(["apply", str(tmp_path / "plan.json")]) == 6
    assert "FS6003" in capsys.readouterr().err


@pytest.mark.parametrize(("count", "text"), [(0, "0 B"), (1023, "1,023 B"), (1536, "1.5 KiB"), (5 << 30, "5.0 GiB")])
def test_sizes_read_well(count, text):
    assert byte_size(count) == text


def test_the_generated_reference_is_true():
    done = subprocess.run(
        [sys.executable, str(ROOT / "tools" / "reference.py"), "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout
