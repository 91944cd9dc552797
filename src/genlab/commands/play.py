"""``genlab play RUN``: a local page to play with a trained model."""

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import path_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors


def main() -> None:
    """Run the command on this process's command line, with the path of the run rewritten as Hydra's override."""
    path_as("run")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="play")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    play(cfg)


def play(cfg: DictConfig) -> None:
    """Serve a page on this machine that draws what the model of a run can draw, until Ctrl-C.

    Args:
        cfg: composed config of ``genlab play``.

    Raises:
        InputError: if the run cannot be opened or has no weights yet, Gradio is missing, or the port is in use.
    """
    from genlab.composition.building import build, plain
    from genlab.composition.named_parts import named
    from genlab.composition.trust import own
    from genlab.errors import InputError
    from genlab.machine.devices import tune_processor
    from genlab.machine.process import keep_freed_memory
    from genlab.playing.server import check_gradio, serve
    from genlab.runs.given import given_runs
    from genlab.runs.loading import Weights, load

    trusted = cfg.trust
    own(cfg)
    config = plain(cfg, run=str, port=int, checkpoint=str, weights=Weights, device=str)
    check_gradio()
    runs = given_runs([config["run"]])
    if len(runs) > 1:
        raise InputError(f"{config['run']} has {len(runs)} runs: give one of them, such as {runs[0]}")
    panels = [build(node, f"panels.{name}") for name, node in named(config["panels"])]
    keep_freed_memory()
    tune_processor()
    run = load(runs[0], config["checkpoint"], config["weights"], config["device"])
    _ = run.model  # its weights are read, or refused in a line, before there is a page
    usual = {"checkpoint": "best", "weights": "auto", "device": "auto", "trust": []}
    given = {**config, "trust": list(trusted) if trusted else []}
    serve(run, panels, config["port"], {key: given[key] for key in usual if given[key] != usual[key]})


if __name__ == "__main__":
    main()
