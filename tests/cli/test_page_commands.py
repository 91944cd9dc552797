"""The commands and snippets of the pages: those that a reader can type are accepted; test_pages_run.py runs them."""

import ast
import re
import subprocess
import tomllib
from pathlib import Path

import pytest

import genlab as package
from support.command import Genlab
from support.page_commands import one_job
from support.pages import PAGES, commands, faults, page_commands, snippets
from support.paths import ROOT

NOT_COMPOSED = ("reproduce", "runs", "models", "datasets", "-sc")  # they have no config
OWN_FOLDER = "--config-dir"  # of worked examples, which test_adding.py follows


def composed_as(words: list[str]) -> list[str]:
    """Give the command line that composes the config of a command of a page, and runs nothing."""
    if "-m" in words:
        words = one_job(word for word in words if word != "-m")
    return words if {"--help", "--cfg"} & set(words) else [*words, "--cfg", "job"]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_commands_of_a_page_compose(page: Path, genlab: Genlab) -> None:
    found = [words for words in commands(page) if words[0] not in NOT_COMPOSED and OWN_FOLDER not in words]
    for words in {tuple(composed_as(words)): None for words in found}:
        result = genlab(*words)
        assert result.code == 0, f"genlab {' '.join(words)}: {result.err}"
        assert result.out.strip()


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_is_of_a_known_kind_and_every_mark_is_one(page: Path) -> None:
    assert faults(page) == []


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("<!-- lengthy -->\n```\ngenlab train\n```", "lengthy is no mark"),
        ("<!-- needs luck -->\n```\ngenlab train\n```", "needs luck is no mark"),
        ("<!-- long -->\n```\ngenlab sample RUN\n```", "genlab sample does not train"),
        ("<!-- long | gan -->\n```\ngenlab train model=vae/vae\n```", "no line has gan"),
        ("<!-- long -->\n\n```\ngenlab train\n```", "does not stand directly above a block"),
        ("<!-- long -->\n```python\n1 + 1\n```", "long is for trainings"),
        ("<!-- long -->\n```text\nprinted\n```", "nothing here is run"),
        ("```\nwhat is printed\n```", "what is no command"),
        ("```\nscancel 1\n```", "scancel is nothing that can be run here"),
        ("```pyton\n1 + 1\n```", "pyton is no language of a block"),
    ],
)
def test_a_fault_of_a_block_is_found(tmp_path: Path, text: str, line: str) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"# Page\n\n{text}\n")
    (found,) = faults(page)
    assert line in found


def test_a_mark_is_of_a_block_or_of_lines_of_it(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- long -->\n<!-- needs gpu | trainer=gpu -->\n```\n$ A=1 genlab train seed=1  # trainer=cpu\nprinted\n"
        "$ genlab train trainer=gpu | tail\n$ make run\n```\n<!-- runs: a | b -->\n```python\n1\n```\n"
    )
    found = [(c.environment, c.program, c.words, c.mark) for c in page_commands(page)]
    assert found == [
        ((("A", "1"),), "genlab", ("train", "seed=1"), "long"),
        ((), "genlab", ("train", "trainer=gpu"), "needs gpu"),
        ((), "make", ("run",), "long"),
    ]
    assert snippets(page) == ["1\n"]


def test_targets_of_make_and_extras_of_pip_exist() -> None:
    others = [command for page in PAGES for command in page_commands(page)]
    targets = {command.words[0] for command in others if command.program == "make"}
    assert targets >= {"run", "setup", "bench"}
    for target in targets:
        dry = subprocess.run(["make", "-n", target], cwd=ROOT, capture_output=True, text=True)
        assert dry.returncode == 0, dry.stderr
    extras = {
        extra for command in others if command.program == "pip" for extra in re.findall(r"\[(.+)\]", command.words[1])
    }
    assert extras >= {"play", "features"}
    assert extras <= tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"].keys()


def test_the_commands_are_found() -> None:
    found = [words for page in PAGES for words in commands(page)]
    assert len(found) > 150
    assert ["train", "-m", "trainer=ddp_cpu", "seed=1,2"] in found  # a comment is no part of it
    assert ["train", "model=vae/vae", "--json"] in found  # nor is a pipe
    assert composed_as(["train", "-m", "model=a,b", "seed=interval(1, 2)"]) == ["train", "model=a", "--cfg", "job"]


def test_a_command_that_does_not_compose_is_found(genlab: Genlab) -> None:
    assert genlab(*composed_as(["train", "model=vae/va"])).code == 2
    assert genlab(*composed_as(["sample", "RUN", "mood=grid"])).code == 2


def test_the_snippets_of_python_are_of_this_version() -> None:
    found = [ast.parse(text) for page in PAGES for text in snippets(page)]
    assert len(found) > 8
    used = {
        node.attr
        for tree in found
        for node in ast.walk(tree)
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == "genlab"
    }
    assert used > {"train", "load", "sweep"}
    assert used <= set(package.__all__)
