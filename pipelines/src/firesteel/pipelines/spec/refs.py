"""`${...}` references: `${param.NAME}`, `${interval.NAME}`, `${env:NAME}`, `${secret:SCOPE/KEY}`; `$${` is a literal `${`.

A value that is one reference takes the referenced value's type; a reference inside text is pasted as text. Secrets stay
references, and may stand in few places: see `secret_places`.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from firesteel.conf.errors import FiresteelError, SpecError
from firesteel.conf.secrets import FORM, references
from firesteel.pipelines.spec.secret_places import is_revealed, secret_errors
from firesteel.pipelines.spec.tree import KeyPath, Node
from firesteel.pipelines.spec.values import ParamValue

_REF = re.compile(r"\$\$\{|\$\{([^${}]*)\}")
INTERVAL_NAMES = ("id", "ds", "hour", "start", "end")


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
        Params that stay references (locations, for the code hash).
    """

    params: Mapping[str, ParamValue]
    environ: Mapping[str, str]
    keep: frozenset[str] = frozenset()
    errors: list[FiresteelError] = field(default_factory=list)

    def tree(self, node: Node, path: KeyPath = ()) -> Node:
        """A copy of `node` with `param` and `env` references resolved; `interval` and `secret` ones stay."""
        if isinstance(node.value, dict):
            for key, child in node.value.items():
                if references(key):
                    self._error(child, "FS1020", "a secret cannot stand in a key: keys are shown.")
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
            if isinstance(value, list):
                return replace(node, value=[replace(node, value=item) for item in value])
            self._check_pasted(node, text, value, path)
            return replace(node, value=value)

        def paste(match: re.Match[str]) -> str:
            if match[1] is None:
                kept = is_revealed(path) and text.startswith("secret:", match.end())
                return match[0] if kept else "${"  # kept, it is still a literal when the value is revealed
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
        if kind == "param":
            if rest in self.keep:
                return text
            if rest in self.params:
                return self.params[rest]
            self._error(
                node,
                "FS1007",
                f"`{text}` is not defined (defined: {', '.join(self.params) or 'none'}).",
                hint=did_you_mean(rest, self.params),
            )
        elif kind == "interval":
            if rest not in INTERVAL_NAMES:
                self._error(node, "FS1007", f"`{text}` is not defined (interval has: {', '.join(INTERVAL_NAMES)}).")
        elif kind == "env":
            if rest in self.environ:
                return self.environ[rest]
            self._error(node, "FS1007", f"`{text}`: the environment variable {rest} is not set.")
        elif kind == "secret":
            self.errors += secret_errors(name, path, node.where)
        else:
            self._error(
                node,
                "FS1007",
                f"`{text}` is not a reference.",
                hint="Write ${param.NAME}, ${interval.NAME}, ${env:NAME} or ${secret:SCOPE/KEY}; $${ is a literal ${.",
            )
        return text

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
        self.errors.append(SpecError(code, what, where=node.where, hint=hint))


def interval_text(text: str, interval: Mapping[str, str]) -> str:
    """`text` with its `${interval.NAME}` references replaced."""
    return re.sub(r"\$\{interval\.(\w+)\}", lambda match: interval[match[1]], text)


def did_you_mean(name: str, names: Mapping[str, object] | tuple[str, ...] | list[str]) -> str:
    """`Did you mean `x`?`, or nothing."""
    close = difflib.get_close_matches(name, list(names), n=1, cutoff=0.6)
    return f"Did you mean `{close[0]}`?" if close else ""
