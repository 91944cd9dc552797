"""The tests themselves: each in a folder of its subject, and none built on another."""

import ast
from pathlib import Path

import pytest

from support.paths import ROOT

TESTS = ROOT / "tests"
FOLDERS = {"laws", "models", "data", "metrics", "training", "runs", "cli"}
MODULES = sorted(TESTS.rglob("test_*.py"))


def imported(source: str) -> set[str]:
    """List the modules that a source imports, wherever in it."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {f"{node.module}.{alias.name}" for alias in node.names} | {node.module or ""}
    return names


def test_every_test_module_lies_in_a_folder_of_its_subject() -> None:
    assert {path.parent.relative_to(TESTS).as_posix() for path in MODULES} == FOLDERS
    names = [path.name for path in MODULES]
    assert len(names) == len(set(names)), "two test modules of one name"


@pytest.mark.parametrize("path", [*MODULES, *(TESTS / "support").glob("*.py")], ids=lambda path: path.stem)
def test_no_module_imports_a_test_module(path: Path) -> None:
    parts = {part for name in imported(path.read_text()) for part in name.split(".")}
    assert not {part for part in parts if part.startswith("test_") or part == "conftest"}
