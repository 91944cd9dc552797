"""The commands and snippets of the pages: those that a reader can type are accepted."""

import ast
from collections.abc import Iterable
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Glob

import genlab as package
from support.command import Genlab
from support.pages import PAGES, commands, snippets

NOT_COMPOSED = ("reproduce", "runs", "models", "datasets", "-sc")  # they have no config
OWN_FOLDER = "--config-dir"  # of worked examples, which test_adding.py follows


def one_job(words: Iterable[str]) -> list[str]:
    """Give the first job of a sweep: the first value of each key; keys of open ranges and patterns are left out."""
    found = []
    for word in words:
        if word.startswith("-") or "=" not in word:
            found.append(word)
            continue
        (override,) = OverridesParser.create().parse_overrides([word])
        if override.is_choice_sweep() and not isinstance(override.value(), Glob):
            found.append(f"{override.get_key_element()}={next(override.sweep_string_iterator())}")
        elif not override.is_sweep_override():
            found.append(word)
    return found


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
