"""Which code a config may name: everything in the user's own words, little in a config that came with a run folder.

To build what ``_target_`` names is to run code. What users write on the command line and in their own configs are their
words, and :func:`own` takes them as such. A config out of a run folder may be a stranger's; :func:`vetted` lets through

- genlab's own classes, and the functions and library classes that ``conf/`` names,
- what the user named: ``trust=my_package``, or a config in the ``--config-dir`` in use,
- the very nodes that this user has trained with before (:mod:`genlab.composition.trained`).

All of this is decided from names and source texts. Importing a module runs it, so nothing is imported to decide.
"""

import ast
import inspect
import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from genlab.composition.configs import conf_dir
from genlab.composition.trained import has_trained_with, remember_node
from genlab.errors import InputError

# Functions and classes in this package compute, and do nothing else. conf/ names some of its optimizers.
OPTIMIZERS = "torch.optim"
_NAME = r"[^\W\d]\w*(\.[^\W\d]\w*)*"


class Declared:
    """What the user has declared in this process.

    Attributes:
        modules: modules, and things inside of modules, of ``trust=``.
        own: targets in the user's own words.
        let_through: targets of saved configs that were let through.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.own: set[str] = set()
        self.let_through: set[str] = set()


declared = Declared()


def trust_modules(modules: str | Collection[str] | None) -> None:
    """Trust modules, with all that is inside of them, from now on in this process.

    Args:
        modules: import path of a module, or of a class or function in one; or several of them.

    Raises:
        InputError: if this is no import path.
    """
    given: list[Any] = list(modules or ()) if isinstance(modules, list | tuple | set | frozenset | None) else [modules]
    for module in given:
        if not _is_path(module):
            raise InputError(f"trust={shown(module)}: give the import path of a module, such as trust=my_package")
    declared.modules.update(given)


def own(cfg: DictConfig) -> None:
    """Take a command's composed config as the user's own words: what it names may be built in this process.

    The key ``trust`` is taken out of the config, because it is about this command and not about the run.

    Args:
        cfg: composed config, before it is resolved.

    Raises:
        InputError: if ``trust`` is no list of modules.
    """
    trust_modules(without_trust(cfg))
    for key, node in nodes(OmegaConf.to_container(cfg, resolve=False)):
        target = node["_target_"]
        if isinstance(target, str) and "${" in target:
            try:
                target = OmegaConf.select(cfg, f"{key}._target_")
            except OmegaConfBaseException:
                continue  # building it says what is wrong
        if isinstance(target, str):
            declared.own.add(target)


def without_trust(cfg: DictConfig) -> Any:
    """Take the key ``trust`` out of a composed config, and give its value as plain values."""
    with open_dict(cfg):
        value = cfg.pop("trust", None)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def own_values(config: Any) -> None:
    """Take plain values of a config as the user's own words, as :func:`own` does."""
    declared.own.update(node["_target_"] for _, node in nodes(config) if isinstance(node["_target_"], str))


def vetted(config: dict[str, Any], source: str | Path) -> dict[str, Any]:
    """Check a config out of a run folder, before anything that it names is imported.

    Args:
        config: saved config, as plain values with today's import paths.
        source: path of the file, for error messages.

    Returns:
        The same config.

    Raises:
        InputError: if the config names code that nobody but itself vouches for, or is not resolved.
    """
    check_resolved(config, source=source)
    of_folders = _named_by_config_dirs()
    refused, passed = [], set[str]()
    for key, node in nodes(config):
        target = node["_target_"]
        if not _is_path(target):
            raise InputError(f"{source}: {shown(key)}._target_={shown(target)}: this is no import path")
        if _is_known(target) or target in declared.own | of_folders:
            is_trusted = _is_at_its_place(target, key)
        else:
            is_trusted = has_trained_with(node, config.get("run_dir"))
        if is_trusted or _is_below(target, declared.modules):
            passed.add(target)
        else:
            refused.append((key, target))
    if refused:
        raise InputError(f"{source}: {_refusal(refused)}")
    declared.let_through |= passed
    return config


def check(target: str, where: str) -> None:
    """Check that something may be imported and called, whoever named it.

    Args:
        target: import path.
        where: config key of the node, for the error message.

    Raises:
        InputError: if neither genlab nor the user has named it, and no saved config with it was let through.
    """
    if not _is_path(target):
        raise InputError(f"{where}._target_={shown(target)}: this is no import path")
    named = declared.own | declared.let_through
    if _is_known(target) or target in named or _is_below(target, declared.modules):
        return
    if target not in _named_by_config_dirs():
        raise InputError(_refusal([(where, target)]))


def check_found(target: str, found: Any, where: str) -> None:
    """Check that what a trusted module's name leads to is defined there, and was not imported from elsewhere.

    ``my_package.os.system`` begins like the name of something in ``my_package``, and is not.

    Args:
        target: import path that :func:`check` let through.
        found: object with this import path.
        where: config key of the node, for the error message.

    Raises:
        InputError: if it is defined in a module that is not trusted.
    """
    if _is_known(target) or target in declared.own or not _is_below(target, declared.modules):
        return
    about = found if inspect.isroutine(found) or inspect.isclass(found) else type(found)
    module, name = getattr(about, "__module__", None), getattr(about, "__qualname__", type(about).__name__)
    defined = f"{module or 'builtins'}.{name}"
    if not (_is_below(defined, declared.modules) or _is_known(defined)):
        raise InputError(f"{where}._target_={target}: this is {defined}; if you trust it, add trust={_module(defined)}")


def check_all(config: Any) -> None:
    """Check every node of a config that a run folder had a part in, before any of them is built.

    Args:
        config: resolved config, as plain values.

    Raises:
        InputError: if a node is refused by :func:`check`, or is a logger in another place.
    """
    for key, node in nodes(config):
        check(node["_target_"], key)
        if not _is_at_its_place(node["_target_"], key) and not _is_below(node["_target_"], declared.modules):
            raise InputError(_refusal([(key, node["_target_"])]))


def remember(config: Mapping[str, Any]) -> None:
    """Remember the code that a run of this user trains with, where it is not genlab's.

    Args:
        config: config of the run, as plain values; it is the user's own, or was let through.
    """
    for _, node in nodes(config):
        if not _is_known(str(node["_target_"])):
            remember_node(node, config.get("run_dir"))


def foreign_modules(config: Any) -> list[str]:
    """List the modules that a config names code of and that are neither genlab's nor of a library that ``conf/`` names.

    Args:
        config: config, as plain values.
    """
    targets = [str(node["_target_"]) for _, node in nodes(config)]
    return sorted({_module(target) for target in targets if not _is_known(target)})


def check_resolved(config: Any, where: str = "", source: str | Path = "") -> None:
    """Check that a config is resolved: building it would resolve what is left, such as ``${oc.env:TOKEN}``.

    Args:
        config: config, as plain values.
        where: key of the config, for the error message.
        source: path of the file, for the error message.

    Raises:
        InputError: if a key or a value contains an interpolation.
    """
    for key, text in _texts(config, where):
        if "${" in text:
            place = f"{source}: {shown(key)}" if source else shown(key)
            raise InputError(
                f"{place}={shown(text)}: the config of a run is resolved, and no ${{...}} in it is looked up"
            )


def nodes(config: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Iterate over the nodes of a config that name code, at any depth, with their keys.

    Args:
        config: config, as plain values.
        where: key of the config.
    """
    if isinstance(config, Mapping):
        if "_target_" in config:
            yield where, config
        for key, value in config.items():
            yield from nodes(value, f"{where}.{key}" if where else str(key))
    elif isinstance(config, list | tuple):
        for i, value in enumerate(config):
            yield from nodes(value, f"{where}[{i}]")


def _texts(config: Any, where: str) -> Iterator[tuple[str, str]]:
    if isinstance(config, str):
        yield where, config
    elif isinstance(config, Mapping):
        for key, value in config.items():
            at = f"{where}.{key}" if where else str(key)
            yield at, str(key)
            yield from _texts(value, at)
    elif isinstance(config, list | tuple):
        for i, value in enumerate(config):
            yield from _texts(value, f"{where}[{i}]")


def _refusal(refused: list[tuple[str, str]]) -> str:
    names = ", ".join(f"{shown(key)}._target_={shown(target)}" for key, target in refused[:3])
    more = f" and {len(refused) - 3} more" if len(refused) > 3 else ""
    modules = list(dict.fromkeys(_module(target) for _, target in refused))
    how = modules[0] if len(modules) == 1 else f"[{','.join(modules)}]"
    return (
        f"{names}{more}: not run, because this is neither genlab's own, nor in a config of yours, nor what you have "
        f"trained with here; if you know and trust that code, add trust={how}"
    )


def shown(value: object) -> str:
    """Write a stranger's value so that a line with it stays one line, and no control character reaches the terminal."""
    text = str(value)
    short = text if len(text) <= 200 else f"{text[:200]}..."
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in short)


def _is_path(target: object) -> bool:
    return isinstance(target, str) and re.fullmatch(_NAME, target) is not None


def _module(target: str) -> str:
    return target.rpartition(".")[0] or target


def _is_below(target: str, modules: Iterable[str]) -> bool:
    return any(target == module or target.startswith(f"{module}.") for module in modules)


# -- what genlab has ---------------------------------------------------------------------------------------------------


def _is_known(target: str) -> bool:
    """Tell whether genlab itself has or names a target."""
    return target in _named_by_conf() or _is_class_of_genlab(target) or _is_optimizer(target)


def _is_at_its_place(target: str, key: str) -> bool:
    """Tell whether a target may stand at a key of a saved config: a logger may not, unless the key is for loggers.

    W&B's logger starts a W&B run, which writes and sends, as soon as it is built; evaluating a run builds no loggers.
    """
    return _named_by_conf().get(target) != {"logger"} or key.split(".")[0] == "logger"


@cache
def _named_by_conf() -> Mapping[str, set[str]]:
    """Collect the targets in ``conf/``, each with the groups whose files name it."""
    return named_in(Path(conf_dir()))


def named_in(folder: Path) -> dict[str, set[str]]:
    """Collect the targets in the config files of a folder, each with the folders at its top whose files name it.

    Args:
        folder: folder of configs. Files that cannot be read are left out.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    found: dict[str, set[str]] = defaultdict(set)
    for path in folder.rglob("*.yaml"):
        try:
            content = yaml.load(path.read_text(encoding="utf-8"), loader)
            targets = [node["_target_"] for _, node in nodes(content)]
        except (OSError, ValueError, yaml.YAMLError, RecursionError):
            continue
        for target in targets:
            if isinstance(target, str):
                found[target].add(path.relative_to(folder).parts[0])
    return dict(found)


def _named_by_config_dirs() -> set[str]:
    """Collect the targets in the folders of configs that the user added to genlab's own, as with ``--config-dir``."""
    from hydra.core.global_hydra import GlobalHydra
    from hydra.core.hydra_config import HydraConfig

    if not (GlobalHydra.instance().is_initialized() and HydraConfig.initialized()):
        return set()
    sources = HydraConfig.get().runtime.config_sources
    users = [s.path for s in sources if s.schema == "file" and s.provider not in ("main", "hydra", "schema")]
    return {target for path in users for target in named_in(Path(path))}


@cache
def _is_class_of_genlab(target: str) -> bool:
    """Tell whether genlab's source text defines a public class at an import path.

    A function does whatever it does when it is called; genlab has some that write and delete. And what a module has
    imported (``genlab.machine.files.os``) is not genlab's.
    """
    package, *parts = target.split(".")
    if package != "genlab" or any(part.startswith("_") for part in parts):
        return False
    for length in range(1, len(parts)):
        file = Path(__file__).parents[1].joinpath(*parts[:length]).with_suffix(".py")
        if file.is_file():
            body: list[ast.stmt] = ast.parse(file.read_text(encoding="utf-8")).body
            for name in parts[length:]:
                classes = [node for node in body if isinstance(node, ast.ClassDef) and node.name == name]
                if not classes:
                    return False
                body = classes[0].body
            return True
    return False


def _is_optimizer(target: str) -> bool:
    package, _, name = target.rpartition(".")
    if package != OPTIMIZERS:
        return False
    import torch

    found = getattr(torch.optim, name, None)
    return inspect.isclass(found) and issubclass(found, torch.optim.Optimizer)
