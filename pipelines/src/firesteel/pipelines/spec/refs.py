"""`${...}` references: `${param.NAME}`, `${interval.NAME}`, `${env:NAME}`, `${secret:SCOPE/KEY}`; `$${` is a literal `${`.

A value that consists of one reference takes the type of the referenced value. A reference inside text is replaced by text. The
inserted value is data: references in it are not resolved. Secrets stay references, and few keys may use them: see `secret_places`.

Each kind of reference is resolved in some contexts and is an error (FS1019) in the others:

| context | `param`, `env` | `interval` |
|---|---|---|
| `select` of a source, `args` of a SQL step: templates, resolved for each interval | resolved | kept for `fill` |
| SQL: `sql`, the file of `sql_file`, expressions of `features` | refused | refused |
| the declaration of a param | refused | refused |
| `description`, `notes` | resolved | kept as text |
| any other value | resolved | refused |
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Literal

from pydantic import JsonValue

from firesteel.conf.errors import FiresteelError, SpecError, Where
from firesteel.conf.secrets import FORM, references
from firesteel.pipelines.spec.date_formats import check_date_format
from firesteel.pipelines.spec.secret_places import is_revealed, secret_errors
from firesteel.pipelines.spec.tree import KeyPath, Node
from firesteel.pipelines.spec.values import ParamValue

_REF = re.compile(r"\$\$\{|\$\{([^${}]*)\}")
_SLOT = re.compile(r"\$\$\{|\$\{interval\.([^${}]*)\}")
_NAMED = re.compile(r"[A-Za-z_]")
"""First character of a reference; `${2}` in a regular expression is not a reference."""
_ANY = re.compile(r"\$\$\{|\$\{([^${}\s'\"`]*)\}?")
_INTERVAL = "${interval."
INTERVAL_NAMES = ("id", "ds", "ds_nodash", "hour", "start", "end")
_INTERVAL_REF = re.compile(
    r"(?P<name>\w+)(?:\s*(?P<sign>[+-])\s*(?P<count>\d{1,6})(?P<step>h|d|mo))?(?::(?P<format>.+))?"
)

ReferenceContext = Literal["template", "sql", "declaration", "prose", "value"]


def context_of(path: KeyPath) -> ReferenceContext:
    """Return the reference context of a path of the spec; see the table above."""
    match path:
        case ("params", *_):
            return "prose" if path[-1] == "description" else "declaration"
        case ("steps", _, "sql") | ("steps", _, "score", "features", str()):
            return "sql"
        case ("steps", _, "args", *_) | ("sources", _, "select", *_):
            return "template"
        case ("description",) | ("gates", *_, "description" | "notes"):
            return "prose"
    return "value"


@dataclass(slots=True)
class Resolver:
    """Resolves the references in a tree and collects errors.

    Parameters
    ----------
    params
        Values by name.
    environ
        Environment variables for `${env:...}`.
    keep
        Params that stay references (locations, for the code hash), except where their values change rows.
    unusable
        Params without a valid value; their errors are already reported.
    errors
        Output: the errors.
    unclear
        Output: locations of values that could not be resolved. Later errors at these locations are consequences.
    """

    params: Mapping[str, ParamValue]
    environ: Mapping[str, str]
    keep: frozenset[str] = frozenset()
    unusable: frozenset[str] = frozenset()
    errors: list[FiresteelError] = field(default_factory=list)
    unclear: set[Where] = field(default_factory=set)

    def tree(self, node: Node, path: KeyPath = ()) -> Node:
        """Return a copy of `node` with resolved `param` and `env` references; `secret` stays, and `interval` in templates."""
        if isinstance(node.value, dict):
            for key, child in node.value.items():
                if references(key):
                    self._error(child, "FS1020", "a key must not contain a secret: keys are shown.")
                elif any(match[1] is not None for match in _REF.finditer(key)):
                    self._error(child, "FS1019", f"the key `{key}` contains a reference; only values are resolved.")
            return replace(node, value={key: self.tree(child, (*path, key)) for key, child in node.value.items()})
        if isinstance(node.value, list):
            return replace(node, value=[self.tree(child, (*path, i)) for i, child in enumerate(node.value)])
        if isinstance(node.value, str) and "${" in node.value:
            return self._text(node, node.value, path)
        return node

    def _text(self, node: Node, text: str, path: KeyPath) -> Node:
        unclosed = [reference for reference in references(text) if not reference.endswith("}")]
        for reference in unclosed:
            self._error(node, "FS1004", f"`{reference}` is not closed.", hint=f"Write {FORM}.")
        if not unclosed and "${" in _REF.sub("", text):
            self._error(node, "FS1007", "`${` is not closed.", hint="Write ${param.NAME}; $${ is a literal ${.")
            return node
        whole = _REF.fullmatch(text)
        if whole and whole[1] is not None:
            value = self._value(node, text, whole[1], path)
            if context_of(path) == "sql":
                self.unclear.add(node.where)  # the value has no SQL besides the reference
            if isinstance(value, list):
                return replace(node, value=[replace(node, value=item) for item in value])
            self._check_inserted(node, text, value, path)
            return replace(node, value=value)

        def insert(match: re.Match[str]) -> str:
            if match[1] is None:
                # The escape stays for the later step that reveals the value or fills the template.
                escaped = is_revealed(path) and text.startswith("secret:", match.end())
                return match[0] if escaped or context_of(path) == "template" else "${"
            value = self._value(node, match[0], match[1], path)
            if isinstance(value, list):
                self._error(
                    node,
                    "FS1004",
                    f"`{match[0]}` is a list, which cannot be part of a text.",
                    hint=f"Write it as the whole value: {match[0]}.",
                )
                return match[0]
            return str(value)

        resolved = _REF.sub(insert, text)
        self._check_inserted(node, text, resolved, path)
        return replace(node, value=resolved)

    def _value(self, node: Node, text: str, name: str, path: KeyPath) -> ParamValue:
        kind, _, rest = name.partition("." if name.startswith(("param.", "interval.")) else ":")
        context = context_of(path)
        if kind == "interval" and (problem := interval_reference_problem(rest)):
            self._error(node, "FS1007", f"`{text}` {problem}.", hint=INTERVAL_HINT)
        elif kind == "interval" and context == "value":
            self._error(
                node,
                "FS1019",
                f"`{text}` is not allowed in `{'.'.join(map(str, path))}`, which has one value for all intervals.",
                hint=_alternative(path),
            )
        elif kind in {"param", "env", "interval"} and context == "sql":
            self.errors.append(not_in_sql(text, name, node.where))
            return "NULL"  # so that the rest of the SQL can be checked
        elif kind in {"param", "env", "interval"} and context == "declaration":
            self._error(
                node,
                "FS1019",
                f"`{text}` is not allowed in the declaration of a param.",
                hint="Write it where the param is used.",
            )
        elif kind == "param":
            return self._param(node, text, rest, path)
        elif kind == "env":
            if rest in self.environ:
                return self._data(node, text, self.environ[rest], path)
            self._error(node, "FS1007", f"`{text}`: the environment variable {rest} is not set.")
        elif kind == "secret":
            if context != "declaration":  # the check of the param's value reports it
                errors = secret_errors(name, path, node.where)
                self.errors += errors
                self.unclear |= {node.where for _ in errors}
        elif kind != "interval":
            self._error(
                node,
                "FS1007",
                f"`{text}` is not a valid reference.",
                hint="Write ${param.NAME}, ${interval.NAME}, ${env:NAME} or ${secret:SCOPE/KEY}; $${ is a literal ${.",
            )
        return text

    def _param(self, node: Node, text: str, name: str, path: KeyPath) -> ParamValue:
        if name in self.keep and context_of(path) != "template" and path[:1] != ("gates",):
            return text
        if name in self.unusable:
            self.unclear.add(node.where)
        if name in self.params:
            return self._data(node, text, self.params[name], path)
        self._error(
            node,
            "FS1007",
            f"`{text}` is not defined (defined: {', '.join(self.params) or 'none'}).",
            hint=did_you_mean(name, self.params),
        )
        return text

    def _data(self, node: Node, text: str, value: ParamValue, path: KeyPath) -> ParamValue:
        """Return the value of a param or variable. A `${` in it is data, not a reference."""
        if context_of(path) == "template":
            return literal(value)
        if context_of(path) == "value" and _INTERVAL in str(value):
            self._error(
                node,
                "FS1019",
                f"the value of `{text}` contains a reference to the interval; values of params and variables are data.",
                hint=_alternative(path),
            )
        return value

    def _check_inserted(self, node: Node, text: str, value: ParamValue, path: KeyPath) -> None:
        """Report a secret that comes from a param or a variable and not from the spec's text."""
        if is_revealed(path) and isinstance(value, str) and references(value) != references(text):
            self._error(
                node,
                "FS1020",
                f"`{'.'.join(map(str, path))}`: a param or a variable contains a reference to a secret.",
                hint="Write ${secret:SCOPE/KEY} in the spec itself.",
            )

    def _error(self, node: Node, code: str, what: str, hint: str = "") -> None:
        self.unclear.add(node.where)
        self.errors.append(SpecError(code, what, where=node.where, hint=hint))


def _alternative(path: KeyPath) -> str:
    """Return a hint: the alternative to a reference to the interval at `path`."""
    match path:
        case ("sources", name, "path"):
            return f'Select partitions: `sources.{name}.select: {{COLUMN: "${{interval.ds}}"}}`.'
        case ("sinks", name, "path"):
            return f"Add the interval's column to `sinks.{name}.partition_by`: each interval gets its own directory."
        case ("gates", *_):
            return 'Compare in a SQL step with `args: {day: "${interval.ds}"}`, and apply the gate to that step.'
    return "Use it only in `select` of a source and in `args` of a SQL step."


def not_in_sql(text: str, name: str, where: Where) -> FiresteelError:
    """Return FS1019 for the reference `text` to `name` in SQL."""
    marker = re.sub(r"\W", "_", re.split(r"[.:]", name, maxsplit=1)[-1]).lower() or "value"
    return SpecError(
        "FS1019",
        f"`{text}` is not allowed in SQL: references in SQL are not resolved.",
        where=where,
        hint=f'Bind it: `args: {{{marker}: "{text}"}}`, and write :{marker} in the SQL, without quotes. $${{ is a literal ${{.',
    )


def references_in_sql(sql: str) -> list[tuple[int, str, str]]:
    """Return (offset, text, name) of each reference in SQL, including unclosed ones. Other `${` are literals."""
    matches = _ANY.finditer(sql)
    return [(match.start(), match[0], match[1]) for match in matches if match[1] is not None and _NAMED.match(match[1])]


def has_reference(text: str) -> bool:
    """Return whether an unresolved text contains a reference."""
    return bool(references_in_sql(text))


# templates: texts that are resolved for each interval


def is_template(value: object) -> bool:
    """Return whether a value, or a part of it, refers to the interval."""
    if isinstance(value, str):
        return any(match[1] is not None for match in _SLOT.finditer(value))
    if isinstance(value, Mapping):
        return any(map(is_template, value.values()))
    return isinstance(value, list | tuple) and any(map(is_template, value))


@dataclass(frozen=True, slots=True)
class IntervalReference:
    """The parts of `${interval.NAME - 7d:FORMAT}`. `count` is 0 without an offset, `format` is empty without a format."""

    name: str
    count: int = 0
    step: str = ""
    format: str = ""


INTERVAL_HINT = "Write ${interval.ds}, with an offset ${interval.ds - 7d}, or with a format ${interval.start:%Y%m%d}."


def interval_reference(text: str) -> IntervalReference:
    """Return the parts of a reference without `${interval.` and `}`.

    Raises
    ------
    ValueError
        The reference is not valid. The message is a phrase.

    Examples
    --------
    >>> interval_reference("start - 7d:%Y%m%d")
    IntervalReference(name='start', count=-7, step='d', format='%Y%m%d')
    """
    match = _INTERVAL_REF.fullmatch(text)
    if match is None or match["name"] not in INTERVAL_NAMES:
        raise ValueError(f"is not defined (defined: {', '.join(INTERVAL_NAMES)})")
    if match["format"] is not None:
        if match["name"] not in {"start", "end"}:
            raise ValueError("has a format, which only `start` and `end` can have")
        check_date_format(match["format"])
    count = int(match["count"] or 0)
    return IntervalReference(
        match["name"], -count if match["sign"] == "-" else count, match["step"] or "", match["format"] or ""
    )


def interval_reference_problem(text: str) -> str:
    """Return what is wrong with a reference without `${interval.` and `}`; an empty text if it is valid."""
    try:
        interval_reference(text)
    except ValueError as error:
        return str(error)
    return ""


def interval_text(text: str, resolve: Callable[[IntervalReference], str] | None) -> str:
    """Return a template with its `${interval.NAME}` references resolved; `$${` becomes `${`."""

    def value(match: re.Match[str]) -> str:
        if match[1] is None:
            return "${"
        if resolve is None:
            raise ValueError(f"`{match[0]}` refers to the interval")
        return resolve(interval_reference(match[1]))

    return _SLOT.sub(value, text)


def constant_args(args: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """Return the args that have the same value for every interval."""
    return {
        name: fill_within(value, lambda text: interval_text(text, None))
        for name, value in args.items()
        if not is_template(value)
    }


def fill_within(value: JsonValue, fill: Callable[[str], str]) -> JsonValue:
    """Return a value with `fill` applied to each text in it."""
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, list):
        return [fill_within(item, fill) for item in value]
    if isinstance(value, dict):
        return {key: fill_within(item, fill) for key, item in value.items()}
    return value


def literal(value: ParamValue) -> ParamValue:
    """Return the template that resolves to `value` itself."""
    if isinstance(value, list):
        return [item.replace("${", "$${") if isinstance(item, str) else item for item in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def did_you_mean(name: str, names: Mapping[str, object] | tuple[str, ...] | list[str]) -> str:
    """Return "Did you mean `x`?", or an empty text if no name is close."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"Did you mean `{close[0]}`?" if close else ""
