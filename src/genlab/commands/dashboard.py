"""``genlab dashboard FOLDER``: a W&B workspace for the runs of a sweep."""

import sys

import hydra
from omegaconf import DictConfig

from genlab.composition.command_line import flags_as, paths_as
from genlab.composition.configs import conf_dir
from genlab.composition.explaining import one_line_errors


def main() -> None:
    """Run the command on this process's command line, with flags and paths rewritten as Hydra's overrides."""
    sys.argv = ["dry_run=true" if word == "--dry-run" else word for word in sys.argv]
    flags_as("name", "entity")
    paths_as("runs")
    _main()


@hydra.main(version_base="1.3", config_path=conf_dir(), config_name="dashboard")
@one_line_errors
def _main(cfg: DictConfig) -> None:
    dashboard(cfg)


def dashboard(cfg: DictConfig) -> None:
    """Print an outline of the workspace and, unless ``dry_run`` is set, save it to W&B.

    Args:
        cfg: composed config of ``genlab dashboard``.

    Raises:
        InputError: if there are no runs, none was logged to W&B, or nobody is logged in.
    """
    import os
    from pathlib import Path

    from genlab.comparison.runs import read_run
    from genlab.comparison.workspace import outline, plan, workspace
    from genlab.composition.building import plain
    from genlab.errors import InputError
    from genlab.machine.outcome import tell
    from genlab.runs.config import read_config
    from genlab.runs.folder import find_runs

    config = plain(cfg, name=str | None, entity=str | None, dry_run=bool)
    runs = [run for folder in find_runs(config["runs"]) if (run := read_run(folder)).config and not run.is_trial]
    if not runs:
        raise InputError(f"there are no runs in {', '.join(map(str, config['runs']))}")
    configs = [read_config(run.folder) for run in runs]
    name = config["name"] or configs[0].get("group") or Path(config["runs"][0]).resolve().name
    planned = plan(runs, configs, name)
    tell(name=name, runs=[str(run.path) for run in runs])
    entity = config["entity"] or os.environ.get("WANDB_ENTITY") or configs[0]["logger"]["wandb"].get("entity")
    print(outline(planned, entity))
    offline = [run.path for run in runs if any(run.path.glob("wandb/offline-run-*"))]
    if offline:
        parents = {path.parent for path in offline}
        places = [f"{parent}/*" for parent in sorted(parents)] if len(parents) < len(offline) else sorted(offline)
        print(f"\n{len(offline)} of the runs were logged offline; to send them:")
        print("\n".join(f"  wandb sync {place}/wandb/offline-run-*" for place in places))
    if config["dry_run"]:
        return
    address = _save(workspace(planned, entity or _default_entity()))
    tell(address=address)
    print(f"\nsaved: {address}")


def _default_entity() -> str:
    """Give the entity of the logged-in user; raise InputError if W&B cannot be reached or nobody is logged in."""
    import wandb

    from genlab.errors import InputError

    try:
        entity = wandb.Api(timeout=20).default_entity
    except Exception as error:  # wandb has no class for each of: no key, a wrong key, no network
        raise InputError(f"W&B cannot be reached ({str(error).splitlines()[0]}); wandb login, or --dry-run") from error
    if not entity:
        raise InputError("W&B knows no default entity: give one, entity=NAME")
    return str(entity)


def _save(built: object) -> str:
    from genlab.errors import InputError

    try:
        return str(built.save().url)  # type: ignore[attr-defined]
    except Exception as error:
        raise InputError(f"W&B refused the workspace ({str(error).splitlines()[0]})") from error


if __name__ == "__main__":
    main()
