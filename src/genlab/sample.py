"""``genlab sample run=FOLDER n=64``: draw from a run's checkpoint; needs the folder and nothing else."""

import hydra
from omegaconf import DictConfig

from genlab.composition import conf_dir, one_line_errors


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="sample")
@one_line_errors
def main(cfg: DictConfig) -> None:
    sample(cfg)


def sample(cfg: DictConfig) -> None:
    """Write ``n`` samples as a picture and an array; the same ones for the same seed."""
    from pathlib import Path

    import torch

    from genlab.composition import plain
    from genlab.errors import InputError
    from genlab.metrics.measure import draw
    from genlab.runs.evaluation import with_progress
    from genlab.runs.loading import Weights, load
    from genlab.runs.pictures import picture, save_array, save_png

    config = plain(
        cfg,
        run=str,
        checkpoint=str,
        weights=Weights,
        n=int,
        seed=int,
        temperature=float,
        classes=int | list[int] | None,
    )
    n, classes = config["n"], config["classes"]
    if n < 1:
        raise InputError(f"n={n}: give a number of samples, 1 or more")
    if config["temperature"] <= 0:
        raise InputError(f"temperature={config['temperature']}: give a number above 0")
    run = load(config["run"], config["checkpoint"], config["weights"], config["device"])
    model = run.model
    y = None
    if classes is not None:
        if model.num_classes is None:
            raise InputError("classes=...: this run's model is not class-conditional")
        chosen = classes if isinstance(classes, list) else [classes]
        y = torch.tensor([int(chosen[i % len(chosen)]) for i in range(n)])
    with with_progress("samples", n) as advance:
        samples = draw(model, n, seed=config["seed"], y=y, temperature=config["temperature"], advance=advance)
    target = Path(config["output"] or run.folder.samples / f"seed{config['seed']}-n{n}.png")
    if target.suffix != ".png":
        raise InputError(f"output={target}: give the name of a .png file")
    target.parent.mkdir(parents=True, exist_ok=True)
    save_png(picture(samples, None if len(model.shape) == 3 else run.data.first("test", n)), target)
    save_array(samples, target.with_suffix(".npy"))
    print(f"{target}\n{target.with_suffix('.npy')}")


if __name__ == "__main__":
    main()
