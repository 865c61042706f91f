"""Code versions: a hash of what a function's module and the modules below it do, whatever their comments say."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

# Machinery that carries a stage out without deciding what is in its artifact: a better message or a faster store
# must not retrain a model. Seeds do decide, and are always part of the version.
MACHINERY = ("strop.runs", "strop.cli", "strop.errors")
ALWAYS = ("strop.runs.seeds",)


def code_version(function: Callable[..., Any]) -> str:
    """Return the hash of the code of `function`'s module and of the modules it imports, also inside functions.

    Followed are strop's own modules and those of the package that `function` belongs to; other libraries are recorded
    by version, with the run. Comments, docstrings, blank lines and quotes do not count.
    """
    source = inspect.getsourcefile(function)
    if source is None:
        raise TypeError(f"{function!r} has no source file, so its code has no version")
    module = function.__module__
    packages = tuple(sorted({"strop", module.partition(".")[0]}))
    return _version(module, Path(source).resolve(), packages)


@cache
def _version(module: str, source: Path, packages: tuple[str, ...]) -> str:
    waiting = {module: source} | {name: path for name in ALWAYS if (path := find_module(name)) is not None}
    versions: dict[str, str] = {}
    while waiting:
        name, path = waiting.popitem()
        versions[name], imported = _read(path, name)
        for candidate in imported:
            if _followed(candidate, packages) and candidate not in versions and candidate not in waiting:
                found = find_module(candidate)
                if found is not None:
                    waiting[candidate] = found
    # The entry module of a script is called __main__ here and by its name elsewhere; its place in the order is all
    # that a name decides, so the root goes first and the others follow by name.
    listed = [versions.pop(module), *(f"{name} {versions[name]}" for name in sorted(versions))]
    return hashlib.sha256("\n".join(listed).encode()).hexdigest()


def _followed(name: str, packages: tuple[str, ...]) -> bool:
    if any(name == machinery or name.startswith(machinery + ".") for machinery in MACHINERY):
        return False
    return name.partition(".")[0] in packages


@cache
def _read(path: Path, module: str) -> tuple[str, tuple[str, ...]]:
    tree = ast.parse(path.read_text(encoding="utf-8"))
    imported = tuple(_imports(tree, package=module if path.name == "__init__.py" else module.rpartition(".")[0]))
    stripped = ast.unparse(_Strip().visit(tree))
    return hashlib.sha256(stripped.encode()).hexdigest(), imported


class _Strip(ast.NodeTransformer):
    """Removes docstrings, those of attributes included: a text that stands alone does nothing."""

    def generic_visit(self, node: ast.AST) -> ast.AST:
        """Strip below `node`, and keep a block whole that held nothing but a docstring."""
        super().generic_visit(node)
        if getattr(node, "body", None) == []:
            node.body = [ast.Pass()]  # type: ignore[attr-defined]
        return node

    def visit_Expr(self, node: ast.Expr) -> ast.AST | None:
        """Drop a lone text."""
        lone = isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)
        return None if lone else self.generic_visit(node)


def _imports(tree: ast.AST, *, package: str) -> Iterator[str]:
    """Yield the names of modules that a tree may import; names of functions are among them and lead to no file."""
    for node in _outside_type_checking(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            above = package.split(".")[: len(package.split(".")) - node.level + 1] if node.level else []
            base = ".".join([*above, *([node.module] if node.module else [])])
            yield base
            yield from (f"{base}.{alias.name}" for alias in node.names)


def _outside_type_checking(node: ast.AST) -> Iterator[ast.AST]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and ast.unparse(child.test).endswith("TYPE_CHECKING"):
            for other in child.orelse:
                yield other
                yield from _outside_type_checking(other)
            continue
        yield child
        yield from _outside_type_checking(child)


@cache
def find_module(name: str) -> Path | None:
    """Return the source file of a module, found without importing it, or None where there is none."""
    top, *rest = name.split(".")
    # A loaded module is not looked for again: a script's __main__ has no spec, and looking for one raises an error.
    spec = getattr(sys.modules[top], "__spec__", None) if top in sys.modules else importlib.util.find_spec(top)
    if spec is None or spec.origin is None:
        return None
    if not rest:
        return Path(spec.origin) if spec.origin.endswith(".py") else None
    for folder in spec.submodule_search_locations or []:
        base = Path(folder).joinpath(*rest)
        for candidate in (base.with_name(base.name + ".py"), base / "__init__.py"):
            if candidate.is_file():
                return candidate
    return None
