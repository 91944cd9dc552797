"""What the pages tell their readers to type."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

from support.paths import ROOT

PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
_FENCE = re.compile(r"^```(?P<language>\w*)\n(?P<content>.*?)^```", re.MULTILINE | re.DOTALL)
_COMMAND = re.compile(r"^(?:\$ )?(?:[A-Z_]+=\S+ )*genlab +(?P<words>.*)$", re.MULTILINE)


def commands(page: Path) -> Iterator[list[str]]:
    """Give the words after ``genlab`` of every command in the blocks of a page, without comments and pipes."""
    for block in _FENCE.finditer(page.read_text(encoding="utf-8")):
        if block["language"] in ("", "bash"):
            joined = re.sub(r"\\\n\s*", " ", block["content"])
            for found in _COMMAND.finditer(joined):
                words = shlex.split(found["words"], comments=True)
                ends = [words.index(word) for word in ("|", "&", "2>") if word in words]
                yield [word for word in words[: min(ends, default=None)] if word != "..."]


def snippets(page: Path) -> list[str]:
    """List the blocks of Python of a page."""
    found = _FENCE.finditer(page.read_text(encoding="utf-8"))
    return [block["content"] for block in found if block["language"] == "python"]
