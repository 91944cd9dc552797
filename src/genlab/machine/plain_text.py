"""Texts of users and of run folders as they may stand on a terminal or in a message."""

import re

# All control characters but tab and line feed, the marks that turn the direction of writing, and the halves of
# surrogate pairs, which stand for bytes of a file's name that are no UTF-8.
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def printable(text: str) -> str:
    """Replace characters that control a terminal, or that cannot be encoded, by their escapes."""
    return _CONTROLS.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


def on_one_line(text: str) -> str:
    """Join the lines of a text, and make it :func:`printable`."""
    return printable(" ".join(line.strip() for line in text.splitlines()).strip())
