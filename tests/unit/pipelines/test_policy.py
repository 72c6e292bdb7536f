"""Who may publish where: the policy's words, and that no way around a transaction leads into a sink."""

from __future__ import annotations

from pathlib import Path

import pytest

from firesteel.conf.errors import NotAllowed
from firesteel.conf.identity import os_user
from firesteel.pipelines import Pipeline
from firesteel.pipelines.publish import policy as module
from firesteel.pipelines.publish.audit import read_audit, verify
from firesteel.pipelines.publish.lease import read_states
from firesteel.pipelines.publish.ledger import Ledger
from firesteel.pipelines.publish.policy import Request, authorise, policies
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.state_store import SinkInterval
from firesteel.pipelines.publish.transaction import Transaction
from support.data import write_days
from support.publishing import (
    COUNTS,
    INTERVAL,
    NEW,
    PLANNED,
    SINK,
    area_of,
    attempt_of,
    publish,
    sink_of,
    stage,
    visible,
)
from support.specs import FixedBackend, example

ME = os_user()


def write(path: Path, *rules: str, more: str = "") -> Path:
    body = "".join(f"  - {rule}\n" for rule in rules)
    path.write_text(f"policy_version: 1\n{more}allow:\n{body}" if rules else f"policy_version: 1\n{more}allow: []\n")
    path.chmod(0o644)
    return path


@pytest.fixture
def policy(tmp_path, monkeypatch) -> Path:
    """A policy that allows nothing yet; the machine's own does not count."""
    monkeypatch.setattr(module, "SITE", tmp_path / "no-site-policy.yaml")
    monkeypatch.setenv("FIRESTEEL_POLICY", str(tmp_path / "policy.yaml"))
    return write(tmp_path / "policy.yaml")


def allows(path: Path, user="ann", pipeline="p", profile="prod", sink="hdfs://nn:8020/ml/scores", storage="") -> str:
    storage = storage or f"{sink.rpartition('/')[0]}/_firesteel/p"
    return authorise(Request(user, pipeline, profile, sink, storage), found=policies({"FIRESTEEL_POLICY": str(path)}))


@pytest.mark.parametrize(
    ("rule", "allowed"),
    [
        ('{sink: "hdfs://nn:8020/ml/scores", users: [ann]}', True),
        ('{sink: "hdfs://nn/ml/scores/", users: [bob, ann]}', True),
        ('{sink: "hdfs://nn/ml/scores", users: ["*"], pipelines: [p], profiles: [prod]}', True),
        ('{sink: "hdfs://nn/ml/*", users: [ann]}', True),
        ('{sink: "hdfs://nn/**", users: [ann]}', True),
        ('{sink: "hdfs://nn/*/scores", users: [ann]}', True),
        ('{sink: "**", users: [ann]}', True),
        ('{sink: "hdfs://nn/*", users: [ann]}', False),
        ('{sink: "hdfs://nn/ml/score", users: [ann]}', False),
        ('{sink: "hdfs://nn/ml/scores/dt", users: [ann]}', False),
        ('{sink: "hdfs://nn2/ml/scores", users: [ann]}', False),
        ('{sink: "file:///ml/scores", users: [ann]}', False),
        ('{sink: "hdfs://nn/ml/scores", users: [bob]}', False),
        ('{sink: "hdfs://nn/ml/scores", users: [ann], pipelines: [q]}', False),
        ('{sink: "hdfs://nn/ml/scores", users: [ann], profiles: [dev]}', False),
    ],
)
def test_a_rule_allows_what_it_names_and_nothing_else(policy, rule, allowed):
    write(policy, rule)
    if allowed:
        assert allows(policy).endswith(" rule 1")
    else:
        with pytest.raises(NotAllowed, match=r"FS7601 .*ann may not publish p \(prod\) to hdfs://nn:8020/ml/scores"):
            allows(policy)


def test_a_link_to_a_sink_is_the_sink(policy, tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write(policy, f'{{sink: "file://{tmp_path}/real", users: [ann]}}')
    assert allows(policy, sink=f"file://{tmp_path}/link")
    write(policy, f'{{sink: "file://{tmp_path}/link", users: [ann]}}')
    assert allows(policy, sink=f"file://{tmp_path}/real")
    write(policy, f'{{sink: "file://{tmp_path}/mine/**", users: [ann]}}')
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "way-out").symlink_to(tmp_path / "real")
    assert allows(policy, sink=f"file://{tmp_path}/mine/scores")
    with pytest.raises(NotAllowed):
        allows(policy, sink=f"file://{tmp_path}/mine/way-out")


@pytest.mark.parametrize(
    ("text", "mode", "said"),
    [
        ("policy_version: 1\nallow: [", 0o644, r"FS7602 .*policy.yaml:\d+  the policy is not valid YAML"),
        ("policy_version: 2\nallow: []\n", 0o644, "is not a valid policy: policy_version"),
        ("policy_version: 1\nallow: []\nalow: []\n", 0o644, "is not a valid policy: alow"),
        (
            'policy_version: 1\nallow: [{sink: "scores", users: [ann]}]\n',
            0o644,
            r"is not a valid policy: allow\.0\.sink",
        ),
        ('policy_version: 1\nallow: [{sink: "**", users: ann}]\n', 0o644, r"is not a valid policy: allow\.0\.users"),
        ("", 0o644, "is not a valid policy"),
        ("policy_version: 1\nallow: []\n", 0o646, r"is writable by users other than its owner \(mode 0646\)"),
        ("policy_version: 1\nallow: []\n", 0o664, "is writable by users other"),
        (None, 0o644, "cannot be read: No such file or directory"),
    ],
)
def test_a_policy_that_cannot_be_trusted_lets_nobody_publish(policy, text, mode, said):
    policy.unlink()
    if text is not None:
        policy.write_text(text)
        policy.chmod(mode)
    with pytest.raises(NotAllowed, match=said):
        allows(policy)


def test_the_variable_cannot_loosen_the_sites_policy(policy, tmp_path):
    site = write(tmp_path / "site.yaml", '{sink: "**", users: [bob]}')
    write(policy, '{sink: "**", users: [ann, bob]}')
    environ = {"FIRESTEEL_POLICY": str(policy)}
    assert (
        authorise(Request("bob", "p", "prod", "hdfs://nn/x", "hdfs://nn/s"), found=policies(environ, site)).count(
            "rule 1"
        )
        == 2
    )
    with pytest.raises(NotAllowed, match="no rule of .*site.yaml"):
        authorise(Request("ann", "p", "prod", "hdfs://nn/x", "hdfs://nn/s"), found=policies(environ, site))
    assert [each.path for each in policies({"FIRESTEEL_POLICY": str(site)}, site)] == [str(site)]


def test_variables_of_the_environment_make_nobody_someone_else(monkeypatch):
    for name in ("LOGNAME", "USER", "LNAME", "USERNAME"):
        monkeypatch.setenv(name, "airflow")
    assert os_user() == ME != "airflow"


def test_required_security_is_asked_of_plans(policy):
    write(policy, '{sink: "**", users: ["*"]}', more="require_security: true\n")
    request = Request("ann", "p", "prod", "hdfs://nn/x", "hdfs://nn/s")
    assert authorise(request, strict=True)
    with pytest.raises(NotAllowed, match="FS7603"):
        authorise(request, strict=False)


def test_a_plan_is_refused_before_its_models_are_looked_up(policy, tmp_path):
    write_days(tmp_path / "data", ["2013-06-01"])
    path = example(tmp_path / "p")
    pipeline = Pipeline.load(path, params={"root": f"file://{tmp_path}/data"}, backend=FixedBackend())
    with pytest.raises(NotAllowed, match=f"FS7601  ?{ME} may not publish flight_delay_scores"):
        pipeline.plan("2013-06-01")
    write(policy, f'{{sink: "file://{tmp_path}/data/scores", users: [{ME}]}}')
    assert pipeline.plan("2013-06-01").intervals[0].action == "score"


def root_of(tmp_path) -> str:
    return f"file://{tmp_path}/root"


def allow(policy, tmp_path) -> None:
    write(policy, f'{{sink: "{sink_of(root_of(tmp_path))}", users: [{ME}]}}')


def test_a_publish_that_is_refused_holds_no_lease_and_is_in_the_audit_log(policy, tmp_path):
    root = root_of(tmp_path)
    with pytest.raises(NotAllowed):
        publish(root, "run-1", NEW)
    assert visible(root) == {}
    assert read_states(SinkInterval(area_of(root), SINK, INTERVAL)) == []
    (entry,) = read_audit(area_of(root))
    assert (entry.action, entry.user, entry.run_id, entry.files) == ("refused", ME, "run-1", 0)
    assert entry.policy.startswith(f"FS7601 {ME} may not publish")
    assert verify(area_of(root), (SINK,)) == []


def test_what_allows_a_publish_is_in_ledger_and_audit_log(policy, tmp_path):
    allow(policy, tmp_path)
    record = publish(root_of(tmp_path), "run-1", NEW)
    assert record.policy.endswith(" rule 1")
    (entry,) = read_audit(area_of(root_of(tmp_path)))
    assert entry.policy == record.policy


def test_a_policy_that_changes_while_a_run_works_refuses_its_publish(policy, tmp_path):
    root = root_of(tmp_path)
    allow(policy, tmp_path)
    publish(root, "run-1", NEW)
    before = visible(root)
    store = area_of(root)
    with (
        pytest.raises(NotAllowed),
        Transaction.begin(store, SINK, sink_of(root), INTERVAL, attempt_of("run-2"), lease_ttl_s=0.01) as transaction,
    ):
        stage(transaction, store.storage, {PLANNED[0] + "/part-9": "other"})
        write(policy)
        transaction.publish(PLANNED, COUNTS)
    assert visible(root) == before
    assert Ledger(store).latest(SINK, INTERVAL).run_id == "run-1"  # the run may not even record its end
    assert [entry.action for entry in read_audit(store)] == ["run", "refused"]
    assert verify(store, (SINK,)) == []
    allow(policy, tmp_path)
    publish(root, "run-3", {PLANNED[0] + "/part-9": "other"})  # it recovers run-2, whose lease has expired
    assert [(record.run_id, record.state) for record in Ledger(store).history(SINK, INTERVAL)] == [
        ("run-3", "published"),
        ("run-2", "died"),
        ("run-1", "published"),
    ]
    assert verify(store, (SINK,)) == []


def test_a_rollback_asks_as_well(policy, tmp_path):
    root = root_of(tmp_path)
    allow(policy, tmp_path)
    publish(root, "run-1", NEW)
    before = visible(root)
    write(policy)
    with pytest.raises(NotAllowed):
        rollback(area_of(root), SINK, sink_of(root), INTERVAL, attempt_of("rollback-1"))
    assert visible(root) == before
