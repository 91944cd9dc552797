"""Pages whose measured figures are generated: every table lies in a block between two marks.

A block begins with a line ``<!-- KIND: ARGUMENTS -->``, such as ``<!-- results: uci_* static_nade -->``, and ends with
``<!-- /KIND -->``. What makes the content of a kind of block is a function of the arguments.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path

from genlab.errors import InputError
from genlab.machine.files import write_atomically

Generators = Mapping[str, Callable[[str], str]]  # by kind of block: from its arguments to its content in Markdown
BEGIN = re.compile(r"^<!-- (?P<kind>[a-z]+): (?P<arguments>[^\n]*?) -->$", re.MULTILINE)
BLOCK = re.compile(rf"(?P<begin>{BEGIN.pattern}\n).*?(?P<end>^<!-- /(?P=kind) -->$)", re.DOTALL | re.MULTILINE)


def pages(folder: Path) -> list[Path]:
    """List the pages of a checkout that may hold blocks: ``README.md`` and ``docs/*.md``."""
    return [path for path in (folder / "README.md", *sorted((folder / "docs").glob("*.md"))) if path.is_file()]


def blocks(text: str) -> list[tuple[str, str]]:
    """List the kinds and the arguments of all blocks of a page.

    Args:
        text: page in Markdown.

    Raises:
        InputError: if a block has no end.
    """
    found = [(block["kind"], block["arguments"]) for block in BLOCK.finditer(text)]
    for begin in BEGIN.finditer(text):
        if (begin["kind"], begin["arguments"]) not in found:
            raise InputError(f"the block {begin[0]} has no end <!-- /{begin['kind']} --> before another block begins")
    return found


def without_blocks(text: str) -> str:
    """Remove all blocks from a page, so that only what was written by hand remains."""
    return BLOCK.sub("", text)


def with_blocks(text: str, generators: Generators) -> str:
    """Make the content of every block of a page anew.

    Args:
        text: page in Markdown.
        generators: functions that make the content of each kind of block.

    Raises:
        InputError: if a block has no end or is of an unknown kind, or what it is made of is missing.
    """
    blocks(text)

    def filled(found: re.Match[str]) -> str:
        if found["kind"] not in generators:
            raise InputError(f"{found['kind']} is no kind of block; there are {', '.join(generators)}")
        return f"{found['begin']}\n{generators[found['kind']](found['arguments'])}\n{found['end']}"

    return BLOCK.sub(filled, text)


def write_blocks(folder: Path, generators: Generators) -> list[Path]:
    """Rewrite the blocks of all pages of a checkout, and return the pages that changed.

    Args:
        folder: folder of the checkout.
        generators: functions that make the content of each kind of block.

    Raises:
        InputError: if a block cannot be made; the line names the page.
    """
    changed = []
    for path in pages(folder):
        before = path.read_text(encoding="utf-8")
        try:
            after = with_blocks(before, generators)
        except InputError as error:
            raise InputError(f"{path}: {error}") from error
        if after != before:
            write_atomically(path, after)
            changed.append(path)
    return changed
