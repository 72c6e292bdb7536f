"""Secrets: `${secret:SCOPE/KEY}` in a text, and its value at the moment of use.

::

    spec, plan, printed line, logs:  https://ml:${secret:mlflow/password}@mlflow.example.org
                                                |  reveal: asks the sources, remembers the value for `redact`
    the call that needs it:          https://ml:...@mlflow.example.org

Nothing keeps a revealed text: whoever needs it reveals it again, and so takes a rotated secret at once.
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
    """A secret's name. Scope and key are letters, digits, `.`, `_` and `-`, and start with none of `.` and `-`."""

    scope: str
    key: str

    def __str__(self) -> str:
        return f"${{secret:{self.scope}/{self.key}}}"

    @classmethod
    def parse(cls, inner: str) -> Self:
        """Read `secret:SCOPE/KEY`.

        Raises
        ------
        ValueError
            With the right form.
        """
        match = _SECRET.fullmatch(inner)
        if match is None:
            raise ValueError(f"write {FORM}; names are letters, digits, `.`, `_` and `-`")
        return cls(match[1], match[2])


def secrets_in(text: str) -> tuple[SecretRef, ...]:
    """The secrets that a text refers to, in its order. FS9020 when a reference is malformed."""
    return tuple(_parse(match) for match in _REFERENCE.finditer(text) if match[1] is not None)


def references(text: str) -> tuple[str, ...]:
    """The references as they are written, malformed ones too."""
    return tuple(match[0] for match in _REFERENCE.finditer(text) if match[1] is not None)


def reveal(text: str, *, environ: Mapping[str, str] | None = None) -> str:
    """`text` with the values of its secrets, which are remembered, so that `redact` hides them from now on.

    Inside `scheme://user:HERE@host` a value is URL-quoted: whoever reads the URL takes it apart and unquotes it.

    Parameters
    ----------
    environ
        Where `FIRESTEEL_SECRETS_DIR` and `FIRESTEEL_SECRET_...` are looked up; the process's by default.

    Raises
    ------
    RuntimeFault
        FS9020 when a secret is not found, with the places that were asked. FS9021 when one cannot be used.
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
    """The value of one secret, from the first source that has it. It is remembered for `redact`."""
    for source in sources:
        try:
            value = source.find(reference.scope, reference.key)
        except RuntimeFault:
            raise
        except Exception as error:
            raise RuntimeFault(
                "FS9021",
                f"{reference}: {source.place(reference.scope, reference.key)} failed: {type(error).__name__}.",
                hint="Is the source reachable, and is it set up?",
            ) from error
        if value is None:
            continue
        try:
            remember(str(reference), value)
        except ValueError as error:
            raise RuntimeFault(
                "FS9021",
                f"{reference} from {source.place(reference.scope, reference.key)} cannot be used: {error}.",
                hint="Choose another value, or another name.",
            ) from None
        return value
    places = ", ".join(source.place(reference.scope, reference.key) for source in sources)
    raise RuntimeFault(
        "FS9020",
        f"{reference} is not found. Looked at {places}.",
        hint="Put it there; FIRESTEEL_SECRETS_DIR names a folder of SCOPE/KEY files.",
    )


def _parse(match: re.Match[str]) -> SecretRef:
    try:
        return SecretRef.parse(match[1] if match[0].endswith("}") else match[0])
    except ValueError as error:
        raise RuntimeFault("FS9020", f"`{match[0]}` is not a secret: {error}.", hint=f"Write {FORM}.") from None
