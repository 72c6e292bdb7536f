"""`security: {mode: strict}`: what it compiles to, and what is refused beside it."""

from __future__ import annotations

import re

import pytest

from firesteel.conf.errors import SpecErrors
from firesteel.pipelines import Pipeline
from firesteel.pipelines.plan.security import REDACTED, STRICT, UI_KEY
from support.specs import FixedBackend, example_with

AT = "resources: {master: "


def sketch(tmp_path, security: str, changes: dict[str, str] | None = None):
    path = example_with(tmp_path, {AT: f"security: {security}\n{AT}", **(changes or {})})
    return Pipeline.load(path, params={"root": "file:///data"}, backend=FixedBackend()).sketch()


def errors_of(tmp_path, security: str, changes: dict[str, str]) -> list[str]:
    with pytest.raises(SpecErrors) as caught:
        sketch(tmp_path, security, changes)
    return [str(error) for error in caught.value.errors]


def test_strict_turns_on_authentication_encryption_redaction_and_no_ui(tmp_path):
    plan = sketch(tmp_path, "{}")
    conf = dict(plan.spark_conf)
    assert plan.security == "strict"
    assert conf.items() >= STRICT.items()
    assert conf["spark.network.crypto.cipher"] == "AES/GCM/NoPadding"
    assert conf["spark.ui.enabled"] == "false"
    assert "spark.authenticate.secret" not in conf
    assert sketch(tmp_path / "2", "{mode: none}").spark_conf == (("spark.sql.shuffle.partitions", "4"),)


def test_secrets_stand_in_the_plan_as_references(tmp_path):
    plan = sketch(tmp_path, "{secret: '${secret:spark/auth}', ui_key: '${secret:spark/ui}'}")
    conf = dict(plan.spark_conf)
    assert conf["spark.authenticate.secret"] == "${secret:spark/auth}"
    assert (conf["spark.ui.enabled"], conf["spark.ui.filters"]) == ("true", "org.apache.spark.ui.JWSFilter")
    assert conf[UI_KEY] == "${secret:spark/ui}"


def test_security_is_in_no_hash(tmp_path):
    assert sketch(tmp_path, "{}").code_hash == sketch(tmp_path / "2", "{mode: none}").code_hash


@pytest.mark.parametrize(
    "name",
    [
        "apikey",
        "API_KEY",
        "my.api-key",
        "private.key",
        "signingKey",
        "db.password",
        "keystorePassphrase",
        "sas.token",
        "aws.access.key",
    ],
)
def test_redaction_knows_names_that_sparks_own_misses(name):
    assert re.search(REDACTED, name)


def test_what_a_user_redacts_is_redacted_as_well(tmp_path):
    plan = sketch(tmp_path, "{}", {"configuration: {": "configuration: {spark.redaction.regex: customer, "})
    expression = dict(plan.spark_conf)["spark.redaction.regex"]
    assert all(re.search(expression, each) for each in ("customer.id", "apikey"))


def test_kerberos_is_passed_through_with_and_without_strict(tmp_path):
    for number, mode in enumerate(("strict", "none")):
        security = f"{{mode: {mode}, kerberos: {{principal: ml@EXAMPLE.ORG, keytab: /etc/ml.keytab}}}}"
        conf = dict(sketch(tmp_path / str(number), security).spark_conf)
        assert (conf["spark.kerberos.principal"], conf["spark.kerberos.keytab"]) == ("ml@EXAMPLE.ORG", "/etc/ml.keytab")


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        (
            "configuration: {",
            'configuration: {spark.io.encryption.enabled: "false", ',
            "FS1021 pipeline.yaml:76:17  `configuration.spark.io.encryption.enabled` is not true, but security.mode is strict.",
        ),
        (
            "configuration: {",
            'configuration: {spark.network.crypto.saslFallback: "true", ',
            "`configuration.spark.network.crypto.saslFallback` is not false",
        ),
        (
            "configuration: {",
            'configuration: {spark.ui.enabled: "true", ',
            "`configuration.spark.ui.enabled` shows the UI to everyone, but security.mode is strict. Set security.ui_key, which requires a token.",
        ),
        (
            'master: "local[2]"',
            'master: "spark://host:7077"',
            "`security.secret` is missing: spark://host:7077 is a standalone cluster.",
        ),
        (
            "experiment: /batch/flight_delay}",
            'experiment: x, uri: "http://ml:${secret:a/b}@mlflow.example.org"}',
            "`tracking.mlflow.uri` is not encrypted, but security.mode is strict. Use https.",
        ),
        (
            "experiment: /batch/flight_delay}",
            'experiment: x}, openlineage: {transport: http, url: "http://lineage.example.org"}',
            "`tracking.openlineage.url` is not encrypted",
        ),
    ],
)
def test_what_contradicts_strict_is_refused_and_not_overruled(tmp_path, old, new, said):
    assert any(said in each for each in errors_of(tmp_path, "{}", {old: new}))


@pytest.mark.parametrize(
    "uri", ["http://127.0.0.1:5000", "http://localhost:5000", "https://mlflow.example.org", "sqlite:////x.db"]
)
def test_tls_and_this_machine_are_no_contradiction(tmp_path, uri):
    assert sketch(tmp_path, "{}", {"experiment: /batch/flight_delay}": f'experiment: x, uri: "{uri}"}}'})


def test_a_secret_in_plain_text_is_refused(tmp_path):
    found = errors_of(tmp_path, "{secret: hunter2}", {})
    assert any(
        "`security.secret`: a spec must not contain a secret; write ${secret:SCOPE/KEY}." in each for each in found
    )
    assert not any("hunter2" in each for each in found)
