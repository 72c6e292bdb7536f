"""Policies: allow-lists of the site that decide who may publish to which sink. The owner of a spec does not control them.

::

    /etc/firesteel/policy.yaml   applies if it exists
    $FIRESTEEL_POLICY            applies too: both must allow a publish

    policy_version: 1
    require_security: true                    # plans must have `security: {mode: strict}`
    allow:
      - {sink: "hdfs://nn/ml/scores", users: [airflow], pipelines: [flight_delay_scores], profiles: [prod]}
      - {sink: "hdfs://nn/ml/dev/**", users: ["*"]}

Policies are checked when a plan is made, when a transaction begins, and before it writes its journal: every change of a sink
passes these checks. A publish that no rule allows is refused. While a policy cannot be read, every publish is refused. Policies
restrict firesteel, and the audit log records the result. The storage's permissions decide who can write to it at all.
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
from firesteel.conf.files import UnusableFileError, read_user_bytes
from firesteel.conf.hadoop import RPC_PORT
from firesteel.conf.identity import os_user
from firesteel.pipelines.storage.open import locate

SITE = Path("/etc/firesteel/policy.yaml")
VARIABLE = "FIRESTEEL_POLICY"
MAX_BYTES = 1 << 20


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Part):
    """A rule that allows users to publish to sinks. `*` matches within a path segment, `**` any path; the item `*` matches all names."""

    sink: str = Field(pattern=r"^(\*\*$|(hdfs|file):/)")
    users: tuple[str, ...] = Field(min_length=1)
    pipelines: tuple[str, ...] = ("*",)
    profiles: tuple[str, ...] = ("*",)


class PolicyFile(_Part):
    """A policy file. Rules only allow, so their order does not matter."""

    policy_version: Literal[1]
    allow: tuple[Rule, ...]
    require_security: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request to publish; `sink` is a URI."""

    user: str
    pipeline: str
    profile: str
    sink: str

    @classmethod
    def of(cls, pipeline: str, profile: str, sink: str) -> Request:
        """Return a request of the current user."""
        return cls(os_user(), pipeline, profile, sink)


@dataclass(frozen=True, slots=True)
class Policy:
    """A loaded policy; `digest` is the start of its file's SHA-256."""

    path: str
    digest: str
    rules: tuple[Rule, ...]
    require_security: bool

    def rule_for(self, request: Request) -> int | None:
        """Return the number of the first rule that allows a request, from 1; None if there is none."""
        return next((number for number, rule in enumerate(self.rules, start=1) if _allows(rule, request)), None)


def policies(environ: Mapping[str, str] = os.environ, site: Path | None = None) -> tuple[Policy, ...]:
    """Return the policies of this machine and environment.

    Raises
    ------
    NotAllowed
        FS7602 when a policy is not valid or others can change it; then nobody may publish.
    """
    site = site or SITE
    named = environ.get(VARIABLE, "")
    paths = [site] if site.exists() else []
    if named and Path(named) not in paths:
        paths.append(Path(named))
    return tuple(_read(path) for path in paths)


def authorise(request: Request, *, strict: bool | None = None, found: Sequence[Policy] | None = None) -> str:
    """Check a request against all policies.

    Parameters
    ----------
    strict
        Whether the plan has strict security; None if the plan is unknown and was checked before.

    Returns
    -------
    Each policy's digest and the rule that allows the request, for the audit log; empty without policies.

    Raises
    ------
    NotAllowed
        FS7601 when a policy has no rule that allows the request, FS7602 when a policy is not valid, FS7603 when a policy requires
        strict security.
    """
    allowed = []
    for policy in policies() if found is None else found:
        number = policy.rule_for(request)
        if number is None:
            raise NotAllowed(
                "FS7601",
                f"{request.user} may not publish {request.pipeline} ({request.profile}) to {request.sink}: "
                f"no rule of {policy.path} allows it. Nothing was published.",
                hint="Ask the owner of the policy, or run as a user that it allows.",
            )
        if policy.require_security and strict is False:
            raise NotAllowed(
                "FS7603",
                f"{policy.path} requires `security: {{mode: strict}}`, but {request.pipeline} ({request.profile}) does not set it.",
                hint="Set it in the spec; see docs/concepts/security.md.",
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
    """Return a sink's URI for comparison: with its NameNode, without Hadoop's default port, with links resolved."""
    storage, path = locate(uri)
    if storage.base_uri == "file://":
        path = os.path.realpath(path)
    return f"{storage.base_uri.removesuffix(f':{RPC_PORT}')}{path}"


def _pattern(text: str) -> re.Pattern[str]:
    """Return a rule's sink as a pattern of canonical URIs; only the part before the first `*` is made canonical."""
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
        data = read_user_bytes(path, MAX_BYTES)
    except UnusableFileError as error:
        raise _unusable(path, error.why) from error
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(state.st_mode)
        raise _unusable(path, f"is writable by users other than its owner (mode {mode:04o})", "Run `chmod go-w` on it.")
    try:
        content = YAML(typ="safe", pure=True).load(io.BytesIO(data))
        policy = PolicyFile.model_validate(content)
    except YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        line = mark.line + 1 if mark else None
        raise _unusable(path, "is not valid YAML", line=line) from error
    except RecursionError as error:
        raise _unusable(path, "is not valid YAML: it is nested too deeply") from error
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(map(str, first["loc"])) or "the file"
        raise _unusable(path, f"is not a valid policy: {place}: {first['msg']}") from error
    return Policy(str(path), hashlib.sha256(data).hexdigest()[:12], policy.allow, policy.require_security)


def _unusable(path: Path, why: str, hint: str = "", line: int | None = None) -> NotAllowed:
    return NotAllowed(
        "FS7602",
        f"the policy {why}. Nobody may publish until it is fixed.",
        where=Where(str(path), line),
        hint=hint or "See the example in docs/concepts/security.md.",
    )
