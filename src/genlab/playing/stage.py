"""What the panels of the page share: the run, one computation at a time, files to take away, and command lines."""

import json
import shlex
import tempfile
import threading
import zipfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from genlab.composition.free_text import QUOTED, escaped, quoted
from genlab.composition.sampling import sampling_settings
from genlab.errors import InputError
from genlab.runs.loading import Run

KEPT = 50  # files to take away that stay on the disk while the page is open


class Stage:
    """A run that is played with.

    Args:
        run: opened run.
        folder: empty folder for the files that the page gives away.
        opened_with: keys of ``genlab sample`` by which the run was opened, such as ``{"weights": "raw"}``.
    """

    def __init__(self, run: Run, folder: Path, opened_with: Mapping[str, object]) -> None:
        self.run, self.folder, self.opened_with = run, folder, dict(opened_with)
        self._one_at_a_time = threading.Lock()
        self._given_away: list[Path] = []

    @cached_property
    def missing_data(self) -> str | None:
        """Why the run's data cannot be used, in a line; None if it is there."""
        try:
            len(self.run.data.splits["test"])
        except InputError as error:
            return str(error)
        return None

    @contextmanager
    def using(self, changed: Mapping[str, Any]) -> Iterator[None]:
        """Let the model have other sampling settings inside the context, and nobody else use it.

        Args:
            changed: settings that differ from those that the model was opened with.

        Raises:
            InputError: if the model has no such setting, or a value is out of range.
        """
        model = self.run.model
        with self._one_at_a_time:
            before = model.sampling
            model.sampling = sampling_settings(model, changed)
            try:
                yield
            finally:
                model.sampling = before

    def command(self, keys: Mapping[str, object], changed: Mapping[str, Any]) -> str:
        """Write the command line of ``genlab sample`` that makes the same picture, or text.

        Args:
            keys: keys of the command with their values.
            changed: sampling settings that differ from those that the model was opened with.
        """
        sampling = {f"sampling.{name}": value for name, value in changed.items()}
        words = [f"{key}={_spelled(key, value)}" for key, value in {**keys, **sampling, **self.opened_with}.items()]
        return shlex.join(["genlab", "sample", str(self.run.folder.path), *words])

    def packed(self, name: str, about: Mapping[str, Any], write: Callable[[Path], Collection[Path]]) -> str:
        """Put files into an archive to take away, with ``settings.json`` beside them.

        Args:
            name: name of the files without suffix.
            about: settings that the files were made with.
            write: function that writes the files, given their path without suffix, and returns their paths.

        Returns:
            Path of the archive.
        """
        place = Path(tempfile.mkdtemp(dir=self.folder))
        archive = place / f"{name}.zip"
        with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
            for path in write(place / name):
                packed.write(path, path.name)
                path.unlink()
            packed.writestr("settings.json", json.dumps(about, indent=2, default=str) + "\n")
        self._given_away.append(archive)
        for old in self._given_away[:-KEPT]:
            old.unlink(missing_ok=True)
        del self._given_away[:-KEPT]
        return str(archive)


def _spelled(key: str, value: object) -> str:
    """Spell a value for the command line of genlab, before the shell's quotes."""
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{','.join(map(str, value))}]"
    text = str(value)
    # A prompt that looks like Hydra's quotes, or like null, is meant as it is.
    return quoted(escaped(text)) if key == "prompt" and (text == "null" or QUOTED.fullmatch(text)) else text


def whole(name: str, given: Any, lowest: int) -> int:
    """Read a whole number from a field of the page.

    Args:
        name: name of the number, for the error.
        given: content of the field.
        lowest: smallest allowed number.

    Raises:
        InputError: if the field is empty, or the number is too small or no whole one.
    """
    if given is None or given != int(given) or given < lowest:
        raise InputError(f"{name}: give a whole number, {lowest} or more")
    return int(given)
