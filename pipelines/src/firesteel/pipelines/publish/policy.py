"""Policies: allow-lists of the site that decide who may publish to which sink. The owner of a spec does not control them.

::

    /etc/firesteel/policy.yaml   applies if it exists
    $FIRESTEEL_POLICY            applies too: both must allow a publish

    policy_version: 1
    require_security: true                    # plans must have `security: {mode: strict}`
    allow:
      - {sink: "hdfs://nn/ml/scores", users: [airflow], pipelines: [flight_delay_scores], profiles: [prod]}
      - {sink: "hdfs://nn/ml/dev/**", storage: "hdfs://nn/ml/state/**", users: ["*"]}
      - {sink: "hdfs://nn/ml/rates", users: [airflow], signing_keys: [MCowBQYDK2VwAyEA...]}

Policies are checked when a plan is made, when a transaction or a recovery begins, before a journal is written, before each rename
into a sink (`swap` needs a Permission), and before each other change of a state store (`PermittedStorage`). A publish that no rule
allows is refused. While a policy cannot be read, every publish is refused. Policies restrict firesteel, and the audit log records the
result. The storage's permissions decide who can write to it at all.
"""

from __future__ import annotations

import functools
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from firesteel.conf.errors import NotAllowed, StorageError, Where
from firesteel.conf.files import UnusableFileError, read_user_file
from firesteel.conf.identity import os_user
from firesteel.conf.signing import PublicKey
from firesteel.pipelines.storage.identity import Location
from firesteel.pipelines.storage.paths import absolute, join, parent_of, split_uri

SITE = Path("/etc/firesteel/policy.yaml")
VARIABLE = "FIRESTEEL_POLICY"
MAX_BYTES = 1 << 20
_MAX_LINKS = 40
"""Linux follows no more links in a path."""


_PATTERN = r"^(\*\*$|(hdfs|file):/)"
_BESIDE = "_firesteel"


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Rule(_Part):
    """A rule that allows users to publish to sinks. `*` matches within a path segment, `**` any path; the item `*` matches all names."""

    sink: str = Field(pattern=_PATTERN)
    storage: str | None = Field(None, pattern=_PATTERN)
    """Where the state store may be. By default where `sink` allows it, and in `_firesteel` beside the sink."""
    users: tuple[str, ...] = Field(min_length=1)
    pipelines: tuple[str, ...] = ("*",)
    profiles: tuple[str, ...] = ("*",)
    signing_keys: tuple[str, ...] = ()
    """Ed25519 public keys: one of them must sign each publish; see signers.py. They are text, so that the policy's digest covers them."""

    @field_validator("signing_keys")
    @classmethod
    def _are_keys(cls, texts: tuple[str, ...]) -> tuple[str, ...]:
        for text in texts:
            PublicKey.parse(text)
        return texts


class PolicyFile(_Part):
    """A policy file. Rules only allow, so their order does not matter."""

    policy_version: Literal[1]
    allow: tuple[Rule, ...]
    require_security: bool = False


@dataclass(frozen=True, slots=True)
class Request:
    """A request to publish to the URI `sink`, with the state store at the URI `storage`."""

    user: str
    pipeline: str
    profile: str
    sink: str
    storage: str

    @classmethod
    def of(cls, pipeline: str, profile: str, sink: str, storage: str) -> Request:
        """Return a request of the current user."""
        return cls(os_user(), pipeline, profile, sink, storage)


@dataclass(frozen=True, slots=True)
class Policy:
    """A loaded policy; `digest` is the start of its file's SHA-256. The locations of its rules are resolved."""

    path: str
    digest: str
    rules: tuple[Rule, ...]
    require_security: bool

    def rule_for(self, request: Request) -> int | None:
        """Return the number of the first rule that allows a request, from 1; None if there is none."""
        sink, storage = Location.of(request.sink), Location.of(request.storage)
        return next(
            (
                number
                for number, rule in enumerate(self.rules, start=1)
                if _allows_sink(rule, request, sink) and _allows_storage(rule, sink, storage)
            ),
            None,
        )

    def allows_sink(self, request: Request) -> bool:
        """Return whether a rule allows the sink of a request, maybe with another storage."""
        return any(_allows_sink(rule, request, Location.of(request.sink)) for rule in self.rules)

    def allows_storage(self, request: Request, storage: Location) -> bool:
        """Return whether a rule allows the storage for any sink."""
        return any(
            _among(request.user, rule.users)
            and _among(request.pipeline, rule.pipelines)
            and _among(request.profile, rule.profiles)
            and _may_hold(rule, storage)
            for rule in self.rules
        )

    def signing_keys(self, pipeline: str, profile: str, sink: str) -> frozenset[PublicKey]:
        """Return the keys of all rules for a pipeline, a profile and the URI of a sink, whoever their users are."""
        location = Location.of(sink)
        return frozenset(
            PublicKey.parse(text)
            for rule in self.rules
            if _among(pipeline, rule.pipelines) and _among(profile, rule.profiles) and _matches(rule.sink, location)
            for text in rule.signing_keys
        )

    def allows_below(self, request: Request, location: Location) -> bool:
        """Return whether a rule allows a sink at a location or above it."""
        above = [location, *(Location(location.home, str(parent)) for parent in PurePosixPath(location.path).parents)]
        return any(_allows_sink(rule, request, sink) for rule in self.rules for sink in above)


def policies(environ: Mapping[str, str] = os.environ, site: Path | None = None) -> tuple[Policy, ...]:
    """Return the policies of this machine and environment.

    Raises
    ------
    NotAllowed
        FS7602 when a policy is not valid or others can change it; then nobody may publish.
    """
    site = site or SITE
    named = environ.get(VARIABLE, "")
    paths = [site] if _is_there(site) else []
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
        if number is None and policy.allows_sink(request):
            raise NotAllowed(
                "FS7601",
                f"{request.user} may not publish {request.pipeline} ({request.profile}) to {request.sink} with `storage` "
                f"{request.storage}: no rule of {policy.path} allows it. Nothing was published.",
                hint=f"Use a storage in `{_BESIDE}` beside the sink, or ask the owner of the policy to add `storage` to the rule.",
            )
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


def authorise_paths(request: Request, uris: Iterable[str], found: Sequence[Policy]) -> None:
    """Check the paths that a publish writes or renames. Links may lead out of the sink and the storage of an allowed request.

    A rename moves a link and does not follow it, so the folder of each path is resolved and its name is not.

    Raises
    ------
    NotAllowed
        FS7601 when a path leads elsewhere, and a policy allows no sink there.
    """
    roots = (Location.of(request.sink), Location.of(request.storage))
    if not found or not all(root.is_local for root in roots):  # HDFS has no links
        return
    for uri in uris:
        location = _entry(uri)
        if any(location.below(root) is not None for root in roots):
            continue
        for policy in found:
            if not policy.allows_below(request, location):
                raise NotAllowed(
                    "FS7601",
                    f"{request.user} may not publish {request.pipeline} ({request.profile}) to {location}, where a link leads from "
                    f"{uri}: no rule of {policy.path} allows it.",
                    hint="Replace the link by a folder, or ask the owner of the policy.",
                )


def authorise_writes(request: Request, uris: Iterable[str], found: Sequence[Policy]) -> None:
    """Check paths of a pipeline's storage and sinks, whatever is written there. The request's sink is not used.

    Raises
    ------
    NotAllowed
        FS7601 when a path, with the links on its way resolved, is neither in a storage that each policy allows nor in a sink.
    """
    storage = Location.of(request.storage)
    for uri in uris:
        location = _entry(uri)
        inside = location.below(storage) is not None
        for policy in found:
            if not (inside and policy.allows_storage(request, storage)) and not policy.allows_below(request, location):
                link = "" if str(location) == uri else f" ({uri})"
                raise NotAllowed(
                    "FS7601",
                    f"{request.user} may not write to {location}{link} for {request.pipeline} ({request.profile}): "
                    f"no rule of {policy.path} allows it.",
                    hint="Run as a user that the policy allows, or ask its owner. A link can be replaced by a folder.",
                )


def _entry(uri: str) -> Location:
    """Return the location of a file or folder that is written, renamed or removed: its folder is resolved, and its name is not."""
    folder, _, name = uri.rpartition("/")
    parent = Location.of(folder if folder.partition(":")[2].strip("/") else "file:///")
    return Location(parent.home, f"{parent.path.rstrip('/')}/{name}")


def _allows_sink(rule: Rule, request: Request, sink: Location) -> bool:
    return (
        _among(request.user, rule.users)
        and _among(request.pipeline, rule.pipelines)
        and _among(request.profile, rule.profiles)
        and _matches(rule.sink, sink)
    )


def may_record(request: Request, folder: str, found: Sequence[Policy]) -> bool:
    """Return whether a refusal may be recorded in a folder of the storage: not where the storage itself may be refused."""
    sink, storage = Location.of(request.sink), Location.of(request.storage)
    if Location.of(folder).below(storage) is None:
        return False
    return _is_beside(sink, storage) or any(
        _among(request.user, rule.users) and _matches(rule.storage or rule.sink, storage)
        for policy in found
        for rule in policy.rules
    )


def _allows_storage(rule: Rule, sink: Location, storage: Location) -> bool:
    if rule.storage is not None:
        return _matches(rule.storage, storage)
    return _matches(rule.sink, storage) or _is_beside(sink, storage)


def _may_hold(rule: Rule, storage: Location) -> bool:
    """Return whether a storage is where a rule allows it for some sink of the rule."""
    if rule.storage is not None:
        return _matches(rule.storage, storage)
    path = PurePosixPath(storage.path)
    beside = (
        storage.home + str(folder.parent).rstrip("/") for folder in (path, *path.parents) if folder.name == _BESIDE
    )
    parents = _pattern(rule.sink.rpartition("/")[0])
    return _matches(rule.sink, storage) or any(
        parents.fullmatch(folder) or _pattern(rule.sink).fullmatch(f"{folder}/sink") for folder in beside
    )


def _is_beside(sink: Location, storage: Location) -> bool:
    beside = join(parent_of(sink.path), _BESIDE)  # not resolved: a link with this name may lead anywhere
    return storage.home == sink.home and (storage.path == beside or storage.path.startswith(f"{beside}/"))


def _matches(pattern: str, location: Location) -> bool:
    return _pattern(pattern).fullmatch(str(location)) is not None


def _among(name: str, names: Sequence[str]) -> bool:
    return "*" in names or name in names


def _pattern(text: str) -> re.Pattern[str]:
    """Return a rule's resolved text as a pattern of locations."""
    parts = re.split(r"(\*\*|\*)", text)
    globs = {"**": ".*", "*": "[^/]*"}
    return re.compile("".join(globs.get(part, re.escape(part)) for part in parts), re.DOTALL)


def _resolved(text: str, owner: int) -> str:
    """Return a rule's text with the location before its first `*`, through links that only root and the policy's owner can change.

    A link that another user can change would let this user say what the rule allows.
    """
    fixed, star, rest = text.partition("*")
    folder, slash, name = fixed.rpartition("/") if star else (fixed, "", "")
    if star and not folder.partition(":")[2].strip("/"):
        return text
    location = Location.of(folder)
    literal = absolute(split_uri(folder)[2])
    if location.is_local and location.path != literal and not _has_safe_links(literal, owner):
        location = Location(location.home, literal)
    return f"{str(location).rstrip('/')}{slash}{name}{star}{rest}"


def _has_safe_links(path: str, owner: int) -> bool:
    """Return whether only root and `owner` can change the links on the way to a path."""
    current, pending, links = "/", path.split("/")[::-1], 0
    while pending:
        step = os.path.normpath(f"{current}/{pending.pop()}")
        try:
            target = os.readlink(step)  # noqa: PTH115 - storage paths are text, not Path
        except OSError:  # no link
            current = step
            continue
        links += 1
        folder, link = os.stat(current), os.lstat(step)  # noqa: PTH116
        if links > _MAX_LINKS or _can_change(folder, owner) or link.st_uid not in {0, owner}:
            return False
        current = "/" if target.startswith("/") else current
        pending += target.split("/")[::-1]
    return True


def _can_change(folder: os.stat_result, owner: int) -> bool:
    """Return whether a user other than root and `owner` can rename in a folder. The sticky bit, as of /tmp, prevents it."""
    open_to_others = folder.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not folder.st_mode & stat.S_ISVTX
    return bool(open_to_others) or folder.st_uid not in {0, owner}


def _read(path: Path) -> Policy:
    try:
        file = read_user_file(path, MAX_BYTES)
        changeable = next(_changeable_folders(path, file.state.st_uid), None)
    except UnusableFileError as error:
        raise _unusable(path, error.why) from None
    except OSError as error:
        raise _unusable(path, f"cannot be read: {error.strerror}") from error
    data, state = file.data, file.state
    if state.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        mode = stat.S_IMODE(state.st_mode)
        raise _unusable(path, f"is writable by users other than its owner (mode {mode:04o})", "Run `chmod go-w` on it.")
    if changeable:
        raise _unusable(
            path,
            f"can be replaced by users other than its owner: they can change the folder {changeable}",
            "Give the folder to the owner of the policy, and run `chmod go-w` on it.",
        )
    try:
        policy = _parsed(data)
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
    try:
        rules = tuple(_with_locations(rule, state.st_uid) for rule in policy.allow)
    except (StorageError, ValueError) as error:
        raise _unusable(path, f"has a rule without a valid location: {error}") from error
    return Policy(str(path), hashlib.sha256(data).hexdigest()[:12], rules, policy.require_security)


@functools.lru_cache(maxsize=8)
def _parsed(data: bytes) -> PolicyFile:
    """Return the policy of a file's bytes. A run asks before each write, and parsing takes milliseconds."""
    return PolicyFile.model_validate(YAML(typ="safe", pure=True).load(io.BytesIO(data)))


def _with_locations(rule: Rule, owner: int) -> Rule:
    storage = None if rule.storage is None else _resolved(rule.storage, owner)
    return rule.model_copy(update={"sink": _resolved(rule.sink, owner), "storage": storage})


def _is_there(site: Path) -> bool:
    """Return whether the site has a policy. Only a missing file means no; a broken link on the way to it does not."""
    try:
        site.lstat()
    except FileNotFoundError:
        broken = next((folder for folder in site.parents if folder.is_symlink() and not folder.exists()), None)
        if broken is None:
            return False
        raise _unusable(site, f"cannot be read: {broken} is a broken link") from None
    except OSError as error:
        raise _unusable(site, f"cannot be read: {error.strerror}") from error
    return True


def _changeable_folders(path: Path, owner: int) -> Iterator[Path]:
    """Yield the folders on the way to a file, through each link, in which a user other than root and the owner can rename."""
    for _ in range(_MAX_LINKS):
        for folder in {*path.absolute().parents, *path.parent.resolve().parents, path.parent.resolve()}:
            state = folder.lstat()
            if stat.S_ISLNK(state.st_mode) or os.statvfs(folder).f_flag & os.ST_RDONLY:  # a ConfigMap has mode 0777
                continue
            if _can_change(state, owner):
                yield folder
        if not path.is_symlink():
            return
        path = path.parent / path.readlink()


def _unusable(path: Path, why: str, hint: str = "", line: int | None = None) -> NotAllowed:
    return NotAllowed(
        "FS7602",
        f"the policy {why}. Nobody may publish until it is fixed.",
        where=Where(str(path), line),
        hint=hint or "See the example in docs/concepts/security.md.",
    )
