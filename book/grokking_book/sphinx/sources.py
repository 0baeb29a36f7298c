"""What `grokking_core` offers by name, read from its sources, none of them imported.

Importing the package takes seconds, since it imports PyTorch; reading it takes half of one. And only the
sources have the comments that say what a field or a constant is.
"""

from __future__ import annotations

import ast
import builtins
import io
import re
import tokenize
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path
from textwrap import dedent

PACKAGE = "grokking_core"
FOLDER = Path(__file__).resolve().parents[3] / PACKAGE
LONGEST = 20  # lines of a constant's value that the reference shows

Function = ast.FunctionDef | ast.AsyncFunctionDef


@dataclass(frozen=True, kw_only=True)
class Name:
    """A public name: a function, a class, a constant, or what a class has."""

    name: str
    kind: str  # function, class, exception, data; in classes method, classmethod, property, attribute
    line: int  # where it begins in the source, from 1
    says: str = ""  # its docstring or, where it has none, the comment on its line
    signature: str = ""  # of what is called: (a: int) -> str
    type: str = ""  # of what is a value
    prose_type: str = ""  # the same in the docstring's words, where the source has none
    value: str = ""  # of a constant, the default of a field
    made: tuple[str, ...] = ()  # decorators of a class, and what it derives from
    members: tuple[Name, ...] = ()


@dataclass(frozen=True)
class Module:
    """A module as its source says it."""

    name: str  # with the package's
    file: Path
    says: str  # its docstring
    imported: dict[str, str]  # full name by the name it has here
    names: tuple[Name, ...]  # in the order of the source


@dataclass(frozen=True)
class Item:
    """An entry of a docstring's section."""

    term: str  # name : type, or what is returned or raised
    says: str


def sections(docstring: str) -> tuple[str, list[tuple[str, list[Item]]]]:
    """Return what comes before a NumPy docstring's sections, and the items of each by its title."""
    head, *parts = re.split(r"^(\w+)\n-+\n", docstring, flags=re.MULTILINE)
    return head.strip(), [(title, _items(body)) for title, body in zip(parts[::2], parts[1::2], strict=True)]


def _items(body: str) -> list[Item]:
    found = re.findall(r"^(\S.*)\n?((?:(?:[ ]+.*)?\n?(?!\S))*)", body, flags=re.MULTILINE)
    return [Item(term, dedent(says).strip()) for term, says in found]


@lru_cache
def modules() -> list[str]:
    """Return the names of the package's public modules, without the package's own."""
    return sorted(path.stem for path in FOLDER.glob("*.py") if not path.stem.startswith("_"))


@lru_cache
def read(module: str) -> Module:
    """Return a module; "" is the package itself."""
    file = FOLDER / f"{module or '__init__'}.py"
    source = file.read_text(encoding="utf-8")
    tree, lines = ast.parse(source), tokenize.generate_tokens(io.StringIO(source).readline)
    comments = {t.start[0]: t.string.lstrip("#: ") for t in lines if t.type == tokenize.COMMENT}
    imported = {key: full for node in ast.walk(tree) for key, full in _imports(node).items()}
    names = tuple(_names(tree.body, source.splitlines(), comments, in_class=False))
    full = f"{PACKAGE}.{module}".rstrip(".")
    return Module(full, file, ast.get_docstring(tree) or "", imported, names)


def _imports(node: ast.AST) -> dict[str, str]:
    if isinstance(node, ast.ImportFrom):
        return {alias.asname or alias.name: f"{node.module}.{alias.name}" for alias in node.names}
    if isinstance(node, ast.Import):
        return {alias.asname or alias.name: alias.name for alias in node.names}
    return {}


def _names(body: list[ast.stmt], source: list[str], comments: dict[int, str], in_class: bool) -> list[Name]:
    """Public names of a module's or a class's body."""
    found: list[Name] = []
    for node in body:
        if isinstance(node, Function):
            found.append(_function(node, in_class))
        elif isinstance(node, ast.ClassDef):
            found.append(_class(node, source, comments))
        elif isinstance(node, ast.Assign | ast.AnnAssign):
            comment = comments.get(node.end_lineno or node.lineno, "")
            found += _values(node, source, comment, "attribute" if in_class else "data")
    return [name for name in found if not name.name.startswith("_")]


def _first_line(node: Function | ast.ClassDef) -> int:
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _function(node: Function, in_class: bool) -> Name:
    marks = [ast.unparse(decorator) for decorator in node.decorator_list]
    returns = ast.unparse(node.returns) if node.returns else ""
    kind = "method" if in_class else "function"
    told = {"name": node.name, "line": _first_line(node), "says": ast.get_docstring(node) or ""}
    if any(mark.endswith("property") for mark in marks):
        return Name(kind="property", type=returns, **told)
    if in_class and "staticmethod" not in marks:
        node.args.args = node.args.args[1:]
    kind = {"classmethod": "classmethod", "staticmethod": "staticmethod"}.get("".join(marks), kind)
    signature = f"({ast.unparse(node.args)})" + (f" -> {returns}" if returns else "")
    return Name(kind=kind, signature=signature, **told)


def _class(node: ast.ClassDef, source: list[str], comments: dict[int, str]) -> Name:
    marks = [f"@{ast.unparse(decorator)}" for decorator in node.decorator_list]
    bases = [ast.unparse(base) for base in node.bases]
    begin = [n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == "__init__"]
    signature = _function(begin[0], in_class=True).signature.removesuffix(" -> None") if begin else ""
    members = _names(node.body, source, comments, in_class=True)
    says = ast.get_docstring(node) or ""
    return Name(
        name=node.name,
        kind="exception" if any(map(_is_exception, bases)) else "class",
        line=_first_line(node),
        says=says,
        signature=signature,
        made=(*marks, *bases),
        members=tuple(_described(members, begin, says)),
    )


def _described(members: list[Name], begin: list[ast.FunctionDef], says: str) -> list[Name]:
    """A class's members, and what `__init__` makes of the attributes that its docstring describes."""
    items = dict(sections(says)[1]).get("Attributes", [])
    described = {name: item for item in items for name in item.term.split(" : ")[0].split(", ")}
    made = [n for body in begin for n in ast.walk(body) if isinstance(n, ast.Assign | ast.AnnAssign)]
    known = {member.name for member in members}
    new = {name.name: name for node in made for name in _made_in_init(node) if name.name not in known}
    told = []
    for member in [*(name for name in new.values() if name.name in described), *members]:
        item = described.get(member.name)
        kind = "" if member.type or not item else item.term.partition(" : ")[2]
        told.append(replace(member, says=member.says or item.says, prose_type=kind) if item else member)
    return told


def _is_exception(base: str) -> bool:
    known = getattr(builtins, base, None)
    built_in = isinstance(known, type) and issubclass(known, BaseException)
    return built_in or base.endswith(("Error", "Warning"))


def _values(node: ast.Assign | ast.AnnAssign, source: list[str], comment: str, kind: str) -> list[Name]:
    """Names that a statement gives values to."""
    hint = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    pairs: list[tuple[ast.expr, ast.expr | None]] = []
    for target in _targets(node):
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            pairs += zip(target.elts, node.value.elts, strict=True)
        else:
            pairs.append((target, node.value))
    told = {"kind": kind, "line": node.lineno, "says": comment, "type": hint}
    return [
        Name(name=target.id, value=_text(value, source), **told)
        for target, value in pairs
        if isinstance(target, ast.Name)
    ]


def _targets(node: ast.Assign | ast.AnnAssign) -> list[ast.expr]:
    return node.targets if isinstance(node, ast.Assign) else [node.target]


def _text(value: ast.expr | None, source: list[str]) -> str:
    """A value as its source has it; nothing where that is long."""
    if value is None or value.end_lineno is None or value.end_lineno - value.lineno >= LONGEST:
        return ""
    lines = [line.encode() for line in source[value.lineno - 1 : value.end_lineno]]
    lines[-1] = lines[-1][: value.end_col_offset]  # columns are counted in bytes
    lines[0] = lines[0][value.col_offset :]
    return b"\n".join(lines).decode()


def _made_in_init(node: ast.Assign | ast.AnnAssign) -> list[Name]:
    """Attributes that a statement of `__init__` gives values to."""
    hint = ast.unparse(node.annotation) if isinstance(node, ast.AnnAssign) else ""
    return [
        Name(name=target.attr, kind="attribute", line=node.lineno, type=hint)
        for target in _targets(node)
        if isinstance(target, ast.Attribute)
        and ast.unparse(target.value) == "self"
        and not target.attr.startswith("_")
    ]


@lru_cache
def documented() -> dict[str, Name | None]:
    """Return every public name by its full name, modules too."""
    found: dict[str, Name | None] = {}
    for module in map(read, modules()):
        found[module.name] = None
        for name in module.names:
            found[f"{module.name}.{name.name}"] = name
            found |= {f"{module.name}.{name.name}.{member.name}": member for member in name.members}
    return found


def forget() -> None:
    """Forget what was read, so that sources that have changed since are read again."""
    for cached in (modules, read, documented):
        cached.cache_clear()


def full_name(name: str, module: str = PACKAGE, owner: str = "") -> str | None:
    """Return what a name in a module (and there, in a class) stands for; None if for nothing known.

    Names of this package are given as where they are defined, whatever path they are imported by; names of
    others as they are imported.
    """
    inside = [f"{module}.{owner}.{name}"] if owner else []
    for candidate in (*inside, f"{module}.{name}", name, f"{PACKAGE}.{name}"):
        found = _followed(candidate)
        if found:
            return found
    return None


def _followed(full: str) -> str | None:
    """Where a name with its path leads, through the imports of this package's modules."""
    if full in documented():
        return full
    if not full.startswith(f"{PACKAGE}."):
        return None
    first, *rest = full.split(".")[1:]
    module, path = (first, rest) if first in modules() else ("", [first, *rest])
    target = read(module).imported.get(path[0]) if path else None
    if target is None:
        return None
    leads = ".".join([target, *path[1:]])
    return _followed(leads) if leads.startswith(f"{PACKAGE}.") else leads
