"""Parameters of notebooks: read from their sources, checked by name and type before anything runs.

papermill passes over an unknown name with a warning and takes any value, and a profile's `1e-3` is
a string to YAML. So names and types are compared here with the notebook's own `parameters` cell.
"""

from __future__ import annotations

import ast
import json
import math
import shlex
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

WORDS = {"true": True, "false": False, "none": None, "null": None}


class WrongUse(ValueError):
    """What was asked for cannot be done; the message says what can. Exit status 2."""


@dataclass(frozen=True)
class Parameter:
    """One line of a notebook's `parameters` cell.

    Attributes
    ----------
    name : str
    default : object
        A literal.
    kind : str
        Its type, written as an annotation: `int`, `float | None`, `list[int]`,
        `dict[str, list[float]]`.
    help : str
        The comment at the end of the line.
    """

    name: str
    default: Any
    kind: str
    help: str

    def __str__(self) -> str:
        comment = f"  # {self.help}" if self.help else ""
        return f"  {self.name}: {self.kind} = {self.default!r}{comment}"


def read_parameters(notebook: Path) -> dict[str, Parameter]:
    """Return the parameters of a notebook, by name, from its cell tagged `parameters`.

    Raises
    ------
    WrongUse
        Without such a cell, or where a line of it is not `name = literal`.
    """
    cells = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    tagged = [c for c in cells if "parameters" in c.get("metadata", {}).get("tags", [])]
    if not tagged:
        raise WrongUse(f"{notebook} has no cell tagged 'parameters'")
    source = "".join(tagged[0]["source"])
    parameters = (_parameter(node, source) for node in ast.parse(source).body)
    try:
        return {parameter.name: parameter for parameter in parameters}
    except ValueError as error:
        raise WrongUse(f"{notebook}, parameters cell: {error}") from None


def _parameter(node: ast.stmt, source: str) -> Parameter:
    match node:
        case ast.Assign(targets=[ast.Name(id=name)], value=value):
            default = ast.literal_eval(value)
            kind = kind_of(default)
        case ast.AnnAssign(target=ast.Name(id=name), value=ast.expr() as value):
            default = ast.literal_eval(value)
            kind = ast.unparse(node.annotation)
        case _:
            raise ValueError(f"line {node.lineno} is not `name = literal`")
    comment = source.splitlines()[node.lineno - 1].partition("  #")[2]
    return Parameter(name, default, kind, comment.strip())


def kind_of(value: Any) -> str:
    """Return the type of a literal as an annotation; a list of ints and floats is `list[float]`."""
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
    """Return `value` as the type `kind`; an int fits a float, a bool fits only a bool.

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
        case ast.Name(id="float") if type(value) in (int, float) and math.isfinite(value):
            return float(value)
        case ast.Name(id=name) if type(value).__name__ == name != "float":
            return value
    raise ValueError(f"{value!r} is not {ast.unparse(kind)}")


def parse_assignments(text: str) -> dict[str, Any]:
    """Return the values in `"name=value other=[1, 2] operation='x+y'"`, as Python literals.

    A bare word is a string; `true`, `false`, `none` and `null` are what they say.
    """
    values: dict[str, Any] = {}
    for piece in _split_outside_brackets(text):
        name, equals, literal = piece.partition("=")
        if not (equals and name.isidentifier()):
            raise WrongUse(f'P: {piece!r} is not name=value, as in P="train_fraction=0.6 seeds=[0, 1]"')
        if name in values:
            raise WrongUse(f"P: {name} is given twice")
        values[name] = _literal(name, literal)
    return values


def write_assignments(values: dict[str, Any]) -> str:
    """Return what `parse_assignments` reads as these values, quoted for a shell; nothing of none."""
    text = " ".join(f"{name}={value!r}" for name, value in values.items())
    return shlex.quote(text) if set(text) & set('"$`\\!') else text and f'"{text}"'


def _split_outside_brackets(text: str) -> list[str]:
    pieces, depth, quote = [""], 0, ""
    for char in text:
        if quote:
            quote = "" if char == quote else quote
        elif char in "'\"":
            quote = char
        else:
            depth += (char in "[({") - (char in "])}")
        if char.isspace() and not quote and depth == 0:
            pieces.append("")
        else:
            pieces[-1] += char
    return [piece for piece in pieces if piece]


def _literal(name: str, text: str) -> Any:
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        if not text or set(text) & set("'\"[](){}"):
            raise WrongUse(f"P: {name}={text} cannot be read as a value") from None
        return text


def load_profile(path: Path, notebooks: dict[str, dict[str, Parameter]]) -> dict[str, dict]:
    """Return a profile's values, `{notebook: {parameter: value}}`, checked against the notebooks.

    Raises
    ------
    WrongUse
        For a file that is not there or not YAML, an unknown notebook or parameter, a wrong type, an
        empty list.
    """
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yml")))
        raise WrongUse(f"PROFILE={path.stem} is unknown; the profiles are: {known}")
    try:
        profile = yaml.safe_load(path.read_text(encoding="utf-8")) or {}
    except yaml.YAMLError as error:
        raise WrongUse(f"{path} is not YAML: {error}") from None
    if not isinstance(profile, dict):
        raise WrongUse(f"{path} must map notebooks to parameters, not be a {kind_of(profile)}")
    for name, values in profile.items():
        if name not in notebooks:
            raise WrongUse(f"{path}: no notebook {name!r}; the keys are: {', '.join(notebooks)}")
        if not isinstance(values, dict):
            raise WrongUse(f"{path}: {name} must map parameters to values, as in {{seeds: [0, 1]}}")
    return {name: check(profile.get(name, {}), known, f"{path}: {name}") for name, known in notebooks.items()}


def check(values: dict[str, Any], known: dict[str, Parameter], where: str) -> dict[str, Any]:
    """Return `values` as the notebook's types; `where` begins the message of an error.

    Raises
    ------
    WrongUse
        For a name that is not among `known` (which are listed), a value of another type, or one
        that is empty.
    """
    fitted = {}
    for name, value in values.items():
        if name not in known:
            listed = "\n".join(str(parameter) for parameter in known.values())
            raise WrongUse(f"{where}: unknown parameter {name!r}; the known ones are\n{listed}")
        try:
            fitted[name] = fit(value, known[name].kind)
        except ValueError as error:
            hint = f"; {error}" if isinstance(value, list | dict) else _number_hint(value)
            raise WrongUse(f"{where}: {name}={value!r} must be {known[name].kind}{hint}") from None
        for empty, nothing in _empty(name, fitted[name]):
            raise WrongUse(f"{where}: {empty}={nothing} is empty; at least one value is needed")
    return fitted


def _empty(name: str, value: Any) -> Iterator[tuple[str, Any]]:
    """The empty lists and dictionaries in a value, each with its name."""
    if isinstance(value, list | dict):
        if not value:
            yield name, value
        for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _empty(f"{name}[{key!r}]", entry)


def _number_hint(value: Any) -> str:
    try:
        number = float(value) if isinstance(value, str) else None
    except ValueError:
        number = None
    return "" if number is None else f"; in YAML write {yaml.safe_dump(number).split()[0]}"


def assign(
    profile: dict[str, dict], given: dict[str, Any], notebooks: dict[str, dict[str, Parameter]]
) -> dict[str, dict]:
    """Return the profile with the values of P laid over it, in each notebook that knows them.

    Raises
    ------
    WrongUse
        For a name that none of the notebooks knows, a value of another type, or an empty one.
    """
    for name in given:
        if not any(name in known for known in notebooks.values()):
            listed = "\n".join(f"{n}\n" + "\n".join(map(str, k.values())) for n, k in notebooks.items())
            raise WrongUse(f"P: unknown parameter {name!r}; the known ones are\n{listed}")
    return {
        name: profile[name] | check({k: v for k, v in given.items() if k in known}, known, f"P: {name}")
        for name, known in notebooks.items()
    }
