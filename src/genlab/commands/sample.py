"""``genlab sample FOLDER n=64``: draw samples from a run's checkpoint, from its folder alone."""

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


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="sample")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    sample(cfg)


def sample(cfg: DictConfig) -> None:
    """Write samples as a picture and an array, or as text; the same seed gives the same samples.

    Args:
        cfg: composed config of ``genlab sample``.

    Raises:
        InputError: if the run cannot be opened, or an option does not apply to its model or data.
    """
    from genlab.errors import InputError
    from genlab.machine.outcome import tell
    from genlab.views.opening import opened
    from genlab.views.write import Write

    run, way, output = opened(cfg)
    if isinstance(way, Write):
        text = Path(output or run.folder.samples / f"{way.name}.txt")
        way.to_terminal(run, text)
        tell(run=str(run.folder.path), files=[str(text)])
        return
    target = Path(output or run.folder.samples / f"{way.name}.png")
    if target.suffix != ".png":
        raise InputError(f"output={target}: give the name of a .png file")
    files = [str(path) for path in way.show(run).save(target, run.modality)]
    tell(run=str(run.folder.path), files=files)
    print("\n".join(files))


if __name__ == "__main__":
    main()
