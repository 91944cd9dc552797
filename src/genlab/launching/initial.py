"""The parts of a run with the weights that it begins with: its own, or those of the run that ``init`` names."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from genlab.errors import InputError
from genlab.models.base import GenerativeModel
from genlab.runs.folder import RunFolder
from genlab.runs.resuming import trained_on
from genlab.runs.stored_weights import stored_weights, weights_file, weights_sha256
from genlab.training.initial_weights import Match, take_over
from genlab.training.parts import Parts, assemble

FILE = "init.json"  # of a run folder: what matched and what did not
_ABOUT = ("init_weights", "init_sha256")
SHOWN = 12  # rows about what did not match that are printed


def built(config: dict[str, Any], found: tuple[Path, Mapping[str, Any]] | None = None) -> Parts:
    """Build the parts of a run; nothing is written.

    A run that goes on from a checkpoint has everything in it, and does not look at the run that ``init`` names.

    Args:
        config: config of the run, as plain values.
        found: path and content of the checkpoint that the run goes on from; None for a run that begins.

    Raises:
        InputError: as :func:`genlab.training.parts.assemble`, and if the weights that the run is to start from cannot
            be read, are others than when it was begun, or do not fit the model at all.
    """
    if config.get("init") is None and (useless := [key for key in _ABOUT if config.get(key) is not None]):
        raise InputError(f"{useless[0]}={config[useless[0]]} is about the weights of another run: give init=RUN, too")
    if found is not None or config.get("init") is None:
        return assemble(config, trained_on(found))
    return assemble(config, None, lambda model: _start(model, config))


def _start(model: GenerativeModel, config: Mapping[str, Any]) -> Match:
    path = Path(config["init"])
    try:
        file = path if path.is_file() else _newest_weights(RunFolder.open(path))
        stored = stored_weights(file, config.get("init_weights") or "auto", model)
    except InputError as error:
        raise InputError(f"init={config['init']}: {error}") from error
    sha256 = weights_sha256(stored.weights)
    if (begun := config.get("init_sha256")) not in (None, sha256):
        raise InputError(
            f"init={config['init']}: its weights are others than those with init_sha256={begun}, from which the run is "
            "to start; put them back, or begin a new run"
        )
    return take_over(model, stored.weights, str(stored.path), stored.kind, sha256)


def _newest_weights(folder: RunFolder) -> Path:
    """Give the file of a run's best weights, or of its last ones if it keeps no best ones."""
    best = weights_file(folder, "best")
    return best if best.is_file() else weights_file(folder, "last")


def shown(match: Match) -> list[tuple[str, str]]:
    """Give the rows that a beginning run prints about its start: a title and a text each."""
    rows = [("init", match.line)]
    rows += [(f"  {what}", f"{name}: {how}") for what, name, how in match.rows()[:SHOWN]]
    if (more := len(match.rows()) - SHOWN) > 0:
        rows.append(("", f"and {more} more, in {FILE}"))
    return rows
