"""Facts from the comment at the top of a config: what the config is, where it is from, how large a data set is."""

import re
from dataclasses import dataclass

_ARXIV = r"arXiv:\d{4}\.\d{4,5}"
# "What it is: Title of the Paper, arXiv:1234.56789", or "... Title of the Paper (Authors, 2019)".
_PAPER = re.compile(rf"[^:]+: (?P<title>[^:].*?)(?:, (?P<arxiv>{_ARXIV})| \((?P<by>[^()]*\b(?:19|20)\d\d)\))")
_SOURCE = re.compile(rf"({_ARXIV})|\(([^()]*\b(?:19|20)\d\d)\)")
_SIZES = re.compile(r"[\d,]+(?: %)? train\b.*[\d,]+(?: %)? (?:val|test)\b")


@dataclass(frozen=True)
class Paper:
    """A paper that a config names.

    Attributes:
        title: title of the paper.
        arxiv: its number on arXiv, such as ``"1312.6114"``; None if it is not there.
        by: authors, perhaps the venue, and year; None if the number says it all.
    """

    title: str
    arxiv: str | None = None
    by: str | None = None

    def __str__(self) -> str:
        return f"{self.title}, arXiv:{self.arxiv}" if self.arxiv else f"{self.title} ({self.by})"


def comment_of(text: str) -> str:
    """Give the comment at the top of a config as one line, without Hydra's ``# @package``.

    Args:
        text: content of the file.
    """
    lines = []
    for line in text.splitlines():
        if not line.startswith("#"):
            break
        if not line.startswith("# @"):
            lines.append(line.lstrip("# ").rstrip())
    return " ".join(lines).strip()


def what_it_is(comment: str) -> str:
    """Give the beginning of a comment, up to its first colon or the end of its first sentence."""
    return re.split(r": |\. |\.?$", comment, maxsplit=1)[0]


def paper_in(comment: str) -> Paper | None:
    """Find the paper in a comment such as ``What it is: Title, arXiv:1234.56789`` or ``What it is: Title (Who, 2019)``.

    Args:
        comment: comment at the top of a config, as one line.
    """
    if (found := _PAPER.match(comment)) is None:
        return None
    arxiv = found["arxiv"]
    return Paper(found["title"], arxiv.removeprefix("arXiv:") if arxiv else None, found["by"])


def sources_in(text: str) -> list[str]:
    """List the sources that a text names, such as ``arXiv:1705.07761`` or ``Larochelle and Murray, 2011``.

    Args:
        text: comment or docstring.
    """
    flowing = " ".join(text.split())
    return list(dict.fromkeys(arxiv or other for arxiv, other in _SOURCE.findall(flowing)))


def sizes_in(comment: str) -> str | None:
    """Find the sizes of a data set's splits in its comment, such as ``55,000 train, 5,000 val, 10,000 test``."""
    found = (_SIZES.search(sentence) for sentence in re.split(r"\. ", comment))
    return next((one[0] for one in found if one is not None), None)
