"""No measured figure stands on a page without its record: what is outside of generated blocks is on a list."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest
import yaml

from genlab.reproduction.pages import pages, without_blocks
from support.paths import ROOT

ALLOWED: Mapping[str, Sequence[Mapping[str, str]]] = yaml.safe_load(
    (ROOT / "tests/support/figures.yaml").read_text(encoding="utf-8")
)
REASONS = {"definition", "published", "record"}
UNITS = "s|ms|seconds?|minutes?|hours?|times|%|nats|bits/dim|images/s|tokens/s"
FIGURE = re.compile(rf"\d[\d,]*\.\d+|\d[\d,]*(?:\.\d+)? ?(?:{UNITS})(?![\w/])")
# Code, comments, targets of links and numbers of papers are no figures.
LEFT_OUT = (
    (r"^(```|    ```).*?^\1$", re.DOTALL | re.MULTILINE),
    (r"(?<=\n\n)(?:    [^\n]*\n)+", re.NOFLAG),
    (r"`[^`]*`", re.NOFLAG),
    (r"<!--.*?-->", re.DOTALL),
    (r"\]\([^)]*\)", re.NOFLAG),
    (r"\b\d{4}\.\d{4,5}\b", re.NOFLAG),
)


def written_by_hand(text: str) -> str:
    """Give the text of a page that a person has written, without code and links, on one line."""
    text = without_blocks(text)
    for pattern, flags in LEFT_OUT:
        text = re.sub(pattern, " … ", text, flags=flags)
    return " ".join(text.split())


def unlisted(text: str, allowed: Sequence[Mapping[str, str]]) -> list[str]:
    """The figures on a page that no entry of the list covers, each with the words around it."""
    text = written_by_hand(text)
    for entry in allowed:
        text = text.replace(entry["text"], " … ")
    return [text[max(0, found.start() - 40) : found.end() + 20] for found in FIGURE.finditer(text)]


@pytest.mark.parametrize("path", pages(ROOT), ids=lambda path: path.name)
def test_every_figure_is_generated_or_on_the_list(path: Path) -> None:
    allowed = ALLOWED.get(path.relative_to(ROOT).as_posix(), [])
    assert not unlisted(path.read_text(encoding="utf-8"), allowed)


def test_the_text_of_notebooks_has_no_figures() -> None:
    for path in (ROOT / "notebooks").glob("*.ipynb"):
        cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
        text = "\n\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "markdown")
        assert text
        assert not unlisted(text, []), path.name


def test_every_entry_of_the_list_stands_on_its_page_with_a_reason() -> None:
    for name, entries in ALLOWED.items():
        text = written_by_hand((ROOT / name).read_text(encoding="utf-8"))
        for entry in entries:
            assert entry["text"] in text, f"{name}: {entry['text']} stands there no more"
            assert FIGURE.search(entry["text"]), f"{entry['text']} needs no entry"
            (reason,) = entry.keys() - {"text"}
            assert reason in REASONS
            assert len(entry[reason]) > 5


@pytest.mark.parametrize(
    "line",
    [
        "It reaches 83.96 nats.",
        "The FID is 3.69 here.",
        "It takes 41 s on one core.",
        "It is 12 times as fast.",
        "14 to 48 % of them are far away.",
        "It trains 14,000 images/s.",
        "| `mnist/vae` | 1.25 |",
    ],
)
def test_a_figure_that_is_typed_by_hand_is_found(line: str) -> None:
    assert unlisted(f"Before.\n\n{line}\n\nAfter.", [])
    assert not unlisted(f"<!-- runs: x | fid -->\n{line}\n<!-- /runs -->\n", [])
    assert not unlisted(f"```\n{line}\n```\n", [])


def test_settings_in_code_and_numbers_of_papers_are_no_figures() -> None:
    assert not unlisted(
        "Use `lr=0.1` ([1712.04086](https://arxiv.org/abs/1712.04086), [a](b-1.5.md)) for 3 epochs.", []
    )
    (found,) = unlisted("It was 3.5 there, and 4.5 here.", [{"text": "3.5 there"}])
    assert "4.5 here" in found
