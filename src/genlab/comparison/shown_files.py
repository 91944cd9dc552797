"""Find the pictures, films and texts in the ``samples`` folders of runs, for a page."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from genlab.comparison.gallery import Gallery, read_text
from genlab.comparison.runs import Run

NUM_MOMENTS = 12  # upper limit on the pictures of one kind from one run's training
ALL_MOMENTS = 600  # upper limit on the pictures of samples from the training of all runs together
FEW = 16  # so many runs are shown in large pictures
LARGE, SMALL = 560, 280  # upper limits on the height and width of a picture, in pixels
SAMPLES = "samples"
FILM = " (film)"
FIRST = (SAMPLES, "reconstructions", "interpolations", "neighbours")


@dataclass(frozen=True)
class Shown:
    """A file to show.

    Attributes:
        path: path of the file.
        kind: what it shows, such as ``samples`` or ``reconstructions``.
        images_seen: training images seen before it was written; None if it shows the trained model.
    """

    path: Path
    kind: str
    images_seen: int | None = None


def files_of(samples: Path) -> dict[str, list[Shown]]:
    """Find what there is to show in a run's folder of samples, by kind; what shows the trained model comes last.

    Args:
        samples: the folder, which need not exist.
    """
    found: dict[str, list[Shown]] = {}
    for path in sorted(samples.glob("[!.]*")):
        if (shown := _shown(path)) is not None:
            found.setdefault(shown.kind, []).append(shown)
    for files in found.values():
        files.sort(key=lambda one: (one.images_seen is None, one.images_seen or 0))
    return found


def _shown(path: Path) -> Shown | None:
    stem = path.stem
    if path.name == "final.npy":  # rather the images themselves than a picture of them
        return Shown(path, SAMPLES)
    if path.suffix not in (".png", ".gif", ".txt") or stem == "real":
        return None
    if stem == "final":
        return None if path.with_suffix(".npy").is_file() else Shown(path, SAMPLES)
    if path.suffix == ".gif":
        return Shown(path, "film" if stem == "film" else _name(stem) + FILM)
    if stem.isdecimal():
        return Shown(path, SAMPLES, int(stem))
    if moment := re.fullmatch(r"(.+)-(\d{10})", stem):
        return Shown(path, _name(moment[1]), int(moment[2]))
    return Shown(path, _name(stem))


def _name(stem: str) -> str:
    """Name a kind by its file: what ``genlab sample`` draws without a mode is named by its seed alone."""
    return f"samples {stem}" if stem.startswith("seed") else stem.replace("_", " ")


def pictures_of(runs: Sequence[Run], gallery: Gallery) -> list[dict[str, list[dict[str, Any]]]]:
    """Collect what runs show, as far as there is room: first samples, then everything else, films last.

    Args:
        runs: runs to show, all of them.
        gallery: what encodes the pictures.

    Returns:
        For each run, lists by kind. An entry has ``images_seen``, which is None for the trained model, and either the
        address of a picture, ``src``, or a ``text``.
    """
    files = [files_of(run.folder.samples) for run in runs]
    kinds = sorted({kind for of_run in files for kind in of_run}, key=_place)
    side = LARGE if len(runs) <= FEW else SMALL
    found: list[dict[Shown, dict[str, Any]]] = [{} for _ in runs]
    for kind, num in _in_turn(kinds, len(runs)):
        for own, of_run in zip(found, files, strict=True):
            for one in _chosen(of_run.get(kind, ()), num):
                if one not in own and (content := _content(one, gallery, side)) is not None:
                    own[one] = {"images_seen": one.images_seen, **content}
    return [
        {kind: shown for kind in kinds if (shown := [own[one] for one in of_run.get(kind, ()) if one in own])}
        for own, of_run in zip(found, files, strict=True)
    ]


def _in_turn(kinds: Sequence[str], num_runs: int) -> Iterator[tuple[str, int]]:
    """Iterate over kinds, each with the number of pictures from one run's training.

    The newest pictures of every run and kind come before what training looked like, and films last.
    """
    films = [kind for kind in kinds if _is_film(kind)]
    pictures = [kind for kind in kinds if not _is_film(kind)]
    moments = ALL_MOMENTS // max(1, num_runs)
    yield from ((kind, 1) for kind in pictures)
    yield from ((kind, min(NUM_MOMENTS, max(1, moments if kind == SAMPLES else moments // 4))) for kind in pictures)
    yield from ((kind, 1) for kind in films)


def _place(kind: str) -> tuple[bool, int, str]:
    """Give a sort key that puts the most telling kinds first, and films last."""
    return _is_film(kind), FIRST.index(kind) if kind in FIRST else len(FIRST), kind


def _is_film(kind: str) -> bool:
    return kind == "film" or kind.endswith(FILM)


def _chosen(files: Sequence[Shown], num: int) -> list[Shown]:
    """Choose evenly spaced files of training, from first to last (of one, the last), and those of the trained model."""
    during = [one for one in files if one.images_seen is not None]
    if len(during) > num:
        at = np.linspace(0, len(during) - 1, num) if num > 1 else np.array([len(during) - 1])
        during = [during[i] for i in at.round().astype(int)]
    return [*during, *(one for one in files if one.images_seen is None)]


def _content(one: Shown, gallery: Gallery, side: int) -> dict[str, str] | None:
    if one.path.suffix == ".txt":
        text = read_text(one.path)
        return None if text is None else {"text": text}
    address = gallery.film(one.path, side) if one.path.suffix == ".gif" else gallery.picture(one.path, side)
    if address is None and one.path.suffix == ".npy":  # an array of something else, which its picture shows
        address = gallery.picture(one.path.with_suffix(".png"), side)
    return None if address is None else {"src": address}
