"""Redaction: replace the values of secrets by their references before text leaves the process.

The redactor knows every revealed value and its encodings: URL-quoted, base64 (also inside a longer encoded text, as in an
`Authorization` header), and escaped for JSON, HTML and `repr`. Text is redacted where it is created or written, because
the text of an error goes to ledgers, tags and reports.
"""

from __future__ import annotations

import base64
import functools
import html
import json
import logging
import re
import threading
import traceback
from collections.abc import Callable
from typing import ParamSpec, TypeVar
from urllib.parse import quote, quote_plus

P = ParamSpec("P")
T = TypeVar("T")

MIN_CHARS = 4
"""A shorter value occurs in ordinary text by chance, so redacting it would damage unrelated text."""


class Redactor:
    """Replaces secret values by their references. Thread-safe."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reference_of: dict[str, str] = {}
        self._references: set[str] = set()
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def remember(self, reference: str, value: str) -> None:
        """Redact `value` from now on. When a secret changes, both values are redacted.

        Raises
        ------
        ValueError
            The value cannot be redacted: it is too short, or it is part of a reference, which is always shown.
        """
        if len(value.strip()) < MIN_CHARS:
            raise ValueError(f"it has fewer than {MIN_CHARS} characters, too few to be redacted reliably")
        with self._lock:
            if any(value in known for known in {*self._references, reference}):
                raise ValueError("it is part of a reference to a secret, and references are shown")
            if any(known in reference for known in self._values):
                raise ValueError("its reference contains the value of another secret, and references are shown")
            self._references.add(reference)
            self._values.add(value)
            for form in forms(value):
                self._reference_of.setdefault(form, reference)
            longest_first = sorted(self._reference_of, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def redact(self, text: str) -> str:
        """Return `text` with every registered value replaced by its reference."""
        pattern = self._pattern
        if pattern is None:
            return text
        return pattern.sub(lambda match: self._reference_of[match[0]], text)


def forms(value: str) -> frozenset[str]:
    """Return the forms of a value in other texts: plain, quoted, escaped and encoded.

    Examples
    --------
    >>> sorted(forms("p@ss/1"))
    ['BAc3MvM', 'cEBzcy8x', 'p%40ss%2F1', 'p%40ss%2f1', 'p%40ss/1', 'p@ss/1', 'wQHNzLz']
    """
    variants = {value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    for quoted in (quote(value), quote(value, safe=""), quote_plus(value)):
        variants |= {quoted, re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)}
    escaped = html.escape(value)  # jinja2 writes &#34; and &#39;
    variants |= {escaped, escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")}
    variants |= _encoded(value.encode())
    return frozenset(variants)


def _encoded(data: bytes) -> set[str]:
    """Return the base64 of the value, and the characters that it contributes to the base64 of any longer text."""
    variants = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        variants.add(encode(data).decode().rstrip("="))
        for before in range(3):  # three bytes give four characters, so the value starts at one of three offsets
            text = encode(b"\0" * before + data).decode()
            variants.add(text[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6])
    return variants


_REDACTOR = Redactor()
_LOGGING = threading.Lock()
_logs_redacted = False


def remember(reference: str, value: str) -> None:
    """Redact `value` in this process from now on; see `Redactor.remember`."""
    _REDACTOR.remember(reference, value)
    _redact_logs()


def redact(text: str) -> str:
    """Return `text` with the values of all revealed secrets replaced by their references."""
    return _REDACTOR.redact(text)


def _redact_logs() -> None:
    """Redact log records when they are created.

    The record factory sees every record of the process. Filters do not: pyspark, MLflow and the caller add handlers later,
    and a logger's filter does not see the records of its children.
    """
    global _logs_redacted  # noqa: PLW0603 - the record factory is global to the process
    with _LOGGING:
        if _logs_redacted:
            return
        _logs_redacted = True
        create_record = logging.getLogRecordFactory()

        def redacted(*args: object, **kwargs: object) -> logging.LogRecord:
            record: logging.LogRecord = create_record(*args, **kwargs)
            try:
                text = record.getMessage()
            except Exception:  # noqa: BLE001 - logging itself reports a wrong log call when it emits the record
                return record
            if (clean := redact(text)) != text:
                record.msg, record.args = clean, ()
            if record.exc_info and record.exc_info[1] is not None:
                trace = "".join(traceback.format_exception(record.exc_info[1])).rstrip("\n")
                if (clean := redact(trace)) != trace:
                    record.exc_text = clean
                    record.exc_info = None
            return record

        logging.setLogRecordFactory(redacted)


class RedactedError(Exception):
    """Replaces a foreign error whose text contained a secret: holds its type and its redacted text."""


def scrub(error: BaseException) -> BaseException:
    """Return `error` without secrets in its text and in the texts of its causes, which a traceback prints too.

    An error that contains a secret is replaced by a `RedactedError` with the same traceback; others are unchanged.
    """
    cleaned: dict[int, BaseException] = {}

    def clean(one: BaseException) -> BaseException:
        if id(one) in cleaned:
            return cleaned[id(one)]
        text = f"{one}\n{one.args!r}\n{getattr(one, '__notes__', '')}"
        replacement = one
        if redact(text) != text:
            replacement = RedactedError(redact(f"{type(one).__name__}: {one}")).with_traceback(one.__traceback__)
            replacement.__suppress_context__ = one.__suppress_context__
        cleaned[id(one)] = replacement
        cause, context = one.__cause__, one.__context__
        suppress = replacement.__suppress_context__
        replacement.__cause__ = clean(cause) if cause is not None else None
        replacement.__context__ = clean(context) if context is not None else None
        replacement.__suppress_context__ = suppress  # setting a cause also sets this flag
        return replacement

    return clean(error)


def scrubbed(function: Callable[P, T]) -> Callable[P, T]:
    """Return `function` with secrets redacted in the errors that it raises, and in their causes."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            clean = scrub(error)
            if clean is error:
                raise
        raise clean  # outside `except`, where the error with the secret would become its context

    return call
