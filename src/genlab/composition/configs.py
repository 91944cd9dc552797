"""Where configs are, and a command's config composed outside of Hydra's own main."""

from collections.abc import Iterable
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf


def conf_dir() -> str:
    """The folder of configs: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).resolve().parents[1]
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"no conf/ beside {package}: the installation is incomplete")


def composed(name: str, overrides: Iterable[str]) -> DictConfig:
    """A command's config, composed for one run outside of (or inside of) Hydra's own main."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import open_dict

    if GlobalHydra.instance().is_initialized():
        cfg = compose(name, list(overrides), return_hydra_config=True)
    else:
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            cfg = compose(name, list(overrides), return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.mode = RunMode.RUN  # an experiment may ask for a sweep; this is one of its runs
        HydraConfig.instance().set_config(cfg)
        OmegaConf.resolve(cfg.choices)
        del cfg["hydra"]
    return cfg
