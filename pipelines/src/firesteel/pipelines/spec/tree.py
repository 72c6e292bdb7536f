"""Parse YAML text into a tree of nodes with their locations.

The YAML is composed, not constructed: no YAML tag can create an object, duplicate keys are found, and every value keeps its
line and column for later errors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode
from ruamel.yaml.nodes import Node as YamlNode

from firesteel.conf.errors import FiresteelError, SpecError, SpecErrors, Where
from firesteel.conf.files import UnusableFileError, read_user_text, unstorable

MAX_BYTES = 256 << 10
"""A spec of 200 steps has 60 KiB. For 1 MiB of hostile YAML, the parser needs up to 20 s and 370 MiB of memory."""
MAX_NODES = 100_000
MAX_DEPTH = 64

Scalar: TypeAlias = "str | int | float | bool | None"
KeyPath: TypeAlias = "tuple[str | int, ...]"


@dataclass(frozen=True, slots=True)
class Node:
    """A value with its location. `line` and `column` start at 1 and point at the key, if the value has one."""

    value: Scalar | dict[str, Node] | list[Node]
    file: str
    line: int
    column: int

    @property
    def where(self) -> Where:
        """Return the location, for an error."""
        return Where(self.file, self.line, self.column)

    def plain(self) -> object:
        """Return the value without locations: dicts, lists and scalars."""
        if isinstance(self.value, dict):
            return {key: node.plain() for key, node in self.value.items()}
        if isinstance(self.value, list):
            return [node.plain() for node in self.value]
        return self.value

    def without(self, path: KeyPath) -> Node:
        """Return a copy without the mapping key or list item at `path`."""
        if not path:
            return self
        head, rest = path[0], path[1:]
        if isinstance(self.value, dict):
            items = {
                key: node.without(rest) if key == head else node
                for key, node in self.value.items()
                if rest or key != head
            }
            return replace(self, value=items)
        if isinstance(self.value, list):
            numbered = enumerate(self.value)
            return replace(
                self,
                value=[
                    node.without(rest) if index == head else node for index, node in numbered if rest or index != head
                ],
            )
        return self

    def renamed(self, path: KeyPath, name: str) -> Node:
        """Return a copy with the mapping key at `path` renamed to `name`."""
        if not path:
            return self
        if isinstance(self.value, list):
            numbered = enumerate(self.value)
            return replace(
                self, value=[node.renamed(path[1:], name) if index == path[0] else node for index, node in numbered]
            )
        if not isinstance(self.value, dict):
            return self
        items = self.value.items()
        if len(path) == 1:
            return replace(self, value={name if key == path[0] else key: node for key, node in items})
        return replace(
            self, value={key: node.renamed(path[1:], name) if key == path[0] else node for key, node in items}
        )

    def nearest(self, path: KeyPath) -> Node:
        """Return the deepest node on `path`. Parts that do not exist (pydantic's union tags) are skipped."""
        node = self
        for part in path:
            value = node.value
            if isinstance(value, dict) and isinstance(part, str):
                node = value.get(part, node)
            elif isinstance(value, list) and isinstance(part, int) and part < len(value):
                node = value[part]
        return node


@dataclass(frozen=True, slots=True)
class ParsedTree:
    """A tree, its text, and its recoverable errors: duplicate keys, of which the first counts."""

    root: Node
    text: str
    errors: tuple[FiresteelError, ...]


def read_tree(path: Path, file: str = "") -> ParsedTree:
    """Return the tree of a spec file. Errors name it `file`; the default is its own name.

    Raises
    ------
    SpecErrors
        FS1001 (cannot be read) or FS1002 (not YAML).
    """
    file = file or path.name
    try:
        text = read_user_text(path, MAX_BYTES)
    except UnusableFileError as error:
        where = Where(file, error.line)
        raise SpecErrors((SpecError("FS1001", f"{path} {error.why}.", where=where),)) from None
    return parse_tree(text, file)


def parse_tree(text: str, file: str) -> ParsedTree:
    """Return the tree of YAML text; see `read_tree`."""
    try:
        root = YAML(typ="safe", pure=True).compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = Where(file, mark.line + 1, mark.column + 1) if mark else Where(file)
        problem = str(error.problem or error.context or "not YAML").strip().rstrip(".")
        hint = _QUOTES if "cannot start any token" in problem else ""
        raise SpecErrors(
            (SpecError("FS1002", f"the file is not valid YAML: {problem}.", where=where, hint=hint),)
        ) from None
    except (YAMLError, ValueError, RecursionError) as error:
        kind = "nested too deeply" if isinstance(error, RecursionError) else str(error).splitlines()[0]
        raise SpecErrors((SpecError("FS1002", f"the file is not valid YAML: {kind}.", where=Where(file)),)) from None
    if root is None:
        raise SpecErrors((SpecError("FS1002", "the file is empty.", where=Where(file)),))
    walk = _Walk(file)
    tree = walk.node(root, root, 0)
    if not isinstance(tree.value, dict):
        raise SpecErrors((SpecError("FS1002", "the file is not a mapping of keys to values.", where=tree.where),))
    return ParsedTree(tree, text, tuple(walk.errors))


_QUOTES = 'Put the text in quotes, such as "%Y%m%d".'


class _Walk:
    """Converts composed nodes, bounded in depth and size because aliases can multiply."""

    def __init__(self, file: str) -> None:
        self.file = file
        self.errors: list[FiresteelError] = []
        self.count = 0

    def node(self, node: YamlNode, place: YamlNode, depth: int) -> Node:
        self.count += 1
        mark = place.start_mark
        where = Where(self.file, mark.line + 1, mark.column + 1)
        if depth > MAX_DEPTH or self.count > MAX_NODES:
            limit = f"deeper than {MAX_DEPTH} levels" if depth > MAX_DEPTH else f"more than {MAX_NODES} values"
            raise SpecErrors((SpecError("FS1002", f"the spec has {limit}.", where=where),))
        value: Scalar | dict[str, Node] | list[Node]
        if isinstance(node, MappingNode):
            value = self.mapping(node, depth)
        elif isinstance(node, SequenceNode):
            value = [self.node(item, item, depth + 1) for item in node.value]
        else:
            assert isinstance(node, ScalarNode)
            value = self.scalar(node, where)
        return Node(value, self.file, where.line or 1, where.column or 1)

    def mapping(self, node: MappingNode, depth: int) -> dict[str, Node]:
        result: dict[str, Node] = {}
        for key_node, value_node in node.value:
            mark = key_node.start_mark
            where = Where(self.file, mark.line + 1, mark.column + 1)
            if not isinstance(key_node, ScalarNode):
                self.errors.append(SpecError("FS1002", "a key must be a scalar.", where=where))
                continue
            key = self.text(str(key_node.value), where)
            if key in result:
                self.errors.append(
                    SpecError(
                        "FS1011",
                        f"duplicate key `{key}` (first at line {result[key].line}).",
                        where=where,
                        hint="Remove one; YAML would silently keep the last.",
                    )
                )
                continue
            result[key] = self.node(value_node, key_node, depth + 1)
        return result

    def text(self, text: str, where: Where) -> str:
        """Return a text; without it, if no path, record or JSON can hold it."""
        why = unstorable(text)
        if why:
            self.errors.append(SpecError("FS1002", f"the text {text!r} cannot be used: {why}.", where=where))
        return "" if why else text

    def scalar(self, node: ScalarNode, where: Where) -> Scalar:
        kind = str(node.tag).rsplit(":", 1)[-1]
        text = self.text(str(node.value), where)
        try:
            if kind == "null":
                return None
            if kind == "bool":
                return text.lower() in {"true", "yes", "on"}
            if kind == "int":
                return int(text.replace("_", ""), 0)
            if kind == "float":
                return _float(text)
        except ValueError:
            return text
        if kind in {"str", "timestamp"}:
            return text
        self.errors.append(SpecError("FS1002", f"the tag `{node.tag}` is not allowed.", where=where))
        return text


def _float(text: str) -> float | str:
    plain = text.replace("_", "").lower()
    special = {".inf": "inf", "+.inf": "inf", "-.inf": "-inf", ".nan": "nan"}.get(plain)
    return float(special or plain)
