"""`${...}` references: `${param.NAME}`, `${interval.NAME}`, `${env:NAME}`, `${secret:SCOPE/KEY}`; `$${` is a literal `${`.

A value that is one reference takes the referenced value's type; a reference inside text is pasted as text. What is pasted is data:
a reference in it is never resolved. Secrets stay references, and may stand in few places: see `secret_places`.

Each kind of reference is resolved where it may stand, and is an error (FS1019) everywhere else:

| place | `param`, `env` | `interval` |
|---|---|---|
| `select` of a source, `args` of a SQL step: templates, filled once for each interval | pasted | stays, for `fill` |
| SQL: `sql`, the file of `sql_file`, expressions of `features` | refused | refused |
| the declaration of a param | refused | refused |
| `description`, `notes` | pasted | stays as text |
| any other value | pasted | refused |
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
from firesteel.pipelines.spec.secret_places import is_revealed, secret_errors
from firesteel.pipelines.spec.tree import KeyPath, Node
from firesteel.pipelines.spec.values import ParamValue

_REF = re.compile(r"\$\$\{|\$\{([^${}]*)\}")
_SLOT = re.compile(r"\$\$\{|\$\{interval\.(\w+)\}")
_NAMED = re.compile(r"[A-Za-z_]")
"""What a reference begins with; `${2}` in a regular expression is none."""
_ANY = re.compile(r"\$\$\{|\$\{([^${}\s'\"`]*)\}?")
_INTERVAL = "${interval."
INTERVAL_NAMES = ("id", "ds", "hour", "start", "end")

ReferenceContext = Literal["template", "sql", "declaration", "prose", "value"]


def place_of(path: KeyPath) -> ReferenceContext:
    """What kind of place a path of the spec is; see the table above."""
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
    """Resolve references in a tree; what cannot be resolved is collected in `errors`.

    Parameters
    ----------
    params
        Values by name.
    environ
        The process's environment, for `${env:...}`.
    keep
        Params that stay references (locations, for the code hash), but for places where their values make rows.
    unusable
        Params without a good value: that is reported already.
    unclear
        Filled: places whose value is not what the spec means. What is found there later is a consequence.
    """

    params: Mapping[str, ParamValue]
    environ: Mapping[str, str]
    keep: frozenset[str] = frozenset()
    unusable: frozenset[str] = frozenset()
    errors: list[FiresteelError] = field(default_factory=list)
    unclear: set[Where] = field(default_factory=set)

    def tree(self, node: Node, path: KeyPath = ()) -> Node:
        """A copy of `node` with `param` and `env` references resolved; `secret` ones stay, `interval` ones in templates."""
        if isinstance(node.value, dict):
            for key, child in node.value.items():
                if references(key):
                    self._error(child, "FS1020", "a secret cannot stand in a key: keys are shown.")
                elif any(match[1] is not None for match in _REF.finditer(key)):
                    self._error(child, "FS1019", f"the key `{key}` holds a reference: only values are resolved.")
            return replace(node, value={key: self.tree(child, (*path, key)) for key, child in node.value.items()})
        if isinstance(node.value, list):
            return replace(node, value=[self.tree(child, (*path, i)) for i, child in enumerate(node.value)])
        if isinstance(node.value, str) and "${" in node.value:
            return self._text(node, node.value, path)
        return node

    def _text(self, node: Node, text: str, path: KeyPath) -> Node:
        unclosed = [each for each in references(text) if not each.endswith("}")]
        for each in unclosed:
            self._error(node, "FS1004", f"`{each}` does not end.", hint=f"Write {FORM}.")
        if not unclosed and "${" in _REF.sub("", text):
            self._error(node, "FS1007", "`${` is not closed.", hint="Write ${param.NAME}; $${ is a literal ${.")
            return node
        whole = _REF.fullmatch(text)
        if whole and whole[1] is not None:
            value = self._value(node, text, whole[1], path)
            if place_of(path) == "sql":
                self.unclear.add(node.where)  # there is no SQL at all
            if isinstance(value, list):
                return replace(node, value=[replace(node, value=item) for item in value])
            self._check_pasted(node, text, value, path)
            return replace(node, value=value)

        def paste(match: re.Match[str]) -> str:
            if match[1] is None:
                # Kept, it is still a literal when the value is revealed, or the template is filled.
                kept = is_revealed(path) and text.startswith("secret:", match.end())
                return match[0] if kept or place_of(path) == "template" else "${"
            value = self._value(node, match[0], match[1], path)
            if isinstance(value, list):
                self._error(node, "FS1004", f"`{match[0]}` is a list and cannot stand inside text.")
                return match[0]
            return str(value)

        pasted = _REF.sub(paste, text)
        self._check_pasted(node, text, pasted, path)
        return replace(node, value=pasted)

    def _value(self, node: Node, text: str, name: str, path: KeyPath) -> ParamValue:
        kind, _, rest = name.partition("." if name.startswith(("param.", "interval.")) else ":")
        place = place_of(path)
        if kind == "interval" and rest not in INTERVAL_NAMES:
            self._error(node, "FS1007", f"`{text}` is not defined (interval has: {', '.join(INTERVAL_NAMES)}).")
        elif kind == "interval" and place == "value":
            self._error(
                node,
                "FS1019",
                f"`{text}` cannot stand in `{'.'.join(map(str, path))}`, which is one for all intervals.",
                hint=_instead(path),
            )
        elif kind in {"param", "env", "interval"} and place == "sql":
            self.errors.append(not_in_sql(text, name, node.where))
            return "NULL"  # so that the rest of the SQL can be looked at
        elif kind in {"param", "env", "interval"} and place == "declaration":
            self._error(
                node,
                "FS1019",
                f"`{text}` cannot stand in the declaration of a param.",
                hint="Write it where the param is used.",
            )
        elif kind == "param":
            return self._param(node, text, rest, path)
        elif kind == "env":
            if rest in self.environ:
                return self._data(node, text, self.environ[rest], path)
            self._error(node, "FS1007", f"`{text}`: the environment variable {rest} is not set.")
        elif kind == "secret":
            if place != "declaration":  # where its value is bound, it is reported
                found = secret_errors(name, path, node.where)
                self.errors += found
                self.unclear |= {node.where for _ in found}
        elif kind != "interval":
            self._error(
                node,
                "FS1007",
                f"`{text}` is not a reference.",
                hint="Write ${param.NAME}, ${interval.NAME}, ${env:NAME} or ${secret:SCOPE/KEY}; $${ is a literal ${.",
            )
        return text

    def _param(self, node: Node, text: str, name: str, path: KeyPath) -> ParamValue:
        if name in self.keep and place_of(path) != "template" and path[:1] != ("gates",):
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
        """A value from outside: what looks like a reference in it is none."""
        if place_of(path) == "template":
            return literal(value)
        if place_of(path) == "value" and _INTERVAL in str(value):
            self._error(
                node,
                "FS1019",
                f"the value of `{text}` holds a reference to the interval, and values of params and variables are data.",
                hint=_instead(path),
            )
        return value

    def _check_pasted(self, node: Node, text: str, value: ParamValue, path: KeyPath) -> None:
        """A param or a variable must not bring in a secret that the spec's text does not name."""
        if is_revealed(path) and isinstance(value, str) and references(value) != references(text):
            self._error(
                node,
                "FS1020",
                f"`{'.'.join(map(str, path))}`: a param or a variable brings in a reference to a secret.",
                hint="Write ${secret:SCOPE/KEY} in the spec itself.",
            )

    def _error(self, node: Node, code: str, what: str, hint: str = "") -> None:
        self.unclear.add(node.where)
        self.errors.append(SpecError(code, what, where=node.where, hint=hint))


def _instead(path: KeyPath) -> str:
    """How to say what a reference to the interval would say at a place."""
    match path:
        case ("sources", name, "path"):
            return f'Select partitions: `sources.{name}.select: {{COLUMN: "${{interval.ds}}"}}`.'
        case ("sinks", name, "path"):
            return (
                f"Name the interval's column under `sinks.{name}.partition_by`: each interval gets its own directory."
            )
        case ("gates", *_):
            return 'Compare in a SQL step with `args: {day: "${interval.ds}"}`, and put the gate on it.'
    return "It may stand in `select` of a source and in `args` of a SQL step."


def not_in_sql(text: str, name: str, where: Where) -> FiresteelError:
    """FS1019 for the reference `text` to `name` in SQL."""
    marker = re.sub(r"\W", "_", re.split(r"[.:]", name, maxsplit=1)[-1]).lower() or "value"
    return SpecError(
        "FS1019",
        f"`{text}` stands in SQL, where no reference is resolved.",
        where=where,
        hint=f'Bind it: `args: {{{marker}: "{text}"}}`, and write :{marker} in the SQL, without quotes. $${{ is a literal ${{.',
    )


def references_in_sql(sql: str) -> list[tuple[int, str, str]]:
    """(place, text, name) of each reference in the SQL of a file, of one that does not end too. Other `${` are literals."""
    found = _ANY.finditer(sql)
    return [(match.start(), match[0], match[1]) for match in found if match[1] is not None and _NAMED.match(match[1])]


def has_reference(text: str) -> bool:
    """Whether a text that is not resolved holds a reference."""
    return bool(references_in_sql(text))


# templates: texts that are filled once for each interval


def is_template(value: object) -> bool:
    """Whether a value, or one within it, refers to the interval."""
    if isinstance(value, str):
        return any(match[1] is not None for match in _SLOT.finditer(value))
    if isinstance(value, Mapping):
        return any(map(is_template, value.values()))
    return isinstance(value, list | tuple) and any(map(is_template, value))


def interval_text(text: str, interval: Mapping[str, str]) -> str:
    """A template with its `${interval.NAME}` references replaced; `$${` is a literal `${`."""
    return _SLOT.sub(lambda match: "${" if match[1] is None else interval[match[1]], text)


def known_args(args: Mapping[str, JsonValue]) -> dict[str, JsonValue]:
    """The args whose values are the same for every interval."""
    return {
        name: filled_within(value, lambda text: interval_text(text, {}))
        for name, value in args.items()
        if not is_template(value)
    }


def filled_within(value: JsonValue, fill: Callable[[str], str]) -> JsonValue:
    """A value with each text in it filled."""
    if isinstance(value, str):
        return fill(value)
    if isinstance(value, list):
        return [filled_within(each, fill) for each in value]
    if isinstance(value, dict):
        return {key: filled_within(each, fill) for key, each in value.items()}
    return value


def literal(value: ParamValue) -> ParamValue:
    """The template that is filled with `value` itself, whatever it looks like."""
    if isinstance(value, list):
        return [each.replace("${", "$${") if isinstance(each, str) else each for each in value]
    return value.replace("${", "$${") if isinstance(value, str) else value


def did_you_mean(name: str, names: Mapping[str, object] | tuple[str, ...] | list[str]) -> str:
    """`Did you mean `x`?`, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"Did you mean `{close[0]}`?" if close else ""
