"""A run that is measured and not kept."""

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from omegaconf import DictConfig

from genlab.composition.building import plain
from genlab.composition.trust import own
from genlab.runs.folder import RunFolder
from genlab.training.parts import check_kind


@contextmanager
def throwaway(cfg: DictConfig, **types: Any) -> Iterator[dict[str, Any]]:
    """Give a run's config as plain values, with a run folder that is removed afterwards.

    Args:
        cfg: composed config of ``genlab train`` or ``genlab benchmark``.
        **types: types of the values that no constructor takes, as for :func:`genlab.composition.building.plain`.

    Raises:
        InputError: if a value is missing or has another type.
    """
    own(cfg)
    with tempfile.TemporaryDirectory() as folder:
        cfg.run_dir, cfg.run_id = str(RunFolder.claim(Path(folder, "run")).path), "benchmark"
        cfg.paths.output_dir = folder  # of the stores of trackers
        check_kind(cfg)
        yield plain(cfg, **types)
