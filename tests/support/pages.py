"""What the pages tell their readers to type: commands and snippets, and the marks of those that are not just run.

A mark is an HTML comment in the line above a block, which no reader of the page sees:

- ``<!-- long -->``: its trainings are run with ``debug=fast_dev_run``, in the slow tests. A check of a recipe, which
  trains it anew, is left to ``make check-baseline``.
- ``<!-- needs gpu -->`` (or ``network`` or ``cluster``): its commands are checked and not run.

``<!-- needs gpu | trainer=gpu -->`` marks only the lines of the block that have the text behind the bar. What has no
mark is run.
"""

import re
import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from support.paths import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
MARKS = ("long", "needs gpu", "needs network", "needs cluster")
SHELL = ("", "bash")
# Languages of blocks that nobody types: what is printed, and files that the text describes.
SHOWN = ("text", "yaml", "json")
# Programs of others in blocks of commands, of which this project can say nothing.
OTHERS = ("source", "export", "wandb", "scancel", "squeue", "cat", "srun", "git")
_BLOCK = re.compile(
    r"(?P<marks>(?:^<!-- (?![a-z]+: )(?!/)[^\n]*? -->\n)*)^```(?P<language>\w*)\n(?P<content>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
_MARK = re.compile(r"^<!-- (?P<name>[^|\n]+?)(?: \| (?P<words>[^\n]+?))? -->$", re.MULTILINE)
_INNER = re.compile(r'^eval "\$\((?P<inner>genlab .*?)\)"')


@dataclass(frozen=True)
class Command:
    """A command of a page.

    Args:
        page: name of the page without its ending.
        environment: variables that are set for this command alone.
        program: first word, such as ``genlab``, ``make`` or ``pip``.
        words: further words, without comments, pipes and redirections.
        mark: mark of its line, or None if it is run as it stands.
    """

    page: str
    environment: tuple[tuple[str, str], ...]
    program: str
    words: tuple[str, ...]
    mark: str | None

    def __str__(self) -> str:
        return f"{self.page}: {self.program} {' '.join(self.words)}"


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Args:
        page: page.
        language: language behind the fence; empty for none.
        content: lines of the block.
        marks: names of its marks, and the text that a line must have to be marked; empty for all lines.
    """

    page: Path
    language: str
    content: str
    marks: tuple[tuple[str, str], ...]

    @property
    def mark(self) -> str | None:
        """Mark of the whole block."""
        return next((name for name, words in self.marks if not words), None)

    def lines(self) -> list[str]:
        """List the commands of the block as they are typed; of a transcript, those behind ``$``."""
        found = [line for line in re.sub(r"\\\n\s*", " ", self.content).splitlines() if line.strip()]
        if any(line.startswith("$ ") for line in found):
            return [line.removeprefix("$ ") for line in found if line.startswith("$ ")]
        return [line for line in found if not line.startswith("#")]

    def commands(self) -> Iterator[Command]:
        """Give the commands of the block."""
        for line in self.lines():
            named = [name for name, words in self.marks if words and words in line]
            assert len(named) < 2, f"{self.page.name}: {line}: several marks"
            yield parsed(line, self.page.stem, named[0] if named else self.mark)


def parsed(line: str, page: str, mark: str | None = None) -> Command:
    """Take a command line apart."""
    if inner := _INNER.match(line):
        line = inner["inner"]
    words = shlex.split(line, comments=True)
    ends = [words.index(word) for word in ("|", "&", "2>") if word in words]
    words = [word.removesuffix(";") for word in words[: min(ends, default=None)] if word != "..."]
    first = next(i for i, word in enumerate(words) if not re.match(r"[A-Z_]+=", word))
    environment = tuple((name, value) for name, _, value in (word.partition("=") for word in words[:first]))
    return Command(page, environment, words[first], tuple(words[first + 1 :]), mark)


def blocks(page: Path) -> list[Block]:
    """List the fenced blocks of a page."""
    found = []
    for block in _BLOCK.finditer(page.read_text(encoding="utf-8")):
        marks = tuple((mark["name"], mark["words"] or "") for mark in _MARK.finditer(block["marks"]))
        found.append(Block(page, block["language"], block["content"], marks))
    return found


def page_commands(page: Path) -> list[Command]:
    """List the commands of a page."""
    return [command for block in blocks(page) if block.language in SHELL for command in block.commands()]


def commands(page: Path) -> list[list[str]]:
    """List the words after ``genlab`` of every command of a page."""
    return [list(command.words) for command in page_commands(page) if command.program == "genlab"]


def snippets(page: Path) -> list[str]:
    """List the blocks of Python of a page."""
    return [block.content for block in blocks(page) if block.language == "python"]


def faults(page: Path) -> list[str]:
    """List what is wrong with the blocks of a page and their marks."""
    found = []
    text = page.read_text(encoding="utf-8")
    for block in blocks(page):
        where = f"{page.name}: {block.content.splitlines()[0] if block.content else ''}"
        if block.language not in (*SHELL, *SHOWN, "python"):
            found.append(f"{where}: {block.language} is no language of a block")
        for name, words in block.marks:
            if name not in MARKS:
                found.append(f"{where}: {name} is no mark; there are {', '.join(MARKS)}")
            elif block.language in SHOWN:
                found.append(f"{where}: nothing here is run")
            elif block.language == "python" and name == "long":
                found.append(f"{where}: long is for trainings on the command line")
            elif words and not any(words in line for line in block.lines()):
                found.append(f"{where}: no line has {words}")
        if block.language in SHELL:
            for command in block.commands():
                if command.program not in ("genlab", "make", "pip", *OTHERS) and not (ROOT / command.program).is_file():
                    found.append(f"{where}: {command.program} is no command; ```text for what is printed")
                if command.program in OTHERS and not command.mark:
                    found.append(f"{where}: {command.program} is nothing that can be run here")
                elif command.mark == "long" and not is_training(command):
                    found.append(f"{where}: long, but {command.program} {' '.join(command.words[:1])} does not train")
    firsts = {name.split()[0] for name in MARKS}
    marked = sum(name.split()[0] in firsts for block in blocks(page) for name, _ in block.marks)
    written = len(re.findall(rf"^<!-- (?:{'|'.join(firsts)})\b", text, re.MULTILINE))
    if marked != written:
        found.append(f"{page.name}: a mark does not stand directly above a block")
    return found


def is_training(command: Command) -> bool:
    """Whether a command trains."""
    trains = command.words[:1] == ("train",) or command.words[:2] == ("reproduce", "--check")
    return command.program == "genlab" and trains and not {"--help", "--cfg"} & {*command.words}
