"""A guard at one entrance holds at the next: `security: {mode: strict}` against every way that settings reach Spark."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from firesteel.conf.errors import RuntimeFault, SpecError
from firesteel.jobs.cli.run_options import on_cluster
from firesteel.jobs.spark.session import launch_conf, open_session
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.model import Plan
from firesteel.pipelines.plan.security import DEFAULTS, STRICT, weaknesses
from support.specs import FixedBackend, example_with

AT = "resources: {master: "
WEAK = [
    *((key, "false" if value == "true" else "true" if value == "false" else "1") for key, value in STRICT.items()),
    ("spark.authenticate", " FALSE "),
    ("spark.authenticate", ""),
    ("spark.network.crypto.cipher", "NullCipher"),
    ("spark.ui.enabled", "true"),
    ("spark.ui.enabled", "yes"),
    ("spark.redaction.regex", "nothing"),
]


@pytest.fixture(scope="module")
def strict(tmp_path_factory) -> Plan:
    return _plan(tmp_path_factory.mktemp("strict"), "{mode: strict}")


def _plan(folder: Path, security: str) -> Plan:
    path = example_with(folder, {AT: f"security: {security}\n{AT}"})
    return Pipeline.load(path, params={"root": "file:///data"}, backend=FixedBackend()).sketch()


@pytest.mark.parametrize(("key", "value"), WEAK)
def test_conf_cannot_weaken_a_strict_plan(strict, key, value):
    with pytest.raises(SpecError, match="FS1021") as caught:
        on_cluster(strict, None, {key: value})
    assert key in caught.value.what
    assert caught.value.hint


def test_another_master_needs_the_secret_that_the_spec_would_need(strict):
    with pytest.raises(SpecError, match=r"FS1021.*spark\.authenticate\.secret"):
        on_cluster(strict, "spark://host:7077", {})
    with pytest.raises(SpecError, match="FS1021.*other users can read"):
        on_cluster(strict, "spark://host:7077", {"spark.authenticate.secret": "hunter2"})
    assert on_cluster(strict, "yarn", {}).master == "yarn"


def test_the_ui_filter_and_its_key_cannot_be_removed(tmp_path):
    plan = _plan(tmp_path, "{ui_key: '${secret:spark/ui}'}")
    for settings in ({"spark.ui.filters": ""}, {"spark.ui.filters": "org.example.Open"}):
        with pytest.raises(SpecError, match="FS1021"):
            on_cluster(plan, None, settings)
    kept = on_cluster(plan, None, {"spark.ui.filters": "org.example.More, org.apache.spark.ui.JWSFilter"})
    assert "More" in dict(kept.spark_conf)["spark.ui.filters"]


@pytest.mark.parametrize("key", ["spark.sql.ansi.enabled", "spark.sql.session.timeZone", "spark.sql.caseSensitive"])
def test_conf_cannot_change_rows_under_an_equal_hash(tmp_path, key):
    plan = _plan(tmp_path, "{mode: none}")
    with pytest.raises(SpecError, match=f"FS1022 .*{key}"):
        on_cluster(plan, None, {key: "x"})


def test_settings_of_the_machine_are_still_accepted(strict, tmp_path):
    settings = {"spark.executor.memory": "2g", "spark.sql.shuffle.partitions": "9", "spark.sql.warehouse.dir": "/w"}
    for plan in (strict, _plan(tmp_path, "{mode: none}")):
        assert dict(on_cluster(plan, None, settings).spark_conf).items() >= settings.items()
    assert on_cluster(_plan(tmp_path / "none", "{mode: none}"), None, {"spark.authenticate": "false"}).spark_conf


@given(st.dictionaries(st.sampled_from(sorted(STRICT)), st.sampled_from(["true", "false", "", "2", "1", "TRUE"])))
def test_a_change_of_any_strict_setting_is_a_weakness_unless_it_changes_nothing(changes):
    conf = {**STRICT, **DEFAULTS, "spark.ui.enabled": "false", "spark.redaction.regex": _redaction()}
    assert not weaknesses(conf)
    changed = [key for key, value in changes.items() if value.lower() != STRICT[key]]
    assert len(weaknesses({**conf, **changes})) == len(changed)


def _redaction() -> str:
    from firesteel.pipelines.plan.security import REDACTED

    return f"(?:own)|{REDACTED}"


def test_the_compiler_makes_no_plan_that_its_own_check_refuses(strict, tmp_path):
    for plan in (strict, _plan(tmp_path, "{secret: '${secret:spark/auth}', ui_key: '${secret:spark/ui}'}")):
        assert not weaknesses({**launch_conf(plan), "spark.master": plan.master})


@pytest.mark.integration
def test_a_session_that_is_passed_in_is_held_to_the_plan(spark, strict):
    with (
        pytest.raises(RuntimeFault, match=r"FS9041.*spark\.authenticate is not set") as caught,
        open_session(strict, spark),
    ):
        pass
    assert caught.value.hint


STARTS = """
import sys
from dataclasses import replace
from pathlib import Path
from firesteel.conf.errors import FiresteelError
from firesteel.jobs.spark.session import open_session
from firesteel.pipelines.plan.model import Plan

plan = Plan.from_json(Path(sys.argv[1]).read_text())
try:
    with open_session(plan) as spark:
        print("started", spark.sparkContext.getConf().get("spark.authenticate"))
except FiresteelError as error:
    print(error)
"""


@pytest.mark.integration
@pytest.mark.parametrize("entrance", ["an edited plan", "a driver that spark-submit starts", "spark-defaults.conf"])
def test_no_session_starts_that_is_less_secure_than_its_plan(strict, tmp_path, entrance):
    environment = {**os.environ, "SPARK_LOCAL_IP": "127.0.0.1"}
    plan = replace(strict, master="local[1]")
    if entrance == "an edited plan":
        expected = r"FS9041 .*spark\.authenticate is false, expected true"
        weaker = {**dict(plan.spark_conf), "spark.authenticate": "false"}
        plan = replace(plan, spark_conf=tuple(sorted(weaker.items())))
    elif entrance == "a driver that spark-submit starts":  # its settings are those of the JVM, not those of the plan
        expected = r"FS9041 .*less secure: spark\.io\.encryption\.enabled is false, expected true\. Nothing"
        settings = {**launch_conf(plan), "spark.io.encryption.enabled": "false", "spark.master": "local[1]"}
        line = " ".join(f"--conf '{key}={value}'" for key, value in settings.items())
        environment |= {"SPARK_ENV_LOADED": "1", "PYSPARK_SUBMIT_ARGS": f"{line} pyspark-shell"}
    else:  # the plan's own settings win
        (tmp_path / "spark-defaults.conf").write_text("spark.authenticate false\nspark.ui.enabled true\n")
        environment["SPARK_CONF_DIR"] = str(tmp_path)
        expected = "started true"
    (tmp_path / "plan.json").write_text(plan.to_json())
    words = [sys.executable, "-c", STARTS, str(tmp_path / "plan.json")]
    done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert re.match(expected, done.stdout), done.stdout + done.stderr[-2000:]


def test_every_command_with_conf_applies_it_through_the_one_check():
    """A command that reads --conf by itself would be an entrance without a guard."""
    from firesteel.jobs import cli

    folder = Path(cli.__file__).parent
    for path in folder.glob("*.py"):
        text = path.read_text()
        if "cluster_options" in text and path.name != "run_options.py":
            assert "on_cluster(" in text, path.name
            assert "spark_conf=" not in text, path.name
