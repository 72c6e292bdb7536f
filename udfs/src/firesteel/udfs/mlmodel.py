"""Read a model's MLmodel file and input example without running or reading anything that they name."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from firesteel.conf.errors import ModelError
from firesteel.conf.files import UnusableFileError, read_user_file

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlflow.models import Model

MAX_BYTES = 4 << 20
MAX_EXAMPLE_BYTES = 64 << 20
_MAX_EVENTS = 100_000
_MAX_DEPTH = 50
_READ = ("signature", "saved_input_example_info")


def read_mlmodel(folder: Path) -> dict[str, Any]:
    """Return the MLmodel file as plain values.

    Raises
    ------
    ModelError
        FS3001 if it is missing, too large, or not the YAML that MLflow writes.
    """
    try:
        return _parsed(folder / "MLmodel")
    except Exception as error:
        raise _unreadable(error) from error


def _parsed(path: Path) -> dict[str, Any]:
    try:
        text = read_user_file(path, MAX_BYTES, follow=False).data.decode()
    except UnusableFileError as error:
        raise ValueError(f"it {error.why}") from None
    return safe_yaml(text)


def safe_yaml(text: str) -> dict[str, Any]:
    """Return a YAML mapping of a model as plain values. Raises an error for anything else, and for too many or too deeply nested values."""
    from ruamel.yaml import YAML

    _check_size(YAML(typ="safe", pure=True).parse(text))
    loaded: object = YAML(typ="safe", pure=True).load(text)
    if isinstance(loaded, dict):
        return loaded
    raise ValueError("it is not a mapping")


def _check_size(events: Iterable[Any]) -> None:
    """Raise ValueError for too many or too deeply nested values. An alias, which MLflow writes for equal objects, counts as its values.

    Merge keys are refused: MLflow does not write them.
    """
    from ruamel.yaml.events import AliasEvent, CollectionEndEvent, CollectionStartEvent, ScalarEvent

    anchors: dict[str, tuple[int, int]] = {}
    """Anchor -> (values, levels) of the finished node."""
    open_nodes: list[tuple[str | None, int, int]] = [(None, 0, 0)]
    for event in events:
        if isinstance(event, CollectionStartEvent):
            open_nodes.append((event.anchor, 0, 0))
            if len(open_nodes) > _MAX_DEPTH:
                raise ValueError("it has too deeply nested values")
            continue
        if isinstance(event, AliasEvent):
            if event.anchor not in anchors:
                raise ValueError("it has a YAML alias of an unfinished value")
            anchor, values, levels = None, *anchors[event.anchor]
        elif isinstance(event, CollectionEndEvent):
            anchor, values, levels = open_nodes.pop()
            values, levels = values + 1, levels + 1
        elif isinstance(event, ScalarEvent):
            if event.value == "<<":
                raise ValueError("it has a YAML merge key")
            anchor, values, levels = event.anchor, 1, 0
        else:
            continue
        if anchor:
            anchors[anchor] = (values, levels)
        above, count, deepest = open_nodes[-1]
        open_nodes[-1] = (above, count + values, max(deepest, levels))
        if count + values > _MAX_EVENTS or len(open_nodes) + levels > _MAX_DEPTH:
            raise ValueError("it has too many or too deeply nested values")


def _unreadable(error: Exception) -> ModelError:
    return ModelError("FS3001", f"the model's MLmodel cannot be read: {printable(error)}", hint="Log the model again.")


def printable(text: object) -> str:
    """Return up to 300 characters of a text from a model on one line, without terminal escapes."""
    return "".join(char if char.isprintable() else "?" for char in " ".join(str(text).split())[:300])


def flavors_of(mlmodel: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Return the flavors that are mappings, by name."""
    flavors = mlmodel.get("flavors")
    if not isinstance(flavors, dict):
        return {}
    return {name: flavor for name, flavor in flavors.items() if isinstance(name, str) and isinstance(flavor, dict)}


def metadata_of(mlmodel: dict[str, Any]) -> Model:
    """Return MLflow's metadata of the signature, the loader and the input example, and of nothing else in the file.

    Raises
    ------
    ModelError
        FS3001 if the signature is malformed.
    """
    from mlflow.models import Model

    try:
        model = Model.from_dict({key: mlmodel[key] for key in _READ if mlmodel.get(key) is not None})
    except Exception as error:
        raise _unreadable(error) from error
    model.flavors = {"python_function": dict(flavors_of(mlmodel).get("python_function", {}))}
    return model


def example_of(folder: Path, metadata: Model) -> Any:
    """Return the input example if it is a table of at most 64 MiB in the model's folder, else None.

    MLflow reads other kinds of examples from any path that the model names.
    """
    info = metadata.saved_input_example_info
    if not isinstance(info, dict) or info.get("type") != "dataframe":
        return None
    path = resolve_inside(folder, info.get("artifact_path"))
    if path is None or path.stat().st_size > MAX_EXAMPLE_BYTES:
        return None
    return metadata.load_input_example(str(folder))


def resolve_inside(folder: Path, name: object) -> Path | None:
    """Return the path of a file in `folder`, or None if `name` is not the plain relative path of one."""
    if not isinstance(name, str) or not name or not name.isprintable():
        return None
    parts = name.split("/")
    if any(part in ("", ".", "..") for part in parts) or "\\" in name:
        return None
    path = folder.joinpath(*parts)
    steps = [folder.joinpath(*parts[:count]) for count in range(1, len(parts) + 1)]
    return path if path.is_file() and not any(step.is_symlink() for step in steps) else None
