"""`security: {mode: strict}` holds for each connection to MLflow, whatever made it, also if the environment names the server."""

from __future__ import annotations

import ast
import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

import firesteel.jobs
from firesteel.conf.errors import RuntimeFault
from firesteel.jobs.backend import SparkBackend
from firesteel.jobs.cli.main import invoke
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline
from firesteel.pipelines.publish import policy as module
from support.fault_proxy import FaultProxy, fault_proxy
from support.specs import FixedBackend, example_with

AT = "resources: {master: "
POLICY = 'policy_version: 1\nallow: [{sink: "**", users: ["*"]}]\n'
ENVIRONMENTS = {
    "tracking": {"MLFLOW_TRACKING_URI": "http://mlflow.invalid"},
    "registry": {"MLFLOW_TRACKING_URI": "https://mlflow.invalid", "MLFLOW_REGISTRY_URI": "http://registry.invalid"},
    "certificates": {"MLFLOW_TRACKING_URI": "https://mlflow.invalid", "MLFLOW_TRACKING_INSECURE_TLS": "true"},
}


@pytest.fixture(params=ENVIRONMENTS)
def proxy(request, tmp_path, monkeypatch) -> Iterator[FaultProxy]:
    """An HTTP(S) proxy that sees each request to a server, in an environment that is less secure than the spec."""
    monkeypatch.setattr("mlflow.tracking._tracking_service.utils._tracking_uri", None)  # other tests set one
    monkeypatch.setattr(module, "SITE", tmp_path / "none.yaml")
    (tmp_path / "policy.yaml").write_text(POLICY)
    (tmp_path / "policy.yaml").chmod(0o644)
    monkeypatch.setenv("FIRESTEEL_POLICY", str(tmp_path / "policy.yaml"))
    with fault_proxy("http://127.0.0.1:1") as proxy:
        for name in ("HTTP_PROXY", "HTTPS_PROXY"):
            monkeypatch.setenv(name, proxy.uri)
        for name, value in ENVIRONMENTS[request.param].items():
            monkeypatch.setenv(name, value)
        yield proxy


@pytest.fixture
def spec(tmp_path) -> Path:
    return example_with(tmp_path / "project", {AT: f"security: {{mode: strict}}\n{AT}"})


def test_a_plan_does_not_ask_for_models(proxy, spec):
    pipeline = Pipeline.load(spec, params={"root": f"file://{spec.parent}"}, backend=SparkBackend())
    with pytest.raises(RuntimeFault, match="FS9041"):
        pipeline.plan("2013-06-01")
    assert proxy.calls == []


def test_doctor_does_not_connect(proxy, spec, capsys):
    assert invoke(["doctor", str(spec), "--json", "--param", f"root=file://{spec.parent}"]) == 1
    check = next(check for check in json.loads(capsys.readouterr().out) if check["subject"] == "mlflow")
    assert (check["state"], "security.mode is strict" in check["found"]) == ("fail", True)
    assert proxy.calls == []


def test_recover_does_not_connect(proxy, spec, caplog):
    assert invoke(["recover", str(spec), "--param", f"root=file://{spec.parent}"]) == 0
    assert "security.mode is strict" in caplog.text
    assert proxy.calls == []


def test_a_run_that_skips_does_not_connect(proxy, spec, caplog):
    pipeline = Pipeline.load(spec, params={"root": f"file://{spec.parent}"}, backend=FixedBackend())
    assert run_plan(replace(pipeline.sketch(), intervals=())).state == "skipped"
    assert "security.mode is strict" in caplog.text
    assert proxy.calls == []


CONNECTS = {"connect", "open_experiment", "find_version", "fetch_pinned", "settle_runs"}
"""Functions that connect to MLflow."""
FROM_HELD = {
    "backend.resolve_model": "build_plan",
    "run.models.distribute_challenger": "run_plan",
    "demo.model.train_model": "no spec",
}
"""Other functions that call one of them, and the held function that calls them."""


def test_each_function_that_connects_is_held_to_the_security_of_a_plan_or_spec():
    root = Path(firesteel.jobs.__file__).parent
    unheld = set()
    for file in root.rglob("*.py"):
        if file.parent.name == "tracking":
            continue
        functions = [node for node in ast.walk(ast.parse(file.read_text())) if isinstance(node, ast.FunctionDef)]
        names = {
            function.name: {_name(call.func) for call in ast.walk(function) if isinstance(call, ast.Call)}
            for function in functions
        }
        held = {function.name for function in functions if "held_to_security" in map(_name, function.decorator_list)}
        for _ in functions:  # callers of the same module hold what they call
            held |= {
                name
                for name in names
                if (callers := {other for other in names if name in names[other]}) and callers <= held
            }
        where = ".".join(file.relative_to(root).with_suffix("").parts)
        unheld |= {
            f"{where}.{name}" for name in names if names[name] & (CONNECTS | {"resolve_model"}) and name not in held
        }
    assert unheld - {"testing.prepare.resolve_model"} == FROM_HELD.keys()  # a test backend asks the real one


def _name(node: ast.expr) -> str:
    return getattr(node, "id", getattr(node, "attr", ""))
