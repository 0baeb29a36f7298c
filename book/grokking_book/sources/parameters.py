"""Parameters of notebooks: read from their sources, checked by name and type before anything runs.

papermill passes over an unknown name with a warning and takes any value, and a profile's `1e-3` is
a string to YAML. So names and types are compared with the notebook's own `parameters` cell, by the rules of
`grokking_core.paper.profiles`.
"""

from __future__ import annotations

import ast
import json
import shlex
from pathlib import Path
from typing import Any

from grokking_core.paper import profiles
from grokking_core.paper.profiles import Parameter, Refused, kind_of

WORDS = {"true": True, "false": False, "none": None, "null": None}


class WrongUse(ValueError):
    """What was asked for cannot be done; the message says what can. Exit status 2."""


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
        For a file that is not there, not text or not YAML, an unknown notebook or parameter, a wrong type,
        an empty list, or a value twice in one.
    """
    if path.stem.endswith(".yml"):
        own = path.with_suffix("")
        raise WrongUse(f"PROFILE={own} is a file: copy it into book/profiles, and give PROFILE={own.stem}")
    if not path.is_file():
        known = ", ".join(sorted(p.stem for p in path.parent.glob("*.yml")))
        raise WrongUse(f"PROFILE={path.stem} is unknown; the profiles are: {known}")
    try:
        profile = profiles.read(path, "notebooks")
    except ValueError as error:
        raise WrongUse(str(error)) from None
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
        For what `profiles.check` refuses; of a name that is not known, lists those that are.
    """
    try:
        return profiles.check(values, known)
    except Refused as error:
        name, reason, detail = error.name, error.reason, error.detail
    said = {
        "unknown": f"unknown parameter {name!r}; the known ones are\n{_listed(known)}",
        "type": f"{name}={values[name]!r} must be {known[name].kind if name in known else ''}{detail}",
        "empty": f"{detail} is empty; at least one value is needed",
        "twice": detail,
    }
    raise WrongUse(f"{where}: {said[reason]}")


def _listed(known: dict[str, Parameter]) -> str:
    return "\n".join(map(str, known.values()))


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
            listed = "\n".join(f"{n}\n{_listed(k)}" for n, k in notebooks.items())
            raise WrongUse(f"P: unknown parameter {name!r}; the known ones are\n{listed}")
    return {
        name: profile[name] | check({k: v for k, v in given.items() if k in known}, known, f"P: {name}")
        for name, known in notebooks.items()
    }
