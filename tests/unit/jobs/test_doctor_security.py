from __future__ import annotations

import json

import pytest

from firesteel.jobs.cli.main import invoke
from firesteel.pipelines.publish import policy as module
from support.specs import example_with

AT = "resources: {master: "


@pytest.fixture(autouse=True)
def _alone(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "SITE", tmp_path / "none.yaml")
    for name in ("FIRESTEEL_POLICY", "FIRESTEEL_SECRETS_DIR", "MLFLOW_TRACKING_INSECURE_TLS", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


def look(tmp_path, capsys, changes=None, root="file:///data", code=0) -> dict[str, tuple[str, str]]:
    path = example_with(tmp_path / "p", changes or {})
    assert invoke(["doctor", str(path), "--security", "--json", "--param", f"root={root}"]) == code
    return {each["subject"]: (each["state"], each["found"]) for each in json.loads(capsys.readouterr().out)}


def test_a_plain_spec_has_everything_off_and_is_told_so(tmp_path, capsys):
    found = look(tmp_path, capsys)
    off = {subject for subject, (state, _) in found.items() if state == "note"}
    assert off == {"policy", "secrets", "rpc", "network", "disk", "ui", "redaction"}


def test_a_strict_spec_has_it_on(tmp_path, capsys, monkeypatch):
    (tmp_path / "secrets").mkdir(mode=0o700)
    monkeypatch.setenv("FIRESTEEL_SECRETS_DIR", str(tmp_path / "secrets"))
    policy = tmp_path / "policy.yaml"
    policy.write_text('policy_version: 1\nallow: [{sink: "**", users: ["*"]}]\n')
    policy.chmod(0o644)
    monkeypatch.setenv("FIRESTEEL_POLICY", str(policy))
    found = look(tmp_path, capsys, {AT: f"security: {{ui_key: '${{secret:spark/ui}}'}}\n{AT}"})
    assert {state for state, _ in found.values()} == {"ok"}
    assert found["ui"][1] == "requires a token"


def test_hdfs_and_servers_in_the_clear_are_named(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("HADOOP_CONF_DIR", str(tmp_path))
    changes = {
        "experiment: /batch/flight_delay}": 'experiment: x, uri: "http://ml:${secret:a/b}@mlflow.example.org"}',
        "trust: {formats: [skops, onnx]": "trust: {formats: [skops, pickle]",
        "configuration: {": 'configuration: {spark.eventLog.enabled: "true", ',
    }
    found = look(tmp_path, capsys, changes, root="hdfs://nn.example.org:8020/ml")
    assert found["mlflow"] == ("note", "http://mlflow.example.org is reached without encryption")
    assert found["webhdfs"][1].startswith("http://nn.example.org:9870")
    assert found["hdfs"][0] == found["hdfs wire"][0] == found["model"][0] == found["event log"][0] == "note"


def test_certificates_that_nobody_verifies_are_a_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_INSECURE_TLS", "true")
    changes = {"experiment: /batch/flight_delay}": 'experiment: x, uri: "https://mlflow.example.org"}'}
    assert look(tmp_path, capsys, changes, code=1)["mlflow"][0] == "fail"


def test_a_policy_that_cannot_be_used_is_a_failure(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("FIRESTEEL_POLICY", str(tmp_path / "gone.yaml"))
    assert look(tmp_path, capsys, code=1)["policy"][0] == "fail"
