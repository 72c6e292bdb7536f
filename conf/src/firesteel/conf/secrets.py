"""Secret references: `${secret:SCOPE/KEY}` in a text is replaced by the value at the moment of use.

::

    spec, plan, printed line, logs:  https://ml:${secret:mlflow/password}@mlflow.example.org
                                                |  reveal: queries the sources and registers the value with `redact`
    the call that needs it:          https://ml:...@mlflow.example.org

Callers do not store a revealed text. They reveal it again for each use, so a rotated secret takes effect at once.
`$${secret:` is a literal `${secret:`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from urllib.parse import quote

from firesteel.conf.errors import RuntimeFault
from firesteel.conf.redaction import remember
from firesteel.conf.secret_sources import SecretSource, secret_sources

FORM = "${secret:SCOPE/KEY}"
_NAME = r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}"
_SECRET = re.compile(rf"secret:({_NAME})/({_NAME})")
_REFERENCE = re.compile(r"\$\$\{(?=secret:)|\$\{(secret:[^}]*)\}?")
_IN_AUTHORITY = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://[^/?#]*")


@dataclass(frozen=True, slots=True, order=True)
class SecretRef:
    """The name of a secret. Scope and key consist of letters, digits, `.`, `_` and `-`, and do not start with `.` or `-`."""

    scope: str
    key: str

    def __str__(self) -> str:
        return f"${{secret:{self.scope}/{self.key}}}"

    @classmethod
    def parse(cls, inner: str) -> Self:
        """Return the reference in `secret:SCOPE/KEY`.

        Raises
        ------
        ValueError
            The text is not a reference; the message shows the format.
        """
        match = _SECRET.fullmatch(inner)
        if match is None:
            raise ValueError(f"write {FORM}; names are letters, digits, `.`, `_` and `-`")
        return cls(match[1], match[2])


def secrets_in(text: str) -> tuple[SecretRef, ...]:
    """Return the secrets that a text refers to, in order. Raise FS9020 for a malformed reference."""
    return tuple(_parse(match) for match in _REFERENCE.finditer(text) if match[1] is not None)


def references(text: str) -> tuple[str, ...]:
    """Return the references as written, including malformed ones."""
    return tuple(match[0] for match in _REFERENCE.finditer(text) if match[1] is not None)


def replace_references(text: str, replacement: str) -> str:
    """Return the text with each reference replaced, for code that parses the rest."""
    for reference in references(text):
        text = text.replace(reference, replacement)
    return text


def reveal(text: str, *, environ: Mapping[str, str] | None = None) -> str:
    """Return `text` with each reference replaced by the secret's value; `redact` hides the values from now on.

    In the authority of a URL (`scheme://user:HERE@host`) the value is URL-quoted, because URL parsers unquote it.

    Parameters
    ----------
    environ
        Holds `FIRESTEEL_SECRETS_DIR` and `FIRESTEEL_SECRET_...`; the process environment by default.

    Raises
    ------
    RuntimeFault
        FS9020 when a secret is not found; the message lists the places that were searched. FS9021 when one cannot be used.
    """
    if not references(text):
        return text.replace("$${secret:", "${secret:")
    sources = secret_sources(environ)
    parts: list[str] = []
    end = 0
    for match in _REFERENCE.finditer(text):
        parts.append(text[end : match.start()])
        end = match.end()
        if match[1] is None:
            parts.append("${")
            continue
        value = find_secret(_parse(match), sources)
        in_authority = _IN_AUTHORITY.fullmatch(text, 0, match.start())
        parts.append(quote(value, safe="") if in_authority else value)
    return "".join((*parts, text[end:]))


def find_secret(reference: SecretRef, sources: Sequence[SecretSource]) -> str:
    """Return the value of one secret from the first source that has it, and register it with `redact`."""
    for source in sources:
        try:
            value = source.find(reference.scope, reference.key)
        except RuntimeFault:
            raise
        except Exception as error:
            raise RuntimeFault(
                "FS9021",
                f"{reference}: {source.place(reference.scope, reference.key)} failed: {type(error).__name__}.",
                hint="Check that the source is reachable and configured.",
            ) from error
        if value is None:
            continue
        try:
            remember(str(reference), value)
        except ValueError as error:
            raise RuntimeFault(
                "FS9021",
                f"{reference} from {source.place(reference.scope, reference.key)} cannot be used: {error}.",
                hint="Change the value or the name of the secret.",
            ) from None
        return value
    places = ", ".join(source.place(reference.scope, reference.key) for source in sources)
    raise RuntimeFault(
        "FS9020",
        f"{reference} is not found. Searched: {places}.",
        hint="Store it in one of these places; FIRESTEEL_SECRETS_DIR names a folder of SCOPE/KEY files.",
    )


def _parse(match: re.Match[str]) -> SecretRef:
    try:
        return SecretRef.parse(match[1] if match[0].endswith("}") else match[0])
    except ValueError as error:
        raise RuntimeFault(
            "FS9020", f"`{match[0]}` is not a valid secret reference: {error}.", hint=f"Write {FORM}."
        ) from None
