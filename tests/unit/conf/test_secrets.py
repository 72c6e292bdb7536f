from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from firesteel.conf import redaction
from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import Redactor, redact
from firesteel.conf.secret_sources import MAX_BYTES, FolderSource, variable
from firesteel.conf.secrets import SecretRef, references, reveal, secrets_in


@pytest.fixture(autouse=True)
def forgotten(monkeypatch):
    """Each test knows its own secrets only."""
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())


def put(folder: Path, name: str, value: bytes, mode: int = 0o600) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(value)
    path.chmod(mode)
    return path


@pytest.fixture
def folder(tmp_path) -> Path:
    return tmp_path / "secrets"


def fault(text: str, **environ: str) -> RuntimeFault:
    with pytest.raises(RuntimeFault) as caught:
        reveal(text, environ=environ)
    return caught.value


def test_files_come_before_variables_and_one_newline_is_not_the_values(folder):
    put(folder, "mlflow/password", b"from the file\n\n")
    environ = {"FIRESTEEL_SECRETS_DIR": str(folder), "FIRESTEEL_SECRET_MLFLOW_PASSWORD": "from the variable"}
    assert reveal("${secret:mlflow/password}", environ=environ) == "from the file\n"
    assert reveal("${secret:mlflow/password}", environ={**environ, "FIRESTEEL_SECRETS_DIR": ""}) == "from the variable"


def test_a_windows_line_end_is_not_the_values(folder):
    put(folder, "a/b", b"value\r\n")
    assert reveal("${secret:a/b}", environ={"FIRESTEEL_SECRETS_DIR": str(folder)}) == "value"


def test_a_kubernetes_mount_is_read_through_its_links(folder):
    put(folder, "mlflow/..2024_01_01/password", b"mounted", 0o440)
    (folder / "mlflow" / "..data").symlink_to("..2024_01_01")
    (folder / "mlflow" / "password").symlink_to("..data/password")
    assert reveal("${secret:mlflow/password}", environ={"FIRESTEEL_SECRETS_DIR": str(folder)}) == "mounted"


def test_a_link_out_of_the_folder_is_refused(folder, tmp_path):
    put(tmp_path, "elsewhere", b"not a secret of ours")
    put(folder, "a/x", b"some value")
    (folder / "a" / "b").symlink_to(tmp_path / "elsewhere")
    found = fault("${secret:a/b}", FIRESTEEL_SECRETS_DIR=str(folder))
    assert found.code == "FS9021"
    assert f"is a link to a file outside {folder}" in found.what


@pytest.mark.parametrize("mode", [0o604, 0o602, 0o644, 0o666])
def test_a_file_that_is_open_to_all_is_refused(folder, mode):
    put(folder, "a/b", b"exposed-value", mode)
    found = fault("${secret:a/b}", FIRESTEEL_SECRETS_DIR=str(folder))
    assert found.code == "FS9021"
    assert f"mode {mode:04o}" in found.what
    assert "chmod o-rwx" in found.hint
    assert "exposed-value" not in str(found)


@pytest.mark.parametrize(
    ("data", "why"),
    [(b"\xff\xfe\x00value", "is not UTF-8 text"), (b"x" * (MAX_BYTES + 1), "is larger than 64 KiB")],
)
def test_what_is_no_text_is_refused(folder, data, why):
    put(folder, "a/b", data)
    found = fault("${secret:a/b}", FIRESTEEL_SECRETS_DIR=str(folder))
    assert found.code == "FS9021"
    assert why in found.what
    assert "value" not in str(found)
    assert found.__cause__ is None


def test_a_folder_and_a_pipe_are_no_secrets(folder):
    (folder / "a" / "b").mkdir(parents=True)
    assert "is a folder, not a file" in str(fault("${secret:a/b}", FIRESTEEL_SECRETS_DIR=str(folder)))
    os.mkfifo(folder / "a" / "c", 0o600)  # to open it would wait for a writer for ever
    assert "is not a regular file" in str(fault("${secret:a/c}", FIRESTEEL_SECRETS_DIR=str(folder)))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads every file")
def test_a_file_that_cannot_be_read_is_named(folder):
    put(folder, "a/b", b"value", 0o000)
    assert "Permission denied" in str(fault("${secret:a/b}", FIRESTEEL_SECRETS_DIR=str(folder)))


def test_not_found_names_where_it_looked_and_no_value(folder):
    found = fault("x ${secret:a/b}", FIRESTEEL_SECRETS_DIR=str(folder), FIRESTEEL_SECRET_A_C="another")
    assert found.code == "FS9020"
    assert found.what == f"${{secret:a/b}} is not found. Searched: {folder}/a/b, $FIRESTEEL_SECRET_A_B."
    assert "another" not in str(found)


@pytest.mark.parametrize("value", ["abc", " x ", "secret"])
def test_a_value_that_cannot_be_hidden_is_refused(value):
    found = fault("${secret:a/b}", FIRESTEEL_SECRET_A_B=value)
    assert found.code == "FS9021"
    assert "$FIRESTEEL_SECRET_A_B cannot be used" in found.what


@pytest.mark.parametrize(
    "text",
    [
        "${secret:x}",
        "${secret:}",
        "${secret:a/b/c}",
        "${secret:../b}",
        "${secret:a/..}",
        "${secret:a/b c}",
        "${secret:a/b",
    ],
)
def test_a_malformed_reference_is_an_error_and_never_a_path(text):
    found = fault(f"x {text}")
    assert found.code == "FS9020"
    assert "${secret:SCOPE/KEY}" in str(found)
    assert references(text) == (text,)


def test_inside_text_escaped_and_beside_others():
    environ = {"FIRESTEEL_SECRET_A_B": "first", "FIRESTEEL_SECRET_A_C": "second"}
    text = "<${secret:a/b}|${param.x}|$${secret:a/b}|${secret:a/c}>"
    assert reveal(text, environ=environ) == "<first|${param.x}|${secret:a/b}|second>"
    assert reveal("$${secret:a/b}") == "${secret:a/b}"
    assert secrets_in(text) == (SecretRef("a", "b"), SecretRef("a", "c"))


@pytest.mark.parametrize(
    ("text", "revealed"),
    [
        ("https://ml:${secret:a/b}@host/x", "https://ml:p%40ss%2Fw%3A%25@host/x"),
        ("postgresql+psycopg2://${secret:a/b}@db/x", "postgresql+psycopg2://p%40ss%2Fw%3A%25@db/x"),
        ("sqlite:////data/${secret:a/b}.db", "sqlite:////data/p@ss/w:%.db"),
        ("${secret:a/b}", "p@ss/w:%"),
        ("jdbc:x://h/d?password=${secret:a/b}", "jdbc:x://h/d?password=p@ss/w:%"),
    ],
)
def test_in_the_authority_of_a_url_a_value_is_quoted(text, revealed):
    assert reveal(text, environ={"FIRESTEEL_SECRET_A_B": "p@ss/w:%"}) == revealed
    assert redact(f"at {revealed}") == f"at {text}"


def test_variables_are_named_by_scope_and_key():
    assert variable("ml-flow", "Pass.word_1") == "FIRESTEEL_SECRET_ML_FLOW_PASS_WORD_1"


PIECES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="${}"), max_size=10)
VALUE = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="${}"), min_size=4, max_size=20)


@given(PIECES, VALUE, PIECES, VALUE, PIECES)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_what_was_revealed_is_put_back(start, first, middle, second, end):
    redaction._REDACTOR = Redactor()
    text = f"{start}${{secret:a/b}}{middle}${{secret:a/c}}{end}"
    try:
        revealed = reveal(text, environ={"FIRESTEEL_SECRET_A_B": first, "FIRESTEEL_SECRET_A_C": second})
    except RuntimeFault as error:
        assert error.code == "FS9021"  # too short without its white space
        return
    assert first in revealed
    left = redact(revealed).replace("${secret:a/b}", "\n").replace("${secret:a/c}", "\n")
    assert first not in left
    assert second not in left
    assert redact(redact(revealed)) == redact(revealed)


SOURCE = """
class Vault:
    def find(self, scope, key):
        if scope == "broken":
            raise ConnectionError("token hvs.abcdef was refused")
        return {"vault/pw": "from-the-vault"}.get(f"{scope}/{key}")

    def place(self, scope, key):
        return f"vault at secret/{scope}#{key}"
"""


@pytest.fixture
def vault(tmp_path, monkeypatch):
    """A package with a source, as pip leaves it."""
    site = tmp_path / "site"
    info = site / "example_vault-1.0.dist-info"
    info.mkdir(parents=True)
    (site / "example_vault_source.py").write_text(SOURCE)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: example-vault\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[firesteel.secrets]\nvault = example_vault_source:Vault\n")
    monkeypatch.syspath_prepend(str(site))
    yield info
    sys.modules.pop("example_vault_source", None)


def test_an_installed_source_is_asked_last(vault):
    assert reveal("${secret:vault/pw}", environ={}) == "from-the-vault"
    assert reveal("${secret:vault/pw}", environ={"FIRESTEEL_SECRET_VAULT_PW": "nearer"}) == "nearer"
    assert fault("${secret:vault/no}").what.endswith("$FIRESTEEL_SECRET_VAULT_NO, vault at secret/vault#no.")


def test_what_an_installed_source_raises_is_not_quoted(vault):
    found = fault("${secret:broken/pw}")
    assert (found.code, "hvs." in str(found)) == ("FS9021", False)
    assert "vault at secret/broken#pw failed: ConnectionError." in found.what


def test_a_source_that_cannot_be_loaded_is_named(vault):
    (vault / "entry_points.txt").write_text("[firesteel.secrets]\nvault = example_vault_source:Gone\n")
    found = fault("${secret:a/b}")
    assert found.code == "FS9004"
    assert "`vault` (example_vault_source:Gone) cannot be loaded: AttributeError." in found.what


def test_a_folder_source_says_where_it_looks(folder):
    assert FolderSource(folder).place("a", "b") == str(folder / "a" / "b")
    assert FolderSource(folder).find("a", "b") is None
