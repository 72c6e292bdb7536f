"""The audit log and plan files are signed: a person who can write everywhere, but has no key, is found out."""

from __future__ import annotations

import hashlib
import json
import logging
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from firesteel.conf.errors import FiresteelError, NotAllowed, RuntimeFault, SpecErrors, StorageError
from firesteel.conf.identity import os_user
from firesteel.conf.signing import PublicKey, SigningKey
from firesteel.jobs.cli.main import invoke
from firesteel.jobs.run.plan_runner import run_plan
from firesteel.pipelines import Pipeline, Plan
from firesteel.pipelines.publish import policy as policy_module
from firesteel.pipelines.publish.audit import entry_of, read_audit, read_entry, signed_bytes, verify
from firesteel.pipelines.publish.audit_signatures import verify_signatures
from firesteel.pipelines.publish.ledger import read_record
from firesteel.pipelines.publish.policy import policies
from firesteel.pipelines.publish.recover import recover
from firesteel.pipelines.publish.rollback import rollback
from firesteel.pipelines.publish.signers import signed_json, write_plan
from firesteel.pipelines.publish.state_store import SinkInterval, StateStore
from firesteel.pipelines.publish.transaction import Transaction
from firesteel.pipelines.publish.verify import verify_files
from firesteel.pipelines.storage.open import locate
from support.data import write_days
from support.keys import Key, new_key
from support.publishing import (
    COUNTS,
    INTERVAL,
    NEW,
    PLANNED,
    SINK,
    area_of,
    attempt_of,
    edit,
    sink_of,
    stage,
)
from support.specs import EXAMPLE, FixedBackend, example_with

FILE = "dt=2013-06-01/origin=EWR/part-0"


@pytest.fixture(autouse=True)
def secrets(tmp_path_factory, monkeypatch) -> Path:
    folder = tmp_path_factory.mktemp("secrets")
    monkeypatch.setenv("FIRESTEEL_SECRETS_DIR", str(folder))
    monkeypatch.setattr(policy_module, "SITE", folder / "no-site-policy.yaml")
    return folder


@pytest.fixture
def key(secrets) -> Key:
    return new_key(secrets, "key")


@pytest.fixture
def other(secrets) -> Key:
    """The key of another pipeline, or of nobody."""
    return new_key(secrets, "other")


class Store:
    def __init__(self, path: Path, key: Key | None) -> None:
        self.path, self.root = path, f"file://{path}"
        self.area = replace(area_of(self.root), signing_key=key.reference if key else "")

    def signed_by(self, key: Key | None) -> Store:
        return Store(self.path, key)

    def publish(self, run_id: str, content=NEW, *, sink: str = SINK, **more) -> None:
        uri = f"{self.root}/{sink}"
        with Transaction.begin(self.area, sink, uri, INTERVAL, attempt_of(run_id), **more) as transaction:
            stage(transaction, self.area.storage, content)
            transaction.publish(PLANNED, COUNTS)

    def entry(self, number: int) -> Path:
        return self.path / "_firesteel" / "audit" / f"{number:010d}.json"

    def chain_again(self, key: Key | None = None) -> None:
        """Recompute the chain, and sign it with a key that the attacker has."""
        previous, number = "", 1
        while self.entry(number).exists():
            if json.loads(self.entry(number).read_bytes())["body"]["previous"] != previous:
                edit(self.entry(number), previous=previous)
            if key:
                self.sign_again(number, key)
            previous = hashlib.sha256(self.entry(number).read_bytes()).hexdigest()
            number += 1

    def sign_again(self, number: int, key: Key) -> None:
        signer = SigningKey.reveal(key.reference)
        edit(self.entry(number), key=signer.public.fingerprint, signature="")
        entry = read_entry(self.area, number)
        edit(self.entry(number), signature=signer.sign(signed_bytes(number, entry)))

    def record_again(self, token: int) -> None:
        """Write the digest of an edited ledger record to its entry, as a person does who knows how."""
        entry = entry_of(read_record(SinkInterval(self.area, SINK, INTERVAL), token))
        edit(self.entry(token), record=entry.record, files_digest=entry.files_digest)

    def signatures(self, *keys: Key, signed_from: int = 1) -> tuple[str, ...]:
        public = [PublicKey.parse(one.public.read_text()) for one in keys]
        return verify_signatures(self.area, {SINK: sink_of(self.root)}, public, policies(), signed_from).problems

    def unsigned_problems(self) -> list[str]:
        """What is found without a look at the signatures."""
        return [*verify(self.area, (SINK,)), *verify_files(self.area, {SINK: sink_of(self.root)}).problems]


@pytest.fixture
def store(tmp_path, key) -> Store:
    """Three signed publishes, the last one is a rollback."""
    store = Store(tmp_path, key)
    store.publish("r1")
    store.publish("r2")
    rollback(store.area, SINK, sink_of(store.root), INTERVAL, attempt_of("back"))
    assert (store.unsigned_problems(), store.signatures(key)) == ([], ())
    return store


def change_everything(store: Store) -> None:
    """Change a file of the sink, its ledger record and its entry alike, and recompute every hash."""
    file = store.path / "scores" / FILE
    file.write_text("evil")
    digest = store.area.storage.checksum(str(file), 4)
    record = store.path / "_firesteel" / "ledger" / "test" / SINK / INTERVAL / "0000000003.json"
    files = json.loads(record.read_bytes())["body"]["files"]
    edit(record, files=[one | {"length": 4, "digest": digest} if one["path"] == FILE else one for one in files])
    store.record_again(3)
    store.chain_again()


def test_sink_ledger_and_log_changed_alike_with_recomputed_hashes(store, key):
    change_everything(store)
    assert store.unsigned_problems() == [], "without a key, this is not found"
    (problem,) = store.signatures(key)
    assert problem == "entry 3 does not match its signature: it was edited, or it is a copy of another entry"


@pytest.mark.parametrize("number", [1, 2, 3])
@pytest.mark.parametrize("field", ["user", "sink", "token", "record", "previous", "storage", "location", "policy"])
def test_any_edited_field(store, key, number, field):
    edit(store.entry(number), **{field: 9 if field == "token" else "other"})
    assert any(f"entry {number} does not match" in problem for problem in store.signatures(key))


@pytest.mark.parametrize("number", [1, 2, 3])
def test_a_stripped_signature(store, key, number):
    edit(store.entry(number), key="", signature="")
    store.chain_again()
    assert any(f"entry {number}" in p and "is not signed" in p for p in store.signatures(key)) or number == 1
    assert store.signatures(key), "the chain behind it is signed"


def test_all_signatures_stripped(store, key):
    for number in (1, 2, 3):
        edit(store.entry(number), key="", signature="")
    store.chain_again()
    assert store.unsigned_problems() == []
    assert store.signatures() == (), "nothing says that the log was signed once"
    assert store.signatures(key) == tuple(f"entry {number} is not signed" for number in (1, 2, 3))


def test_the_newest_signature_stripped_is_found_without_a_key(store):
    edit(store.entry(3), key="", signature="")
    (problem,) = store.signatures()
    assert problem.startswith("entry 3 is not signed, but entry 1 is")


@pytest.mark.parametrize("numbers", [(1, 2, 3), (3,)])
def test_another_key(store, key, other, numbers):
    if len(numbers) > 1:
        store.chain_again(other)
    else:
        store.sign_again(3, other)
    assert store.unsigned_problems() == []
    problems = store.signatures(key)
    assert [problem.partition(" is signed by the key ")[0] for problem in problems] == [f"entry {n}" for n in numbers]
    assert all("not trusted" in problem for problem in problems)


def test_another_key_under_the_name_of_the_right_one(store, key, other):
    signer = SigningKey.reveal(other.reference)
    entry = read_entry(store.area, 3)
    edit(store.entry(3), signature=signer.sign(signed_bytes(3, entry)))
    assert store.signatures(key) == (
        "entry 3 does not match its signature: it was edited, or it is a copy of another entry",
    )


def test_an_entry_of_another_sink_replayed(store, key):
    """Valid entries of the same key, of another sink and another number."""
    store.publish("r4", sink="others")
    body = json.loads(store.entry(4).read_bytes())["body"]
    edit(store.entry(3), **body)
    assert any("entry 3 does not match" in problem for problem in store.signatures(key))
    edit(store.entry(3), sink=SINK)
    assert any("entry 3 does not match" in problem for problem in store.signatures(key))


def test_the_log_of_another_storage_replayed(store, key, tmp_path):
    """All of the state and the sink of one storage, copied over another: the same pipeline, profile, sink and key."""
    copy = tmp_path / "copy"
    elsewhere = Store(copy, key)
    (copy / "_firesteel").mkdir(parents=True)
    for number in (1, 2, 3):
        target = elsewhere.entry(number)
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(store.entry(number).read_bytes())
    assert [problem.partition(" for the storage")[0] for problem in elsewhere.signatures(key)] == [
        f"entry {number} was signed" for number in (1, 2, 3)
    ]


def test_a_cut_tail_needs_a_kept_head(store, key):
    """A key says nothing of entries that are gone."""
    store.entry(3).unlink()
    assert store.signatures(key) == ()
    assert store.unsigned_problems() != [], "the ledger still has the publish"


def test_signing_may_begin_in_the_middle_and_covers_what_was_before(tmp_path, key):
    store = Store(tmp_path, None)
    store.publish("r1")
    store.publish("r2")
    assert store.signatures(key) == ("entry 1 is not signed", "entry 2 is not signed")
    store.signed_by(key).publish("r3")
    assert store.signatures(key) == ("entry 1 is not signed", "entry 2 is not signed")
    assert store.signatures(key, signed_from=3) == ()
    edit(store.entry(1), user="nobody")
    store.chain_again()
    assert store.signatures(key, signed_from=3) == (
        "entry 3 does not match its signature: it was edited, or it is a copy of another entry",
    )


def test_a_rotated_key(store, key, other):
    store.signed_by(other).publish("r4")
    assert store.signatures(key, other) == ()
    assert len(store.signatures(key)) == 1
    assert len(store.signatures(other)) == 3


@pytest.mark.parametrize("moment", ["journaled", "partition_published", "ledgered"])
def test_a_recovered_publish_is_signed_once(store, key, moment):
    def stop(event):
        if event.kind == moment:
            raise OSError("stop")

    with pytest.raises(OSError, match="stop"):
        store.publish("r4", on_event=stop)
    recover(store.area, SINK, sink_of(store.root), INTERVAL)
    assert (store.unsigned_problems(), store.signatures(key)) == ([], ())
    assert len(read_audit(store.area)) == 4


def test_without_the_key_a_signed_log_gets_no_publish(store, key):
    """Otherwise `audit verify` would report it for ever."""
    before = (store.path / "scores" / FILE).read_text()
    keyless = store.signed_by(None)
    with pytest.raises(NotAllowed, match=r"FS7604 .*is signed, and the spec has no `security\.signing_key`"):
        keyless.publish("r4", {FILE: "unsigned"})
    with pytest.raises(NotAllowed, match="FS7604"):
        rollback(keyless.area, SINK, sink_of(store.root), INTERVAL, attempt_of("back"))
    assert (store.path / "scores" / FILE).read_text() == before
    assert (store.unsigned_problems(), store.signatures(key)) == ([], ())


def test_without_the_key_no_recovery_finishes_a_publish_of_a_signed_log(store, key):
    def stop(event):
        if event.kind == "journaled":
            raise OSError("stop")

    with pytest.raises(OSError, match="stop"):
        store.publish("r4", on_event=stop)
    with pytest.raises(NotAllowed, match="FS7604"):
        recover(store.signed_by(None).area, SINK, sink_of(store.root), INTERVAL)
    recover(store.area, SINK, sink_of(store.root), INTERVAL)
    assert (store.unsigned_problems(), store.signatures(key)) == ([], ())


@pytest.mark.parametrize("text", ["", "no key", "RSA", "public"])
def test_a_secret_that_is_no_key_publishes_nothing(tmp_path, secrets, key, text):
    bad = secrets / "audit" / "bad"
    if text == "RSA":
        bad.write_text("-----BEGIN PRIVATE KEY-----\nMIIBVQIBADANBgkqhkiG9w0B\n-----END PRIVATE KEY-----\n")
    else:
        bad.write_text(key.public.read_text() if text == "public" else text)
    bad.chmod(0o600)
    store = Store(tmp_path, replace(key, reference="${secret:audit/bad}"))
    with pytest.raises(RuntimeFault, match="FS9021"):
        store.publish("r1")
    assert not (tmp_path / "scores").exists()
    with pytest.raises(RuntimeFault, match="FS9020"):
        Store(tmp_path, replace(key, reference="${secret:audit/lost}")).publish("r1")


# Journals


def journaled(store: Store) -> Path:
    """A run that dies behind its journal; the file of the journal."""

    def stop(event):
        if event.kind == "journaled":
            raise OSError("stop")

    before = len(read_audit(store.area))
    with pytest.raises(OSError, match="stop"):
        store.publish("dead", {FILE: "of the dead run"}, on_event=stop)
    return Path(SinkInterval(store.area, SINK, INTERVAL).file("journal", before + 1))


def finish(store: Store) -> None:
    recover(store.area, SINK, sink_of(store.root), INTERVAL)


def run_again(store: Store) -> None:
    store.publish("next", {FILE: "of the next run"})


def forged_record(journal: Path) -> None:
    body = json.loads(journal.read_bytes())["body"]
    edit(journal, record=body["record"] | {"user": "eve", "plan_hash": "forged"})


JOURNALS = {
    "record": forged_record,
    "directories": lambda journal: edit(journal, directories=[]),
    "run": lambda journal: edit(journal, run_id="eve"),
    "stripped": lambda journal: edit(journal, key="", signature=""),
    "forged without a signature": lambda journal: (forged_record(journal), edit(journal, key="", signature="")),
}


@pytest.mark.parametrize("entrance", [finish, run_again])
@pytest.mark.parametrize("forge", JOURNALS.values(), ids=JOURNALS)
def test_a_forged_journal_is_not_completed_and_signed(store, key, forge, entrance):
    journal = journaled(store)
    before = {path: path.read_bytes() for path in (store.path / "scores").rglob("part-*")}
    forge(journal)
    for _ in range(2):
        with pytest.raises(StorageError, match=r"FS8006 .*was edited or has no signature by a trusted key"):
            entrance(store)
        assert {path: path.read_bytes() for path in (store.path / "scores").rglob("part-*")} == before
    assert (store.unsigned_problems(), store.signatures(key)) == ([], ())


def test_the_hint_of_a_forged_journal_discards_it(store, key):
    journal = journaled(store)
    forged_record(journal)
    with pytest.raises(StorageError, match="FS8006") as caught:
        finish(store)
    assert str(journal) in str(caught.value)
    marker = SinkInterval(store.area, SINK, INTERVAL).file("lease", 4, "journaled")
    assert marker in caught.value.hint
    journal.unlink()
    shutil.rmtree(marker, ignore_errors=True)
    finish(store)
    run_again(store)
    assert (store.unsigned_problems(), store.signatures(key)) == ([], ())


def test_a_journal_of_another_key_needs_this_key_or_the_policy(store, secrets, monkeypatch, key, other):
    """A key that was rotated while a run was dead."""
    journaled(store)
    rotated = store.signed_by(other)
    with pytest.raises(StorageError, match="FS8006 .*recover` with the key of that run"):
        finish(rotated)
    allow(secrets, monkeypatch, store.root, other)
    with pytest.raises(StorageError, match="FS8006"):
        finish(rotated)
    allow(secrets, monkeypatch, store.root, key, other)
    finish(rotated)
    assert (store.unsigned_problems(), store.signatures()) == ([], ())


def test_a_journal_from_before_the_key_is_completed_without_it(tmp_path, key):
    store = Store(tmp_path, None)
    store.publish("r1")
    journaled(store)
    with pytest.raises(StorageError, match=r"FS8006.*without a key") as caught:
        finish(store.signed_by(key))
    assert "without `security.signing_key` if it had none" in caught.value.hint
    finish(store)
    store.signed_by(key).publish("r3")
    assert store.signatures(key, signed_from=3) == ()


def test_a_log_that_was_stripped_and_signed_on_top_is_found(store, key):
    """The next publish with the key would otherwise make the changed history good."""
    for number in (1, 2, 3):
        edit(store.entry(number), key="", signature="", user="eve")
    store.chain_again()
    assert len(store.signatures(key)) == 3
    store.publish("r4")
    assert store.signatures(key) == tuple(f"entry {number} is not signed" for number in (1, 2, 3))


@pytest.mark.parametrize("entrance", [finish, run_again])
def test_a_forged_journal_in_a_stripped_log_is_not_completed(store, key, entrance):
    journal = journaled(store)
    forged_record(journal)
    edit(journal, key="", signature="")
    for number in (1, 2, 3):
        edit(store.entry(number), key="", signature="")
    store.chain_again()
    before = (store.path / "scores" / FILE).read_text()
    with pytest.raises(StorageError, match="FS8006"):
        entrance(store)
    assert (store.path / "scores" / FILE).read_text() == before


def test_a_driver_without_the_key_does_not_complete_a_signed_journal(store, key):
    journaled(store)
    for number in (1, 2, 3):
        edit(store.entry(number), key="", signature="")
    store.chain_again()
    with pytest.raises(NotAllowed, match="FS7604"):
        finish(store.signed_by(None))


def test_staged_files_that_are_changed_after_the_journal_are_found(store, key):
    """The journal has the digests of the staged files."""
    journaled(store)
    (staged,) = (store.path / "_firesteel" / "staging").rglob(FILE)
    staged.write_text("OF THE DEAD RUN")
    finish(store)
    assert store.signatures(key) == ()
    (problem,) = store.unsigned_problems()
    assert f"{FILE} was changed" in problem


# Policies


def allow(
    secrets: Path, monkeypatch, root: str, *keys: Key, users: str = "*", pipelines: str = "*", more: str = ""
) -> None:
    policy = secrets / "policy.yaml"
    listed = ", ".join(key.line for key in keys)
    signing = f", signing_keys: [{listed}]" if keys else ""
    rule = f'{{sink: "{sink_of(root)}", storage: "**", users: ["{users}"], pipelines: ["{pipelines}"]{signing}}}'
    policy.write_text(f"policy_version: 1\nallow:\n  - {rule}\n{more}")
    policy.chmod(0o644)
    monkeypatch.setenv("FIRESTEEL_POLICY", str(policy))


@pytest.mark.parametrize("signer", [None, "other"])
def test_a_policy_refuses_a_publish_by_no_key_and_by_another(tmp_path, secrets, monkeypatch, key, other, signer):
    store = Store(tmp_path, key)
    allow(secrets, monkeypatch, store.root, key)
    wrong = store.signed_by(other if signer else None)
    with pytest.raises(NotAllowed, match=r"FS7604 .*requires that .* signs .*signing_key"):
        wrong.publish("r1")
    assert not list((tmp_path / "_firesteel").rglob("journal/**/*.json"))
    assert read_audit(store.area) == [], "the refusal could not be signed"
    store.publish("r1")
    for entrance in (
        lambda: wrong.publish("r2"),
        lambda: rollback(wrong.area, SINK, sink_of(store.root), INTERVAL, attempt_of("back")),
    ):
        with pytest.raises(NotAllowed, match="FS7604"):
            entrance()
    assert (store.unsigned_problems(), store.signatures()) == ([], ())


def test_a_key_that_the_policy_drops_while_a_run_works_publishes_nothing(tmp_path, secrets, monkeypatch, key, other):
    store = Store(tmp_path, key)
    allow(secrets, monkeypatch, store.root, key)

    def drop(event):
        if event.kind == "leased":
            allow(secrets, monkeypatch, store.root, other)

    with pytest.raises(NotAllowed, match="FS7604"):
        store.publish("r1", on_event=drop)
    assert not (tmp_path / "scores" / FILE).exists()


def test_a_broader_rule_without_keys_is_no_way_around(tmp_path, secrets, monkeypatch, key):
    store = Store(tmp_path, None)
    allow(secrets, monkeypatch, store.root, key, more='  - {sink: "**", users: ["*"]}\n')
    with pytest.raises(NotAllowed, match="FS7604"):
        store.publish("r1")


def test_the_key_of_another_pipeline_is_not_trusted(tmp_path, secrets, monkeypatch, key, other):
    """Its owner writes their own name into the entry, and strips the signatures before it."""
    store = Store(tmp_path, key)
    rule = f'  - {{sink: "{sink_of(store.root)}", users: ["*"], pipelines: [p2], signing_keys: [{other.line}]}}\n'
    allow(secrets, monkeypatch, store.root, key, pipelines="flight_delay_scores", more=rule)
    store.publish("r1")
    store.publish("r2")
    edit(store.entry(1), key="", signature="")
    edit(store.entry(2), pipeline="p2")
    store.sign_again(2, other)
    store.chain_again()
    store.sign_again(2, other)
    first, second = store.signatures()
    assert first == "entry 1 is not signed"
    assert second.startswith("entry 2 is signed by the key")
    with pytest.raises(NotAllowed, match="FS7604"):
        store.signed_by(other).publish("r3")


def test_a_refusal_in_a_signed_log_is_signed(tmp_path, secrets, monkeypatch, key):
    store = Store(tmp_path, key)
    store.publish("r1")
    allow(secrets, monkeypatch, store.root, key, users="nobody-here")
    with pytest.raises(NotAllowed, match="FS7601"):
        store.publish("r2")
    with pytest.raises(NotAllowed, match="FS7601"):
        store.signed_by(None).publish("r3")
    assert [entry.action for entry in read_audit(store.area)] == ["run", "refused"]
    assert store.signatures() == ()


@pytest.mark.parametrize("text", ["/etc/key.pem", "x", "MCowBQYDK2VwAyEA", '"é"', "[]"])
def test_a_policy_with_a_key_that_is_none_allows_nothing(tmp_path, secrets, monkeypatch, key, text):
    store = Store(tmp_path, key)
    allow(secrets, monkeypatch, store.root)
    policy = secrets / "policy.yaml"
    policy.write_text(policy.read_text().replace("users:", f"signing_keys: [{text}], users:"))
    with pytest.raises(NotAllowed, match=r"FS7602 .*signing_keys"):
        store.publish("r1")


# Plans

DAY = "2013-06-01"


def secured(folder: Path, security: str) -> Path:
    return example_with(folder, {"storage:": f"security: {security}\nstorage:"})


@pytest.fixture
def plan(tmp_path, key) -> Plan:
    """A plan of the example with a key, in `plan.json`, as `firesteel plan -o` writes it."""
    write_days(tmp_path / "data", [DAY])
    spec = secured(tmp_path / "project", f"{{mode: none, signing_key: '{key.reference}'}}")
    plan = Pipeline.load(spec, params={"root": f"file://{tmp_path}/data"}, backend=FixedBackend()).plan(DAY)
    (tmp_path / "plan.json").write_text(write_plan(plan))
    return plan


def guard(plan: Plan, secrets: Path, monkeypatch, *keys: Key) -> None:
    policy = secrets / "policy.yaml"
    listed = ", ".join(key.line for key in keys)
    policy.write_text(
        f'policy_version: 1\nallow:\n  - {{sink: "{plan.sinks[0].path}", storage: "**", users: ["{os_user()}"], '
        f"signing_keys: [{listed}]}}\n"
    )
    policy.chmod(0o644)
    monkeypatch.setenv("FIRESTEEL_POLICY", str(policy))


def forge(path: Path, **changes: object) -> None:
    """Edit a plan and recompute its digest, as a person does who has firesteel."""
    content = json.loads(path.read_text()) | changes
    kept = {name: content.pop(name) for name in ("key", "signature", "digest") if name in content}
    body = json.dumps(content, sort_keys=True, separators=(",", ":")).encode()
    kept["digest"] = hashlib.sha256(body).hexdigest()
    path.write_text(json.dumps(content | kept))


def test_a_signed_plan_is_the_same_plan(plan, tmp_path, key):
    text = (tmp_path / "plan.json").read_text()
    loaded = Plan.from_json(text)
    assert loaded == plan
    assert loaded.to_json() == plan.to_json()
    public = PublicKey.parse(key.public.read_text())
    content = json.loads(text)
    assert content["key"] == public.fingerprint == loaded.file.key
    assert "PRIVATE" not in text
    assert key.pem.splitlines()[1] not in text


def tamper_with(path, attack, plan, key, other):
    """Replace the plan file, as a user does who may write to it. `other` is the key of that user."""
    if attack == "edited":
        forge(path, gates=[])
    elif attack == "stripped":
        forge(path, gates=[], key="", signature="")
    elif attack == "unsigned":
        path.write_text(plan.to_json())
    else:
        text = signed_json(plan, SigningKey.reveal(other.reference))
        if attack == "own signature":
            text = json.dumps(json.loads(text) | {"key": PublicKey.parse(key.public.read_text()).fingerprint})
        path.write_text(text)
    return path


@pytest.mark.parametrize("attack", ["edited", "stripped", "other key", "own signature", "unsigned"])
def test_apply_refuses_a_plan_that_no_listed_key_has_signed(
    plan, tmp_path, secrets, monkeypatch, key, other, attack, capsys
):
    guard(plan, secrets, monkeypatch, key)
    path = tamper_with(tmp_path / "plan.json", attack, plan, key, other)
    loaded = Plan.from_json(path.read_text())
    assert invoke(["apply", str(path)]) == 8
    assert "FS7605" in capsys.readouterr().err
    with pytest.raises(NotAllowed, match="FS7605"):
        run_plan(loaded)
    with pytest.raises(NotAllowed, match="FS7605"):
        write_plan(loaded)  # no submission gives it a signature


def test_a_policy_without_a_signed_spec_refuses_to_plan(plan, tmp_path, secrets, monkeypatch, key):
    guard(plan, secrets, monkeypatch, key)
    spec = example_with(tmp_path / "unsigned", {})
    pipeline = Pipeline.load(spec, params={"root": f"file://{tmp_path}/data"}, backend=FixedBackend())
    with pytest.raises(NotAllowed, match="FS7604"):
        pipeline.plan(DAY)


def test_a_signed_plan_passes(plan, tmp_path, secrets, monkeypatch, key):
    guard(plan, secrets, monkeypatch, key)
    loaded = Plan.from_json((tmp_path / "plan.json").read_text())
    assert write_plan(loaded) == (tmp_path / "plan.json").read_text()


@pytest.mark.parametrize("attack", ["edited", "stripped", "unsigned", "other key"])
def test_a_plan_from_a_file_is_not_signed_again(plan, tmp_path, key, other, attack):
    """The machine has no policy, or one without keys. The next machine may have one that lists the key."""
    path = tamper_with(tmp_path / "plan.json", attack, plan, key, other)
    loaded = Plan.from_json(path.read_text())
    written = json.loads(write_plan(loaded))
    assert written.get("signature", "") == json.loads(path.read_text()).get("signature", "")
    assert Plan.from_json(json.dumps(written)) == loaded


def test_a_plan_that_was_changed_after_it_was_read_is_written_without_a_signature(plan, tmp_path):
    loaded = Plan.from_json((tmp_path / "plan.json").read_text())
    assert "signature" not in json.loads(write_plan(replace(loaded, gates=())))


@pytest.mark.parametrize("driver", ["without a secret", "with another secret", "with a plan that names no key"])
def test_a_driver_without_the_key_of_the_policy_stops_before_the_lease(
    plan, tmp_path, secrets, monkeypatch, key, other, driver
):
    guard(plan, secrets, monkeypatch, key)
    text, code = (tmp_path / "plan.json").read_text(), "FS7604"
    secret = next(path for path in secrets.rglob("*") if path.is_file() and path.read_text() == key.pem)
    if driver == "without a secret":
        secret.unlink()
        code = "FS9020"
    elif driver == "with another secret":
        secret.write_text(other.pem)
    else:
        text = signed_json(replace(plan, signing_key=""), SigningKey.reveal(key.reference))
    with pytest.raises(FiresteelError) as caught:
        run_plan(Plan.from_json(text), runs=tmp_path / "runs")
    assert caught.value.code == code
    assert "key" in caught.value.hint or key.reference in caught.value.what
    assert not (tmp_path / "data" / "_firesteel").exists()
    assert not (tmp_path / "runs").exists()


# The command line, and the secret


def test_the_command_line_verifies_by_keys_and_by_the_policy(tmp_path, secrets, monkeypatch, key, other, capsys):
    root = f"file://{tmp_path}"
    storage, base = locate(f"{root}/_firesteel/flight_delay_scores")
    store = StateStore(storage, base, "flight_delay_scores", "default", key.reference)
    with Transaction.begin(store, SINK, f"{root}/scores", INTERVAL, attempt_of("r1")) as transaction:
        stage(transaction, storage, {FILE: "new"})
        transaction.publish(("dt=2013-06-01/origin=EWR",), COUNTS)
    words = ["audit", "verify", str(EXAMPLE / "pipeline.yaml"), "--param", f"root={root}"]
    assert invoke(words) == 0
    assert "1 signature not checked" in capsys.readouterr().out
    assert invoke([*words, "--key", str(other.public), "--key", str(key.public)]) == 0
    assert "not checked" not in capsys.readouterr().out
    assert invoke([*words, "--key", str(other.public), "--json"]) == 1
    assert "not trusted" in json.loads(capsys.readouterr().out)["wrong"][0]
    assert invoke([*words, "--key", str(secrets / "audit" / "key")]) == 1
    said = capsys.readouterr()
    assert "FS9008" in said.err
    assert key.pem.splitlines()[1] not in said.out + said.err
    allow(secrets, monkeypatch, root, other)
    assert invoke(words) == 1
    assert "not trusted" in capsys.readouterr().out


def test_a_key_in_the_spec_itself_is_refused(tmp_path, key):
    spec = secured(tmp_path / "project", json.dumps({"signing_key": key.pem}))
    with pytest.raises(
        SpecErrors, match=r"security\.signing_key.*must not contain a secret; write \$\{secret:SCOPE/KEY\}"
    ) as caught:
        Pipeline.load(spec, params={"root": f"file://{tmp_path}"}, backend=FixedBackend())
    assert key.pem.splitlines()[1] not in str(caught.value)


def test_the_key_is_in_no_file_and_no_log(tmp_path, key, caplog):
    store = Store(tmp_path, key)
    store.publish("r1")
    line = key.pem.splitlines()[1]
    texts = [path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()]
    assert texts
    assert not any(line.encode() in text for text in texts)
    signer = SigningKey.reveal(key.reference)
    with caplog.at_level(logging.WARNING):
        logging.getLogger("x").warning("%s %r %s", signer, signer, line)
    assert line not in caplog.text
    assert line not in str(RuntimeFault("FS9021", f"the key {line} is bad"))
