"""Find ``conf/``, and compose a command's config outside of Hydra's main function."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.config_store import ConfigStore
from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from genlab.composition.renamed_groups import with_new_names
from genlab.machine.installed import conf_dir as conf_dir


def _itself(store: ConfigStore, memo: dict[int, Any]) -> ConfigStore:
    """Give the store itself as its copy."""
    return store


# Hydra copies its sources of configs, with this store of its own and its plugins' configs, for every config that it
# composes and every group that it lists. The store is not changed once it is filled, and hands out copies; copying it
# was most of the time of a composition, and nine tenths of that of --help.
ConfigStore.__deepcopy__ = _itself  # type: ignore[attr-defined]

_asked_with_overrides = ConfigLoaderImpl.get_group_options


def _group_options(loader: ConfigLoaderImpl, group_name: str, *kind: Any, **asked: Any) -> list[str]:
    """List a group's options from the loader's own sources, which overrides could add to."""
    if asked.get("config_name") or asked.get("overrides"):
        return _asked_with_overrides(loader, group_name, *kind, **asked)
    kept = vars(loader.repository).setdefault("_options", {})
    key = (group_name, *kind, *asked.items())
    if key not in kept:
        kept[key] = loader.repository.get_group_options(group_name, *kind, **asked)
    return list(kept[key])


# Hydra parses the overrides, of which there are none, for each group that --help lists, and lists every group twice.
ConfigLoaderImpl.get_group_options = _group_options  # type: ignore[method-assign, assignment]


def groups() -> set[str]:
    """List the groups that defaults lists in ``conf/`` name, such as ``model`` and ``gan/loss``; not Hydra's own."""
    found = set()
    for path in Path(conf_dir()).rglob("*.yaml"):
        folder = path.parent.relative_to(conf_dir())
        content = OmegaConf.load(path)
        for entry in content.get("defaults", []) if isinstance(content, DictConfig) else []:
            if OmegaConf.is_dict(entry):
                name = str(next(iter(entry))).removeprefix("override ").partition("@")[0]
                found.add(name.removeprefix("/") if name.startswith("/") else str(folder / name))
    return {name for name in found if not name.startswith("hydra")}


def composed(name: str, overrides: Iterable[str]) -> DictConfig:
    """Compose a command's config for one run; works outside and inside of Hydra's main function.

    Args:
        name: name of the command's config, such as ``"train"``.
        overrides: overrides of the run; old names of groups, which runs of earlier versions have, are accepted.
    """
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra
    from omegaconf import open_dict

    overrides = with_new_names(overrides)
    if GlobalHydra.instance().is_initialized():
        cfg = compose(name, overrides, return_hydra_config=True)
    else:
        with initialize_config_dir(conf_dir(), version_base="1.3"):
            cfg = compose(name, overrides, return_hydra_config=True)
    with open_dict(cfg):
        cfg.hydra.mode = RunMode.RUN  # an experiment may ask for a sweep; this is one of its runs
        HydraConfig.instance().set_config(cfg)
        if "choices" in cfg:
            OmegaConf.resolve(cfg.choices)
        del cfg["hydra"]
    return cfg
