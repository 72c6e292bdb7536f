"""Who may publish where: allow-lists of the site, which the owner of a spec does not control.

::

    /etc/firesteel/policy.yaml   where it is there, it counts
    $FIRESTEEL_POLICY            counts as well: what is to be published must be allowed by both

    policy_version: 1
    require_security: true                    # plans must have `security: {mode: strict}`
    allow:
      - {sink: "hdfs://nn/ml/scores", users: [airflow], pipelines: [flight_delay_scores], profiles: [prod]}
      - {sink: "hdfs://nn/ml/dev/**", users: ["*"]}

Looked at when a plan is made, when a transaction begins, and again before it journals: every way to change a sink passes
there. What is allowed by nothing is refused, and so is everything while a policy cannot be read. It holds honest programs
to the rules and says in the audit log what they did; who may write to the storage at all is up to the storage's own modes.
"""

from __future__ import annotations

import hashlib
import io
import os
import re
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from firesteel.conf.errors import NotAllowed, Where
from firesteel.conf.hadoop import RPC_PORT
from firesteel.conf.identity import os_user
from firesteel.pipelines.storage.open import locate

SITE = Path("/etc/firesteel/policy.yaml")
VARIABLE = "FIRESTEEL_POLICY"
MAX_BYTES = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Part):
    """Some users may publish to some sinks. `*` is any part of one path segment, `**` any path; a list of `*` is all."""

    sink: str = Field(pattern=r"^(\*\*$|(hdfs|file):/)")
    users: tuple[str, ...] = Field(min_length=1)
    pipelines: tuple[str, ...] = ("*",)
    profiles: tuple[str, ...] = ("*",)


class PolicyFile(_Part):
    """A policy: rules that allow. There are none that forbid, so their order does not matter."""

    policy_version: Literal[1]
    allow: tuple[Rule, ...]
    require_security: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """Who wants to publish what where; `sink` is a URI."""

    user: str
    pipeline: str
    profile: str
    sink: str

    @classmethod
    def of(cls, pipeline: str, profile: str, sink: str) -> Request:
        """By the user of this process."""
        return cls(os_user(), pipeline, profile, sink)


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy that was read; `digest` is the start of the SHA-256 of its bytes."""

    path: str
    digest: str
    rules: tuple[Rule, ...]
    require_security: bool

    def rule_for(self, request: Request) -> int | None:
        """The number of the first rule that allows it, from 1."""
        return next((number for number, rule in enumerate(self.rules, start=1) if _allows(rule, request)), None)


def policies(environ: Mapping[str, str] = os.environ, site: Path | None = None) -> tuple[Policy, ...]:
    """The policies that count here.

    Raises
    ------
    NotAllowed
        FS7602 when one is there and cannot be trusted or understood: then nobody may publish.
    """
    site = site or SITE
    named = environ.get(VARIABLE, "")
    paths = [site] if site.exists() else []
    if named and Path(named) not in paths:
        paths.append(Path(named))
    return tuple(_read(path) for path in paths)


def authorise(request: Request, *, strict: bool | None = None, found: Sequence[Policy] | None = None) -> str:
    """Ask all policies.

    Parameters
    ----------
    strict
        Whether the plan turns security on; None where that is not known, and was asked before.

    Returns
    -------
    What allows it, for the audit log: each policy's digest and the rule; nothing where there is no policy.

    Raises
    ------
    NotAllowed
        FS7601 when one of them allows it by no rule, FS7602 when one cannot be used, FS7603 when security is required.
    """
    allowed = []
    for policy in policies() if found is None else found:
        number = policy.rule_for(request)
        if number is None:
            raise NotAllowed(
                "FS7601",
                f"{request.user} may not publish {request.pipeline} ({request.profile}) to {request.sink}: "
                f"no rule of {policy.path} allows it. Nothing was published.",
                hint="Ask whoever keeps the policy, or run as a user that it names.",
            )
        if policy.require_security and strict is False:
            raise NotAllowed(
                "FS7603",
                f"{policy.path} requires `security: {{mode: strict}}`, and {request.pipeline} ({request.profile}) has it off.",
                hint="Turn it on in the spec: docs/concepts/security.md.",
            )
        allowed.append(f"{policy.digest} rule {number}")
    return ", ".join(allowed)


def _allows(rule: Rule, request: Request) -> bool:
    return (
        _among(request.user, rule.users)
        and _among(request.pipeline, rule.pipelines)
        and _among(request.profile, rule.profiles)
        and _pattern(rule.sink).fullmatch(canonical(request.sink)) is not None
    )


def _among(name: str, names: Sequence[str]) -> bool:
    return "*" in names or name in names


def canonical(uri: str) -> str:
    """A sink's URI in the one form that is compared: its NameNode named, without Hadoop's own port, links followed."""
    storage, path = locate(uri)
    if storage.base_uri == "file://":
        path = os.path.realpath(path)
    return f"{storage.base_uri.removesuffix(f':{RPC_PORT}')}{path}"


def _pattern(text: str) -> re.Pattern[str]:
    """A rule's sink as an expression over canonical URIs; only the part before its first `*` has links and ports in it."""
    fixed, star, rest = text.partition("*")
    folder, slash, name = fixed.rpartition("/")
    if star and "://" in folder and folder.partition("://")[2]:
        fixed = f"{canonical(folder).rstrip('/')}{slash}{name}"
    elif not star:
        fixed = canonical(fixed)
    parts = re.split(r"(\*\*|\*)", star + rest)
    globs = {"**": ".*", "*": "[^/]*"}
    return re.compile(re.escape(fixed) + "".join(globs.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _read(path: Path) -> Policy:
    try:
        state = path.stat()
        data = path.read_bytes()
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(state.st_mode)
        raise _unusable(path, f"can be changed by others than its owner (mode {mode:04o})", "chmod go-w it.")
    if len(data) > MAX_BYTES:
        raise _unusable(path, "is longer than 1 MiB")
    try:
        content = YAML(typ="safe", pure=True).load(io.BytesIO(data))
        policy = PolicyFile.model_validate(content)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise _unusable(path, "is not valid YAML", line=line) from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise _unusable(path, f"is not a policy: {place}: {first['msg']}") from error
    return Policy(str(path), hashlib.sha256(data).hexdigest()[:12], policy.allow, policy.require_security)


def _unusable(path: Path, why: str, hint: str = "", line: int | None = None) -> NotAllowed:
    return NotAllowed(
        "FS7602",
        f"the policy {why}. Nobody may publish until it is mended.",
        where=Where(str(path), line),
        hint=hint or "docs/concepts/security.md shows one.",
    )
