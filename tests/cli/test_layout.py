"""The tests themselves: each in a folder of its subject, and none built on another."""

import ast

from support.paths import ROOT

TESTS = ROOT / "tests"
FOLDERS = {"laws", "models", "data", "metrics", "training", "runs", "cli", "mutation"}
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


def test_no_test_module_is_imported() -> None:
    found = {
        path.name: names
        for path in [*MODULES, *(TESTS / "support").glob("*.py")]
        if (names := {name for name in imported(path.read_text()) if {"test", "conftest"} & roots_of(name)})
    }
    assert not found, "move what they share to tests/support"


def roots_of(name: str) -> set[str]:
    """Give the first word of every part of a module's name: test for test_resume."""
    return {part.split("_")[0] for part in name.split(".")}
