"""``genlab export RUN``: hand a run over, as a folder that opens by itself."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import path_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors


def main() -> None:
    """Run the command on this process's command line, with the path of the run rewritten as Hydra's override."""
    path_as("run")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="export")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    export(cfg)


def export(cfg: DictConfig) -> Path:
    """Write a run as a folder with its weights, config, figures and model card, and push it to the Hub if asked.

    Args:
        cfg: composed config of ``genlab export``.

    Returns:
        The folder that was written.

    Raises:
        InputError: if the run cannot be opened, lacks a form that was asked for, or would overwrite something.
    """
    from pydantic import PositiveInt

    from genlab.composition.building import plain
    from genlab.composition.trust import own
    from genlab.errors import InputError
    from genlab.exporting import folder, hub
    from genlab.machine.devices import tune_processor
    from genlab.machine.outcome import tell
    from genlab.machine.process import keep_freed_memory
    from genlab.runs.given import given_runs
    from genlab.runs.loading import Weights, load

    own(cfg)
    config = plain(
        cfg,
        run=str,
        form=folder.Form | list[folder.Form],
        output=str | None,
        overwrite=bool,
        checkpoint=str,
        weights=Weights,
        num_samples=PositiveInt,
        push=str | None,
        private=bool,
    )
    runs = given_runs([config["run"]])
    if len(runs) > 1:
        raise InputError(f"{config['run']} has {len(runs)} runs: give one of them, such as {runs[0]}")
    forms = config["form"] if isinstance(config["form"], list) else [config["form"]]
    target = Path(config["output"] or Path(runs[0], "export"))
    folder.check_target(target, config["overwrite"])
    client = None if config["push"] is None else hub.check_login(config["push"])
    keep_freed_memory()
    tune_processor()
    run = load(runs[0], config["checkpoint"], config["weights"], "cpu")
    about = folder.export(run, forms, target, config["num_samples"])
    if (graph := about.get("onnx")) is not None:
        print(f"{target / graph['file']}: differs from PyTorch by {graph['max_difference']:.1e} at most")
    print(target)
    tell(run=str(run.folder.path), folder=str(target), export=about)
    if client is not None:
        address = hub.push(client, target, config["push"], config["private"])
        tell(address=address)
        print(address)
    return target


if __name__ == "__main__":
    main()
