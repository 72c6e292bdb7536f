from __future__ import annotations

import base64
import contextlib
import html
import json
import logging
import pickle
import sys
import traceback
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st
from markupsafe import escape

from firesteel.conf import redaction
from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import RedactedError, Redactor, forms, scrub, scrubbed

REFERENCE = "${secret:db/pw}"
# `$`, `{` and `}` begin and end references: next to one, they could make up a value by chance.
VALUES = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="${}"), min_size=4, max_size=40).filter(
    lambda value: len(value.strip()) >= 4 and value not in REFERENCE
)
ENCODINGS = {
    "plain": str,
    "quoted": quote,
    "quoted whole": lambda value: quote(value, safe=""),
    "quoted plus": quote_plus,
    "quoted in small letters": lambda value: quote(value, safe="").lower() if value.islower() else quote(value),
    "base64": lambda value: base64.b64encode(value.encode()).decode(),
    "base64 url": lambda value: base64.urlsafe_b64encode(value.encode()).decode().rstrip("="),
    "json": json.dumps,
    "json text": lambda value: json.dumps(value, ensure_ascii=False),
    "repr": repr,
    "html": html.escape,
    "jinja": lambda value: str(escape(value)),
}


@pytest.fixture
def known(monkeypatch):
    """A process that knows one secret."""
    redactor = Redactor()
    redactor.remember(REFERENCE, "s3cr3t/value")
    monkeypatch.setattr(redaction, "_REDACTOR", redactor)
    return "s3cr3t/value"


@given(VALUES, st.sampled_from(sorted(ENCODINGS)), st.text(max_size=8), st.text(max_size=8))
def test_a_value_is_nowhere_in_redacted_text_however_it_is_written(value, encoding, before, after):
    redactor = Redactor()
    redactor.remember(REFERENCE, value)
    written = ENCODINGS[encoding](value)
    found = redactor.redact(f"{before} {written} {after}")
    assert REFERENCE in found
    assert value not in found.replace(REFERENCE, "")
    assert written not in found.replace(REFERENCE, "")


@given(VALUES, st.binary(max_size=12), st.binary(max_size=12))
def test_no_piece_of_a_longer_base64_text_gives_the_value_away(value, before, after):
    redactor = Redactor()
    redactor.remember(REFERENCE, value)
    header = base64.b64encode(before + value.encode() + after).decode()
    assert REFERENCE in redactor.redact(f"Authorization: Basic {header}")


@given(st.lists(VALUES, min_size=2, max_size=5, unique=True), st.randoms())
def test_many_secrets_hide_each_other_in_no_order(values, random):
    redactor = Redactor()
    named = {f"${{secret:s{number}/k}}": value for number, value in enumerate(values)}
    for reference, value in named.items():
        with contextlib.suppress(ValueError):  # a part of a reference
            redactor.remember(reference, value)
    kept = [value for value in values if value in redactor._values]
    random.shuffle(kept)
    found = redactor.redact(" | ".join(kept))
    for reference in named:
        found = found.replace(reference, "")
    assert not [value for value in kept if value in found]


def test_text_without_secrets_is_the_same_object():
    text = "nothing to hide"
    assert Redactor().redact(text) is text


def test_a_value_that_was_rotated_is_hidden_beside_the_new_one():
    redactor = Redactor()
    redactor.remember(REFERENCE, "old-value")
    redactor.remember(REFERENCE, "new-value")
    assert redactor.redact("old-value new-value") == f"{REFERENCE} {REFERENCE}"


@pytest.mark.parametrize("value", ["", "abc", "   a   ", "secret", "db/p", "${secret:"])
def test_a_value_that_cannot_be_hidden_is_refused_and_not_quoted(value):
    with pytest.raises(ValueError) as caught:
        Redactor().remember(REFERENCE, value)
    assert not value.strip() or f"`{value}`" not in str(caught.value)


def test_a_reference_that_shows_another_secrets_value_is_refused():
    redactor = Redactor()
    redactor.remember("${secret:a/b}", "production")
    with pytest.raises(ValueError, match="contains the value of another secret"):
        redactor.remember("${secret:production/pw}", "hunter22")


def test_forms_do_not_hide_ordinary_short_text():
    assert min(map(len, forms("a1b2"))) >= 4


def test_an_error_holds_the_reference_from_the_moment_it_is_made(known):
    error = RuntimeFault("FS9003", f"no answer from http://ml:{known}@h", hint=f"Is {quote(known, safe='')} right?")
    for text in (str(error), repr(error), json.dumps(error.as_dict()), str(pickle.loads(pickle.dumps(error)))):
        assert known not in text
        assert quote(known, safe="") not in text
    assert REFERENCE in error.what
    assert REFERENCE in error.hint


def test_a_foreign_cause_is_replaced_by_its_redacted_text_with_its_traceback(known):
    def fails():
        raise ConnectionError(f"cannot reach http://ml:{known}@h")

    @scrubbed
    def run():
        try:
            try:
                fails()
            except ConnectionError as error:
                raise RuntimeFault("FS9003", "no answer") from error
        except RuntimeFault as error:
            raise KeyError("kept") from error

    with pytest.raises(KeyError) as caught:
        run()
    trace = "".join(traceback.format_exception(caught.value))
    assert known not in trace
    assert f"RedactedError: ConnectionError: cannot reach http://ml:{REFERENCE}@h" in trace
    assert "in fails" in trace
    assert isinstance(caught.value.__cause__, RuntimeFault)
    assert isinstance(caught.value.__cause__.__cause__, RedactedError)
    assert not _in_chain(caught.value, known)


def test_a_foreign_error_itself_is_replaced_and_stands_in_no_context(known):
    @scrubbed
    def run():
        raise ValueError("a", {"url": known})

    with pytest.raises(RedactedError) as caught:
        run()
    assert not _in_chain(caught.value, known)
    assert caught.value.__context__ is None


def test_errors_without_secrets_pass_as_they_are(known):
    error = ValueError("nothing")
    error.__cause__ = KeyError("nothing either")

    @scrubbed
    def run():
        raise error

    with pytest.raises(ValueError) as caught:
        run()
    assert caught.value is error
    assert isinstance(error.__cause__, KeyError)


def test_a_chain_that_bites_its_tail_ends(known):
    one, two = ValueError(known), KeyError("two")
    one.__context__, two.__context__ = two, one
    assert not _in_chain(scrub(two), known)


def _in_chain(error, value) -> bool:
    seen = []
    todo = [error]
    while todo:
        one = todo.pop()
        if one is None or one in seen:
            continue
        seen.append(one)
        if value in f"{one} {one.args!r}":
            return True
        todo += [one.__cause__, one.__context__]
    return False


@pytest.fixture
def factory():
    """The log record factory, as it was after."""
    before, done = logging.getLogRecordFactory(), redaction._logs_redacted
    logging.setLogRecordFactory(logging.LogRecord)
    redaction._logs_redacted = False
    yield
    logging.setLogRecordFactory(before)
    redaction._logs_redacted = done


def test_every_log_record_is_redacted_whatever_handler_writes_it(factory, monkeypatch, capsys):
    monkeypatch.setattr(redaction, "_REDACTOR", Redactor())
    redaction.remember(REFERENCE, "s3cr3t/value")
    handler = logging.StreamHandler(sys.stderr)  # made after the secret was revealed, and on a logger not of ours
    logger = logging.getLogger("urllib3.somewhere")
    logger.addHandler(handler)
    try:
        logger.error("to %s and %s", "http://ml:s3cr3t/value@h", {"pw": "s3cr3t/value"})
        logger.error("number %d", 7)
        try:
            raise ConnectionError("lost s3cr3t/value")  # noqa: TRY301 - the log call under test stands in its handler
        except ConnectionError:
            logger.exception("failed")
    finally:
        logger.removeHandler(handler)
    shown = capsys.readouterr().err
    assert "s3cr3t" not in shown
    assert f"to http://ml:{REFERENCE}@h" in shown
    assert "number 7" in shown
    assert f"ConnectionError: lost {REFERENCE}" in shown
