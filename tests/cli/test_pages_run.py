"""The commands and snippets of the pages are run, each page in a folder that has what it takes for granted."""

import builtins
import re
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import pytest
from omegaconf import DictConfig

from genlab.commands import called
from genlab.composition.command_line import spelled
from genlab.composition.configs import composed
from genlab.composition.from_python import composed_by
from genlab.reproduction import jobs
from support.cifar10_files import write_cifar10
from support.command import Genlab, Result
from support.page_commands import one_job
from support.page_runs import ENDED, FEW, PageRuns, smallest
from support.pages import PAGES, Command, blocks, page_commands, snippets

FILES = re.compile(r"`(my_\w+/[\w./]+|my_measure\.py)`:\n\n```(?:python|yaml)\n(.*?)```", re.DOTALL)


@pytest.fixture(scope="session")
def page_runs(tmp_path_factory: pytest.TempPathFactory) -> PageRuns:
    return PageRuns(tmp_path_factory.mktemp("page_runs"))


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> None:
    """Press Ctrl-C as soon as a command says that it serves a page."""

    def said(*values: object, **options: object) -> None:
        builtins.print(*values, **options)  # type: ignore[call-overload]
        if str(values[0]).startswith("page: "):
            raise KeyboardInterrupt

    for module in ("genlab.playing.server", "genlab.comparison.watching"):
        monkeypatch.setattr(f"{module}.print", said, raising=False)


@pytest.fixture
def reader(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab, page_runs: PageRuns, mnist_root: str, served: None
) -> "Reader":
    data = tmp_path / "data_of_tests"
    write_cifar10(data)
    (data / "MNIST").symlink_to(Path(mnist_root).absolute() / "MNIST")
    monkeypatch.setenv("GENLAB_DATA", str(data))
    folder = tmp_path / "reader"
    folder.mkdir()
    monkeypatch.chdir(folder)
    monkeypatch.setenv("GENLAB_OUTPUTS", str(folder / "outputs"))
    monkeypatch.setattr(jobs, "check_clean", lambda: None)  # whoever tests may have changed files
    return Reader(folder, monkeypatch, genlab, page_runs)


class Reader:
    """Somebody who types what a page says.

    Args:
        folder: folder in which it is typed.
        monkeypatch: for variables of a single command.
        genlab: the command.
        runs: what stands at the places that pages name.
    """

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab, runs: PageRuns) -> None:
        self.folder, self.monkeypatch, self.genlab, self.runs = folder, monkeypatch, genlab, runs

    def open(self, page: Path) -> None:
        text = page.read_text(encoding="utf-8")
        self.runs.furnish(self.folder, page.stem, text, self.genlab)
        for name, content in FILES.findall(text):
            path = self.folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(content)

    def type(self, command: Command) -> Result:
        """Run a command, and check that it ends as it should."""
        self.runs.call_run(self.folder, command.page, " ".join(command.words), self.genlab)
        words = self._sized(list(command.words), command.mark == "long")
        with self.monkeypatch.context() as patch:
            for name, value in command.environment:
                if name == "PYTHONPATH":
                    patch.syspath_prepend(str(self.folder / value))
                else:
                    patch.setenv(name, value)
            patch.syspath_prepend(str(self.folder))
            if resumed := [word for word in words if word.startswith("sweep.resume=")]:
                self._begin_sweep([word for word in words if word not in resumed], resumed[0].partition("=")[2])
            result = self.genlab(*words)
        serves = command.words[0] == "play" or "--watch" in command.words
        assert result.code == (130 if serves else 0), f"genlab {' '.join(words)}\n{result.err[-1500:]}"
        return result

    def _begin_sweep(self, words: list[str], place: str) -> None:
        """Run the sweep that a command goes on with, and let it stand where the page has it."""
        shutil.rmtree(self.folder / place, ignore_errors=True)
        before = {*self.folder.glob("outputs/*/*")}
        began = self.genlab(*words)
        assert began.code == 0, began.err[-1500:]
        (made,) = {*self.folder.glob("outputs/*/*")} - before
        made.rename(self.folder / place)

    def _sized(self, words: list[str], long: bool) -> list[str]:
        """Give the words of a command with settings under which it takes little time."""
        if {"--help", "--cfg", "--list"} & {*words}:
            return words
        kind = "prune" if words[:2] == ["runs", "prune"] else words[0]
        if kind != "train":
            small = []
            if kind == "benchmark":
                config = composed("benchmark", [word for word in words[1:] if not word.startswith("-")])
                small = smallest(config, words)
            if "--watch" in words:
                words = [*words, "port=0"]
            if kind == "evaluate" and any(word.startswith("real=") for word in words):
                return words
            ended = [
                word
                for word in ENDED.get(kind, ())
                if word != "benchmark.rounds=1" or "benchmark.rounds=0" not in words
            ]
            return [*words, *small, *ended]
        return self._small_training(words, long)

    def _small_training(self, words: list[str], long: bool) -> list[str]:
        if any(word.startswith("resume=") for word in words):
            return [*words, "trainer.max_epochs=2"]
        searches = any("optuna" in word or "experiment=search" in word for word in words)
        if "-m" in words and not searches:
            words = ["train", "-m", *one_job(word for word in words[1:] if word != "-m")]
        config_words = one_job(w for w in words[1:] if not w.startswith("-"))
        own = words[words.index("--config-dir") :][:2] if "--config-dir" in words else []
        small: list[str] = []
        if not own:
            config = composed("train", [w for w in config_words if not w.startswith(("sweep.resume=", "sampling."))])
            small = smallest(config, words)
        if "experiment=quickstart" in words:  # a sweep over models: a key of one of them is not the others'
            small = [word for word in small if word.startswith("dataset.")]
        few = [*FEW] if not any(w.startswith("debug=") for w in words) else []
        ended = ["debug=fast_dev_run"] if long else ["trainer.max_epochs=1"]
        if searches:
            ended.append("hydra.sweeper.n_trials=2")
        return [*words[:1], *small, *few, *words[1:], *ended]

    def run_snippets(self, page: Path) -> None:
        """Run the snippets of a page one after the other, each with the names of those before it."""
        self.monkeypatch.setattr(called, "composed_by", self._composed_small)
        self.monkeypatch.setattr(called, "spelled", lambda command, words: spelled(command, self._sized_words(words)))
        self.monkeypatch.syspath_prepend(str(self.folder))
        names: dict[str, object] = {"__name__": "page"}
        for block in blocks(page):
            if block.language == "python" and block.mark is None:
                self.runs.call_run(self.folder, page.stem, block.content, self.genlab)
                exec(compile(block.content, f"{page.name}: a snippet", "exec"), names)

    def _composed_small(self, command: str, overrides: Iterable[str]) -> DictConfig:
        return composed_by(command, self._sized_words(list(overrides)) if command == "train" else overrides)

    def _sized_words(self, words: Sequence[str]) -> list[str]:
        return self._small_training(["train", *words], long=False)[1:]


def typed(page: Path) -> Iterator[Command]:
    """Give the commands of a page that this project can run."""
    return (c for c in page_commands(page) if c.program == "genlab" and not str(c.mark).startswith("needs"))


@pytest.mark.parametrize("page", [p for p in PAGES if any(c.mark is None for c in typed(p))], ids=lambda p: p.stem)
def test_the_commands_of_a_page_run(page: Path, reader: Reader) -> None:
    reader.open(page)
    for command in typed(page):
        if command.mark is None:
            reader.type(command)


@pytest.mark.parametrize("page", [p for p in PAGES if snippets(p)], ids=lambda p: p.stem)
def test_the_snippets_of_a_page_run(page: Path, reader: Reader) -> None:
    reader.open(page)
    reader.run_snippets(page)


@pytest.mark.slow  # make test-pages
@pytest.mark.parametrize("page", [p for p in PAGES if any(c.mark == "long" for c in typed(p))], ids=lambda p: p.stem)
def test_the_trainings_of_a_page_run(page: Path, reader: Reader) -> None:
    reader.open(page)
    for command in typed(page):
        if command.mark == "long" and command.words[0] == "train":
            reader.type(command)
