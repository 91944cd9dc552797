"""Tests of the first part of --help: a command's own options and modes, in words."""

import re

import pytest
from omegaconf import DictConfig, OmegaConf

from genlab.cli import COMMANDS
from genlab.completion.line import FLAGS
from genlab.composition.own_options import head, own_help, own_options
from support.command import Genlab
from support.paths import CONF

HAVING_A_CONFIG = [name for name in COMMANDS if (CONF / f"{name}.yaml").is_file()]


def keys_to_set(config: DictConfig, prefix: str = "") -> set[str]:
    """The keys of a command's config that its user sets: not those that follow from others, or that genlab sets."""
    found = set()
    for key, value in config.items_ex(resolve=False):
        name = f"{prefix}{key}"
        if OmegaConf.is_dict(value) and value:
            found |= keys_to_set(value, f"{name}.")
        elif not OmegaConf.is_interpolation(config, str(key)) and key not in ("defaults", "_target_"):
            found.add(name)
    return found


@pytest.mark.parametrize("command", HAVING_A_CONFIG)
def test_every_option_of_a_command_is_described(command: str) -> None:
    shown = own_help(command, ["--flag"])
    assert shown is not None
    config = OmegaConf.load(CONF / f"{command}.yaml")
    described = set(re.findall(r"^  ([\w.]+)  ", shown, re.MULTILINE))
    undescribed = keys_to_set(config) - described - {"run_id", "run_name"}
    assert undescribed == set()
    assert shown.startswith(f"genlab {command} ")
    assert "as flags too: --flag" in shown
    assert max(map(len, shown.splitlines())) <= 120


def test_the_help_begins_with_the_commands_own_words(genlab: Genlab) -> None:
    for command, words in {
        "sample": (
            "mode=NAME:",
            "  traverse         A row of images for each of the n most active",
            "  prompt  ",
        ),
        "compare": (
            "--html, --sort",
            "  baseline  setting that the others are",
            "genlab compare FOLDER...",
        ),
        "evaluate": ("real=DIR fake=DIR", "  metrics.num_samples", "metrics/features=NAME:", "  inception"),
    }.items():
        result = genlab(command, "--help")
        assert result.code == 0, result.err
        own, _, hydras = result.out.partition("Every group with its options")
        assert [part for part in words if part not in own] == []
        assert "== Configuration groups ==" in hydras
        assert "== Config ==" in hydras


def test_help_stands_anywhere_on_the_command_line(genlab: Genlab) -> None:
    result = genlab("sample", "some/run", "n=3", "--help")
    assert result.code == 0, result.err
    assert result.out.startswith("genlab sample FOLDER")
    assert "run: some/run" in result.out


def test_all_modes_have_words() -> None:
    shown = own_help("sample", []) or ""
    modes = {path.stem for path in (CONF / "mode").glob("*.yaml")}
    assert modes == set(re.findall(r"^  (\w+) +\S", shown[shown.index("mode=NAME:") :], re.MULTILINE))


def test_words_of_keys_come_from_the_comments() -> None:
    text = (
        "# genlab x: does\n# more\ndefaults:\n  - _self_\n\na: 1 # what a is # and more\nb: ???  # a folder\nnone: 2\n"
        "part:\n  # what c is,\n  # in two lines\n  c: 3 # chosen: as in the literature\n  d: [1, 2] # what d is\n"
    )
    assert head(text, is_whole=True) == "genlab x: does\nmore"
    assert head("# @package view\n# One thing, of\n# 2.5 parts. And more\n") == "One thing, of 2.5 parts"
    assert dict(own_options(text, "x.")) == {
        "x.a": "what a is # and more (default: 1)",
        "x.b": "a folder (to be given)",
        "x.part.c": "what c is, in two lines (default: 3)",
        "x.part.d": "what d is (default: [1, 2])",
    }
    assert own_help("reproduce", []) is None


def test_every_command_has_its_flags() -> None:
    assert FLAGS.keys() == {"", *COMMANDS}
