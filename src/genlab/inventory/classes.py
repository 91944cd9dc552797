"""Facts about classes, read from their source text: importing a class would import torch, and run its module."""

import ast
import sys
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PACKAGES = str(Path(__file__).resolve().parents[2])  # the folder that genlab is in


@dataclass(frozen=True)
class About:
    """Facts about a class or a function, as its source text states them.

    Attributes:
        docstring: its docstring; empty if it has none.
        module: docstring of its module.
        kinds: names of the kinds of data that a model's class takes; None if neither it nor a base says so.
    """

    docstring: str = ""
    module: str = ""
    kinds: tuple[str, ...] | None = None


def about(target: str) -> About:
    """Read about the class that a ``_target_`` names; the answer is empty if its source is not found.

    Args:
        target: import path of a class, or of one of its methods, such as ``"genlab.models.vae.vae.VAE"``.
    """
    parts = target.split(".")
    for length in range(len(parts) - 1, 0, -1):
        module = ".".join(parts[:length])
        if (tree := _tree(module)) is not None:
            found = _class(tree, parts[length])
            docstring = ast.get_docstring(found) if found is not None else None
            return About(docstring or "", ast.get_docstring(tree) or "", _kinds(module, parts[length]))
    return About()


@cache
def _tree(module: str) -> ast.Module | None:
    """Parse the file of a module; None if it is not a file in genlab or on the path, or cannot be read."""
    for root in (_PACKAGES, *sys.path):
        path = Path(root, *module.split("."))
        for file in (path.with_name(f"{path.name}.py"), path / "__init__.py"):
            if file.is_file():
                try:
                    return ast.parse(file.read_bytes())
                except (OSError, SyntaxError, ValueError):
                    return None
    return None


def _class(tree: ast.Module, name: str) -> ast.ClassDef | None:
    return next((node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == name), None)


def _kinds(module: str, name: str, depth: int = 10) -> tuple[str, ...] | None:
    """Find ``kinds = frozenset({...})`` in a class or the nearest of its bases."""
    tree = _tree(module)
    if tree is None or depth == 0 or (found := _class(tree, name)) is None:
        return None
    for node in found.body:
        if isinstance(node, ast.AnnAssign | ast.Assign):
            targets = [node.target] if isinstance(node, ast.AnnAssign) else node.targets
            if any(isinstance(one, ast.Name) and one.id == "kinds" for one in targets):
                return _texts(node.value)
    for base in found.bases:
        if isinstance(base, ast.Name):
            home, original = _imported(tree, base.id) or (module, base.id)
            if (kinds := _kinds(home, original, depth - 1)) is not None:
                return kinds
    return None


def _texts(value: ast.expr | None) -> tuple[str, ...]:
    """List the texts that an expression such as ``frozenset({"image", "binary"})`` has in it."""
    parts = ast.walk(value) if value is not None else ()
    return tuple(part.value for part in parts if isinstance(part, ast.Constant) and isinstance(part.value, str))


def _imported(tree: ast.Module, name: str) -> tuple[str, str] | None:
    """Give the module that a name was imported from, and its name there."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module is not None and node.level == 0:
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return node.module, alias.name
    return None
