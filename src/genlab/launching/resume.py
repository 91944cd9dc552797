"""Continue a run: compose its config again from its overrides, and check that it has not changed."""

import shutil
from typing import Any

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf

from genlab.composition.building import plain
from genlab.composition.configs import composed
from genlab.composition.path_keys import paths_in
from genlab.composition.renamed_groups import with_new_names
from genlab.errors import InputError
from genlab.launching.begin import begin
from genlab.launching.options import TYPES, absolute_paths, overrides
from genlab.launching.processes import start
from genlab.machine.files import write_atomically
from genlab.runs.config import below
from genlab.runs.folder import CONFIG, STATUS, SUMMARY, RunFolder
from genlab.runs.moved import current
from genlab.runs.resuming import check_not_running, check_unchanged

# Keys whose values are relative to the folder, or chosen for the device, that the run was first started on; and so are
# the paths of its data.
OF_THE_FIRST_START = (
    "paths.data_dir",
    "paths.output_dir",
    "dataset.source.header",  # of tables: a run of an earlier version keeps the rule by which it read its file
    "trainer.precision",
)


def resume(folder: RunFolder, changes: list[str]) -> float | None:
    """Continue a run from its newest checkpoint.

    Args:
        folder: folder of the run.
        changes: overrides to apply after the run's own.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: if the run is done or is running, or if its config has changed where it must not.
    """
    check_not_running(folder)
    status = folder.read_json(STATUS)
    if "overrides" not in status:
        raise InputError(f"{folder.path} cannot be resumed: {STATUS} does not say what it was started with")
    saved: Any = current(OmegaConf.to_container(OmegaConf.load(folder.path / CONFIG)))
    around = HydraConfig.instance().cfg  # config of the sweep, if this run is a job of one; composing replaces it
    cfg = composed("train", [*status["overrides"], *changes])
    HydraConfig.instance().cfg = around
    changed = {change.partition("=")[0].lstrip("+") for change in changes}
    for key in OF_THE_FIRST_START:
        if key not in changed and (value := OmegaConf.select(OmegaConf.create(saved), key)) is not None:
            OmegaConf.update(cfg, key, value)
    still = dict(paths_in(OmegaConf.to_container(cfg, resolve=False)))
    for key, value in paths_in(saved):
        if key in still and not any(below(key, [name.replace("/", ".")]) for name in changed):
            OmegaConf.update(cfg, key, value)
    cfg.run_dir = str(folder.path)
    for key in ("run_id", "run_name", "group"):
        cfg[key] = saved[key]
    absolute_paths(cfg)
    config = current(plain(cfg, **TYPES))  # an override may name a class by an old import path
    longer = check_unchanged(folder, saved, config)
    if status["status"] == "done" and not longer:
        raise InputError(f"{folder.path} is done: a larger trainer.max_epochs or budget.images would train it on")
    write_atomically(folder.path / CONFIG, OmegaConf.to_yaml(OmegaConf.create(config)))
    resumed = [*status.get("resumed", []), {"changes": changes, "after": status["status"]}]
    folder.set_status("running", resumed=resumed, **({"trained": False} if longer else {}))
    return start(folder, config, None)


def continue_job(cfg: DictConfig, folder: RunFolder) -> float | None:
    """Continue a job of a sweep that is launched again: return its result if it is done, resume it if it is not.

    Args:
        cfg: composed config of the job.
        folder: folder of the job.

    Returns:
        The best value of the monitored metric, or None if there is none.

    Raises:
        InputError: if the folder holds a different job.
    """
    status = folder.read_json(STATUS)
    if with_new_names(status.get("overrides", [])) != with_new_names(overrides()):
        raise InputError(
            f"{folder.path} is another job than this one: it was started with {' '.join(status.get('overrides', []))}"
        )
    if status.get("begun") is False:  # its config was wrong, so the folder holds nothing to keep
        shutil.rmtree(folder.path)
        return begin(cfg, folder.path)
    if status["status"] == "done":
        best = folder.read_json(SUMMARY)["monitor"]["best"]
        return None if best is None else float(best)
    return resume(folder, [])
