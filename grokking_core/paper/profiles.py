"""Profiles, files of parameters by experiment or notebook; and what a value of a parameter may be.

The command line checks a profile against what the experiments take, the book checks it, and what a reader
lays over it, against what its notebooks have. The rules are the same, and are here: a value has the type of
its parameter, numbers are finite, no list is empty, and no value is in a list twice.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import yaml

from grokking_core import _shipped

FOLDER = _shipped.folder_of("profiles")  #: of the project's own


@dataclass(frozen=True)
class Parameter:
    """A parameter of an experiment or of a notebook.

    Attributes
    ----------
    name : str
    default : object
        A literal; None also where it has none.
    kind : str
        Its type, written as an annotation: `int`, `float | None`, `list[int]`, `dict[str, list[float]]`.
    help : str
        One line, or nothing.
    """

    name: str
    default: Any
    kind: str
    help: str = ""

    def __str__(self) -> str:
        comment = f"  # {self.help}" if self.help else ""
        return f"  {self.name}: {self.kind} = {self.default!r}{comment}"


class Refused(ValueError):
    """A parameter that is not known, or a value that it cannot have.

    Attributes
    ----------
    name : str
        Of the parameter.
    reason : {"unknown", "type", "empty", "twice"}
    detail : str
        What exactly is wrong, where the value alone does not show it.
    """

    def __init__(self, name: str, reason: Literal["unknown", "type", "empty", "twice"], detail: str = ""):
        super().__init__(f"{name}: {reason} {detail}")
        self.name, self.reason, self.detail = name, reason, detail


def check(values: Mapping[str, Any], known: Mapping[str, Parameter]) -> dict[str, Any]:
    """The values as the types of their parameters.

    Raises
    ------
    Refused
        For the first name that is not known, and for the first value of another type, with an empty list
        in it, or with a value twice in a list.
    """
    fitted = {}
    for name, value in values.items():
        if name not in known:
            raise Refused(name, "unknown")
        try:
            fitted[name] = fit(value, known[name].kind)
        except ValueError as error:
            collection = isinstance(value, list | tuple | dict)
            advice = f"; {error}" if collection else _advice(value, known[name].kind)
            raise Refused(name, "type", advice) from None
        for path, part in _collections(name, fitted[name]):
            if not part:
                raise Refused(name, "empty", f"{path}={part}")
            if isinstance(part, list) and (again := [v for i, v in enumerate(part) if v in part[:i]]):
                raise Refused(name, "twice", f"{path}={part} has {again[0]!r} twice; name each value once")
    return fitted


def _collections(path: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The lists and dictionaries in a value, each with its name."""
    if isinstance(value, list | dict):
        yield path, value
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _collections(f"{path}[{key!r}]", entry)


def _advice(value: Any, kind: str) -> str:
    """How to write a value that looks like a number."""
    try:
        number = float(value) if isinstance(value, str | float) else None
    except ValueError:
        number = None
    if number is None:
        return ""
    if not math.isfinite(number):
        return "; it must be a finite number"
    if kind.startswith("int"):
        return f"; write {number:.0f}" if number.is_integer() else ""
    return f"; in YAML write {yaml.safe_dump(number).split()[0]}"


# -------------------------------------------------------------------------------------------------
# Types


def kind_of(value: Any) -> str:
    """The type of a literal as an annotation; a list of ints and floats is `list[float]`."""
    if value is None:
        return "None"
    if isinstance(value, list | tuple):
        return f"list[{_kind_of_each(value)}]" if value else "list"
    if isinstance(value, dict):
        return f"dict[{_kind_of_each(value)}, {_kind_of_each(value.values())}]" if value else "dict"
    return type(value).__name__


def _kind_of_each(values: Iterable[Any]) -> str:
    """The one type of all; lists of lists are looked at together."""
    values = list(values)
    if all(isinstance(value, list | tuple) for value in values):
        return kind_of([entry for value in values for entry in value])
    kinds = {kind_of(value) for value in values}
    return "float" if kinds == {"int", "float"} else " | ".join(sorted(kinds))


def fit(value: Any, kind: str) -> Any:
    """`value` as the type `kind`; an int fits a float, a bool fits only a bool, no float is infinite.

    Raises
    ------
    ValueError
        Where it does not fit: names the entry that does not.
    """
    return _fit(value, ast.parse(kind, mode="eval").body)


def _fit(value: Any, kind: ast.expr) -> Any:
    match kind:
        case ast.BinOp(op=ast.BitOr()):
            for choice in (kind.left, kind.right):
                try:
                    return _fit(value, choice)
                except ValueError:
                    continue
        case ast.Subscript(value=ast.Name(id="list"), slice=item) if isinstance(value, list | tuple):
            return [_fit(entry, item) for entry in value]
        case ast.Subscript(slice=ast.Tuple(elts=[key, item])) if isinstance(value, dict):
            return {_fit(name, key): _fit(entry, item) for name, entry in value.items()}
        case ast.Constant(value=None) if value is None:
            return None
        case ast.Name(id="float") if type(value) in (int, float) and abs(value) <= 1e308:
            return float(value)
        case ast.Name(id=name) if type(value).__name__ == name != "float":
            return value
    raise ValueError(f"{value!r} is not {ast.unparse(kind)}")


# -------------------------------------------------------------------------------------------------
# Files


def path_of(profile: str, folder: Path = FOLDER) -> Path:
    """The file of a profile: one that ends with .yml is a file of one's own, else its name in the folder.

    Raises
    ------
    ValueError
        If there is no such file: lists the profiles there are.
    """
    path = Path(profile) if profile.endswith(".yml") else folder / f"{profile}.yml"
    if path.is_file():
        return path
    known = ", ".join(sorted(p.stem for p in folder.glob("*.yml")))
    raise ValueError(f"profile={profile!r} is unknown: no file {path}; choose from {known or 'none'}")


def read(path: Path, names: str) -> dict[Any, Any]:
    """What a profile's file says of its `names`, experiments or notebooks; only its form is checked.

    Raises
    ------
    ValueError
        If it cannot be read, is not UTF-8 or not YAML, or is no mapping.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader) or {}
    except OSError as error:
        raise ValueError(f"{path} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ValueError(
            f"{path} is not UTF-8 text: byte {error.object[error.start]:#x} at {error.start}"
        ) from None
    except (yaml.YAMLError, RecursionError) as error:
        raise ValueError(f"{path} is not YAML: {error}") from None
    if not isinstance(content, dict):
        raise ValueError(f"{path} must map {names} to parameters; it is a {type(content).__name__}")
    return content


class _Loader(yaml.SafeLoader):
    """Refuses a key that is given twice, of which YAML would take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        keys = [key.value for key, _ in node.value if isinstance(key, yaml.ScalarNode) and key.value != "<<"]
        if again := [key for i, key in enumerate(keys) if key in keys[:i]]:
            raise yaml.MarkedYAMLError(problem=f"{again[0]!r} is given twice", problem_mark=node.start_mark)
        return super().construct_mapping(node, deep)
