"""A user's own code that a run's settings use: what an experiment file enters into `MODELS`, `DATASETS` or `CALLBACKS`.

Two runs with the same settings may still have two different models, if a builder was edited between them. The code is read, never
executed.
"""

import ast
import functools
import hashlib
import symtable
from collections.abc import Iterator
from pathlib import Path

from pbl.config import Config
from pbl.storage.reading import read_bytes

REGISTRIES = ("MODELS", "DATASETS", "CALLBACKS")
# The text does not show what these bind or use.
UNREADABLE = ("exec", "eval", "globals", "locals", "vars")
# These statements only give something a name; any other statement may change anything.
BINDING = (
    ast.FunctionDef,
    ast.AsyncFunctionDef,
    ast.ClassDef,
    ast.Assign,
    ast.AnnAssign,
    ast.AugAssign,
    ast.Import,
    ast.ImportFrom,
)

Entry = tuple[str, str]  # a registry, and a name in it


def hash_own_code(file: Path, config: Config) -> str:
    """Returns eight letters for the code in an experiment file that the settings use.

    That is what the file enters under the names of the settings' model, data set and callbacks, and everything in the file
    to which that refers. An edit of anything else, a comment, a docstring or `config = ...` gives the same letters. If it
    is not clear what is used (`import *`, `exec`, a registry that is filled in a loop), the code of the whole file counts.

    Args:
        file: A run's `experiment.py`.
        config: The run's settings.

    Returns:
        The letters; "" if the settings use no code of the file, or if it cannot be read.
    """
    used = {("MODELS", config.model), ("DATASETS", config.dataset), *(("CALLBACKS", name) for name in config.callbacks)}
    try:
        return _hash_source(read_bytes(file, file.parent), frozenset(used))
    except (OSError, SyntaxError, ValueError, RecursionError, MemoryError):
        return ""


@functools.cache
def _hash_source(source: bytes, used: frozenset[Entry]) -> str:
    tree = ast.parse(source)
    statements = list(_split(_remove_texts(tree)))
    nodes = [node for statement in statements for node in ast.walk(statement)]
    chosen = statements if _is_unclear(statements, nodes) else _choose_used(statements, used)
    code = "\n".join(map(ast.unparse, chosen))
    return hashlib.sha256(code.encode(errors="replace")).hexdigest()[:8] if chosen else ""


def _remove_texts(tree: ast.Module) -> ast.Module:
    """Removes docstrings, and other texts that nothing uses."""
    for node in ast.walk(tree):
        for body in (getattr(node, name, None) for name in ("body", "orelse", "finalbody")):
            if isinstance(body, list):  # a lambda's body is not a list
                is_text = [isinstance(part, ast.Expr) and isinstance(part.value, ast.Constant) for part in body]
                kept = [part for part, text in zip(body, is_text, strict=True) if not text]
                body[:] = kept or ([ast.Pass()] if body else [])
    return tree


def _split(tree: ast.Module) -> Iterator[ast.stmt]:
    """The statements of a file: each imported name separately, without the configuration, which is compared separately."""
    for statement in tree.body:
        if isinstance(statement, ast.Import | ast.ImportFrom):
            for alias in statement.names:
                yield type(statement)(**{**vars(statement), "names": [alias]})
        elif not (_targets(statement) and all(_root(target) == "config" for target in _targets(statement))):
            yield statement


def _targets(statement: ast.stmt) -> list[ast.expr]:
    """The targets to which a statement assigns."""
    if isinstance(statement, ast.Assign):
        return statement.targets
    return [statement.target] if isinstance(statement, ast.AnnAssign | ast.AugAssign) else []


def _root(target: ast.expr) -> str | None:
    """`settings` for `settings["rate"]` and for `settings.rate`."""
    while isinstance(target, ast.Attribute | ast.Subscript):
        target = target.value
    return target.id if isinstance(target, ast.Name) else None


def _is_registry(node: ast.AST) -> bool:
    """Whether a node is `MODELS`, `pbl.MODELS` or the like."""
    return getattr(node, "id", getattr(node, "attr", None)) in REGISTRIES


def _entry(node: ast.AST) -> Entry | None:
    """`("MODELS", "mine")` for `MODELS["mine"]`; None for anything else."""
    if isinstance(node, ast.Subscript) and _is_registry(node.value) and isinstance(node.slice, ast.Constant):
        return getattr(node.value, "id", getattr(node.value, "attr", "")), str(node.slice.value)
    return None


def _is_unclear(statements: list[ast.stmt], nodes: list[ast.AST]) -> bool:
    """Whether it is not clear what a registry contains, or what a name refers to."""
    imported = [node for node in nodes if isinstance(node, ast.alias)]
    if any(node.asname and node.name in REGISTRIES for node in imported):
        return True
    if any(isinstance(node, ast.Name) and node.id in UNREADABLE for node in nodes):
        return True
    entered = {id(target) for statement in statements for target in _targets(statement)}
    told = sum(bool(_entry(node)) and (isinstance(node.ctx, ast.Load) or id(node) in entered) for node in nodes)
    named = sum(map(_is_registry, nodes))
    return told < named or (named > 0 and any(node.name == "*" for node in imported))


def _choose_used(statements: list[ast.stmt], used: frozenset[Entry]) -> list[ast.stmt]:
    """The statements that enter something under one of these names, and everything that they refer to, in the file's order."""
    makers: dict[str | Entry, list[int]] = {}  # for a name, or an entry: the statements that bind or change it
    needs: list[set[str | Entry]] = []  # for each statement: what it refers to
    acting: list[int] = []  # statements that act: a call, an `if`, a loop
    for number, statement in enumerate(statements):
        bound, referred = _find_names(statement)
        bound |= {_entry(target) or _root(target) for target in _targets(statement)}
        for name in bound - {None}:
            makers.setdefault(name, []).append(number)
        needs.append({*referred, *(_entry(node) for node in ast.walk(statement))} - {*REGISTRIES})
        if not isinstance(statement, BINDING):
            acting.append(number)
    left = [number for entry in used for number in makers.get(entry, ())]
    left += acting if left else []
    chosen: set[int] = set()
    while left:
        number = left.pop()
        if number not in chosen:
            chosen.add(number)
            left += [other for name in needs[number] for other in makers.get(name, ())]
    return [statements[number] for number in sorted(chosen)]


def _find_names(statement: ast.stmt) -> tuple[set[str], set[str]]:
    """The names of the file that a statement binds, and those that it refers to, inside its functions too."""
    table = symtable.symtable(ast.unparse(statement), "experiment.py", "exec")
    bound = {symbol.get_name() for symbol in table.get_symbols() if symbol.is_assigned() or symbol.is_imported()}
    referred, tables = {symbol.get_name() for symbol in table.get_symbols()}, list(table.get_children())
    while tables:
        table = tables.pop()
        referred |= {symbol.get_name() for symbol in table.get_symbols() if symbol.is_global()}
        tables += table.get_children()
    return bound, referred
