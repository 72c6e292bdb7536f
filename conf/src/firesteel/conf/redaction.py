"""Redaction: a secret's value that is about to leave the process is put back as its reference.

Every value that was revealed is remembered, together with the forms in which other programs quote it: URL-quoted, base64
(also in the middle of an encoded text, as in an `Authorization` header), escaped for JSON, HTML and `repr`. Text is
redacted where it is made or written, not where it is shown: an error's text travels into ledgers, tags and reports.
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
"""A shorter value stands in ordinary text by chance: it could not be redacted without making nonsense of everything."""


class Redactor:
    """The values that must not be seen, and the references that stand for them. Safe to use from several threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._reference_of: dict[str, str] = {}
        self._references: set[str] = set()
        self._values: set[str] = set()
        self._pattern: re.Pattern[str] | None = None

    def remember(self, reference: str, value: str) -> None:
        """Redact `value` from now on. A value that changed is remembered beside the old one.

        Raises
        ------
        ValueError
            The value cannot be redacted: it is too short, or a part of a reference, where it would be seen in any case.
        """
        if len(value.strip()) < MIN_CHARS:
            raise ValueError(f"it has fewer than {MIN_CHARS} characters, too few to be found and hidden in other text")
        with self._lock:
            if any(value in known for known in {*self._references, reference}):
                raise ValueError("it is a part of a reference to a secret, and references are shown")
            if any(known in reference for known in self._values):
                raise ValueError("its reference holds the value of another secret, and references are shown")
            self._references.add(reference)
            self._values.add(value)
            for form in forms(value):
                self._reference_of.setdefault(form, reference)
            longest_first = sorted(self._reference_of, key=lambda form: (-len(form), form))
            self._pattern = re.compile("|".join(map(re.escape, longest_first)))

    def redact(self, text: str) -> str:
        """`text` with every remembered value replaced by its reference."""
        pattern = self._pattern
        if pattern is None:
            return text
        return pattern.sub(lambda match: self._reference_of[match[0]], text)


def forms(value: str) -> frozenset[str]:
    """How a value looks in other texts: itself, quoted, escaped, encoded.

    Examples
    --------
    >>> sorted(forms("p@ss/1"))
    ['BAc3MvM', 'QHNzLz', 'cEBzcy8x', 'p%40ss%2F1', 'p%40ss%2f1', 'p%40ss/1', 'p@ss/1']
    """
    found = {value, repr(value)[1:-1], json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
    for quoted in (quote(value), quote(value, safe=""), quote_plus(value)):
        found |= {quoted, re.sub(r"%[0-9A-F]{2}", lambda match: match[0].lower(), quoted)}
    escaped = html.escape(value)  # jinja2 writes &#34; and &#39;
    found |= {escaped, escaped.replace("&quot;", "&#34;").replace("&#x27;", "&#39;")}
    found |= _encoded(value.encode())
    return frozenset(found)


def _encoded(data: bytes) -> set[str]:
    """Base64 of the value by itself, and the characters that any longer text with the value in it must have."""
    found = set()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        found.add(encode(data).decode().rstrip("="))
        for before in range(3):  # three bytes make four characters: the value starts at one of three places
            text = encode(b"\0" * before + data).decode()
            found.add(text[(before * 8 + 5) // 6 : (before + len(data)) * 8 // 6])
    return found


_REDACTOR = Redactor()
_LOGGING = threading.Lock()
_logs_redacted = False


def remember(reference: str, value: str) -> None:
    """Redact `value` in this process from now on; see `Redactor.remember`."""
    _REDACTOR.remember(reference, value)
    _redact_logs()


def redact(text: str) -> str:
    """`text` with the references of all secrets that this process has revealed in the place of their values."""
    return _REDACTOR.redact(text)


def _redact_logs() -> None:
    """Redact log records as they are made.

    Not by filters of handlers: pyspark, MLflow and the caller add handlers later, and a logger's filter does not see the
    records of its children. The factory is the one place that every record of the process passes.
    """
    global _logs_redacted  # noqa: PLW0603 - the factory is the process's, and so is its being wrapped
    with _LOGGING:
        if _logs_redacted:
            return
        _logs_redacted = True
        make = logging.getLogRecordFactory()

        def redacted(*args: object, **kwargs: object) -> logging.LogRecord:
            record: logging.LogRecord = make(*args, **kwargs)
            try:
                text = record.getMessage()
            except Exception:  # noqa: BLE001 - a wrong log call is reported by logging itself, when it is emitted
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
    """A foreign error whose text held a secret: its type and its text with the reference in the value's place."""


def scrub(error: BaseException) -> BaseException:
    """`error` with no secret in its text, nor in the texts of those that it came from: tracebacks print them all.

    An error that has one is replaced by a `RedactedError` with its traceback; all others stay what they are.
    """
    seen: dict[int, BaseException] = {}

    def clean(one: BaseException) -> BaseException:
        if id(one) in seen:
            return seen[id(one)]
        text = f"{one}\n{one.args!r}\n{getattr(one, '__notes__', '')}"
        instead = one
        if redact(text) != text:
            instead = RedactedError(redact(f"{type(one).__name__}: {one}")).with_traceback(one.__traceback__)
            instead.__suppress_context__ = one.__suppress_context__
        seen[id(one)] = instead
        cause, context = one.__cause__, one.__context__
        hidden = instead.__suppress_context__
        instead.__cause__ = clean(cause) if cause is not None else None
        instead.__context__ = clean(context) if context is not None else None
        instead.__suppress_context__ = hidden  # setting a cause sets it, too
        return instead

    return clean(error)


def scrubbed(function: Callable[P, T]) -> Callable[P, T]:
    """Errors that leave `function` hold no secrets, whoever prints them and their causes."""

    @functools.wraps(function)
    def call(*args: P.args, **kwargs: P.kwargs) -> T:
        try:
            return function(*args, **kwargs)
        except BaseException as error:
            clean = scrub(error)
            if clean is error:
                raise
        raise clean  # here, since inside `except` the error with the secret would become its context

    return call
