"""From composed config to built objects, and from what can go wrong on the way to one clear line.

The only module that knows Hydra beside the entry files: below it everything is plain values and objects.
"""

import functools
import inspect
import json
import os
import re
import secrets
import sys
import time
import typing
from collections.abc import Callable, Iterable, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import InterpolationToMissingValueError, MissingMandatoryValue, OmegaConfBaseException

from genlab import gpus
from genlab.errors import InputError


def conf_dir() -> str:
    """The folder of configs: inside the installed package, or at the top of the checkout."""
    package = Path(__file__).resolve().parent
    for folder in (package / "conf", package.parents[1] / "conf"):
        if (folder / "train.yaml").is_file():
            return str(folder)
    raise FileNotFoundError(f"no conf/ beside {package}: the installation is incomplete")


def run_name(experiment: str | None, model: str | None, dataset: str | None) -> str:
    """The experiment, or else ``model-dataset``: the folder that a run's folder lies in."""
    if experiment:
        return experiment.replace("/", "-")
    return "-".join(part.rsplit("/", 1)[-1] for part in (model, dataset) if part)


def unique_name() -> str:
    """Sorts by time, and differs whatever else starts in the same second."""
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(4)


def default_precision(accelerator: str) -> str:
    """``bf16-mixed`` where the device multiplies in bfloat16, and does not merely convert; else ``32-true``."""
    from genlab.devices import computes_in_bfloat16

    return "bf16-mixed" if computes_in_bfloat16(accelerator) else "32-true"


def codes_of(run: str, key: str) -> Any:
    """``shape``, ``levels`` or ``num_classes`` of the codes of a finished run, such as a VQ-VAE's.

    Raises:
        InputError: where the folder is no such run.
    """
    path = Path(run).expanduser() / "summary.json"
    try:
        return json.loads(path.read_text())["codes"][key]
    except OSError:
        raise InputError(f"dataset.run={run} is no finished run: there is no {path}") from None
    except (KeyError, ValueError):
        raise InputError(f"dataset.run={run}: its model has no codes; give a run of model=vae/vq_vae") from None


def vocabulary_of(source: DictConfig, tokenizer: DictConfig) -> int:
    """The number of tokens of a tokenizer for a text, which is read where it depends on it.

    Raises:
        InputError: where there is no such text.
    """
    from genlab.data.tokenizers import vocabulary

    if missing := OmegaConf.missing_keys(source):
        raise InputError(f"no value for {min(missing)} (give it as {min(missing)}=...)")
    made = build(tokenizer, "tokenizer")
    return vocabulary(made, lambda: build(source, "dataset.source").read(), tokenizer.get("vocab_size"))


OmegaConf.register_new_resolver("genlab.name", run_name, replace=True)
OmegaConf.register_new_resolver("genlab.codes", codes_of, replace=True)
OmegaConf.register_new_resolver("genlab.vocabulary", vocabulary_of, replace=True)
# Cached, so that all jobs of a sweep read one name.
OmegaConf.register_new_resolver("genlab.sweep", lambda resumed, new: resumed or new, replace=True)
OmegaConf.register_new_resolver("genlab.num_gpus", lambda: len(gpus.visible()), replace=True)
OmegaConf.register_new_resolver("genlab.gpu", gpus.claim, replace=True)
OmegaConf.register_new_resolver("genlab.precision", default_precision, replace=True)
OmegaConf.register_new_resolver("genlab.unique", unique_name, replace=True, use_cache=True)


def as_groups(overrides: Iterable[str]) -> list[str]:
    """Overrides with ``metrics.features=mnist``, which names a file of ``conf/metrics/features``, in Hydra's spelling.

    Hydra would set the key to the word instead.
    """
    spelled = []
    for override in overrides:
        key, equals, value = override.partition("=")
        names_option = equals and "." in key and re.fullmatch(r"[\w,]+", value)
        if names_option and Path(conf_dir(), *key.split(".")).is_dir():
            key = key.replace(".", "/")
        spelled.append(key + equals + value)
    return spelled


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


def flags_as(*keys: str) -> None:
    """Turn ``--format json`` and ``--format=json`` on a command line into Hydra's ``format=json``."""
    arguments, words = [], iter(sys.argv[1:])
    for word in words:
        name, equals, value = word.partition("=")
        if name.removeprefix("--") in keys and name.startswith("--"):
            key = name.removeprefix("--")
            if not equals and (value := next(words, "")) == "":
                raise InputError(f"{name} needs a value")
            word = f"{key}={_quoted(value)}"
        arguments.append(word)
    sys.argv = [sys.argv[0], *arguments]


def _quoted(text: str) -> str:
    """For Hydra's grammar, whatever signs are in it."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def paths_as(key: str) -> None:
    """Turn a command line's bare arguments, which are paths, into ``key=[...]``, quoted for Hydra's grammar."""
    takes_value = {
        "--cfg",
        "-c",
        "--package",
        "-p",
        "--config-path",
        "-cp",
        "--config-name",
        "-cn",
        "--config-dir",
        "-cd",
    }
    words = zip(sys.argv, sys.argv[1:], strict=False)
    paths = [a for before, a in words if "=" not in a and not a.startswith("-") and before not in takes_value]
    if paths:
        sys.argv = [
            sys.argv[0],
            f"{key}=[{','.join(map(_quoted, paths))}]",
            *(a for a in sys.argv[1:] if a not in paths),
        ]


def did_you_mean(name: str, known: Iterable[str], prefix: str = "") -> str:
    """``"; did you mean ...?"``, or the list of what there is."""
    known = sorted(set(known))
    near = get_close_matches(name, known, n=3, cutoff=0.6)
    # "vae" is a good guess at "vae/vae", which difflib finds too short to be alike.
    near += [k for k in known if k.rsplit("/", 1)[-1] == name.rsplit("/", 1)[-1] and k not in near]
    if near:
        return "; did you mean " + " or ".join(prefix + k for k in near) + "?"
    return f"; there is {', '.join(known)}" if known else ""


# ---------------------------------------------------------------------------------------------------------------------
# Checking a config against the constructors it names
# ---------------------------------------------------------------------------------------------------------------------

_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))


def located(target: str, where: str) -> Callable[..., Any]:
    """What a ``_target_`` names; raises InputError where there is no such thing."""
    from hydra.utils import get_object

    try:
        return get_object(target)
    except Exception as error:
        raise InputError(f"{where}._target_: cannot import {target} ({_first_line(error)})") from error


def _annotations(target: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target)
    except Exception:  # a library's annotations that cannot be evaluated tell us nothing
        return {}


def _arguments(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """What a function or a class takes, and of which types.

    Of ``**options`` those of the classes it inherits from; of ``**options: Unpack[...]`` those of the TypedDict.
    """
    found: dict[str, inspect.Parameter] = {}
    annotations: dict[str, Any] = {}
    sources = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)] if inspect.isclass(target) else []
    of_genlab = getattr(target, "__module__", "").startswith("genlab.")
    for source in sources if of_genlab and sources else [target]:
        given = dict(inspect.signature(source).parameters)
        given.pop("self", None)
        for name, p in list(given.items()):
            if typing.get_origin(p.annotation) is typing.Unpack:
                (listed,) = typing.get_args(p.annotation)
                del given[name]
                for key in listed.__annotations__:
                    default = None if key in listed.__optional_keys__ else p.empty
                    given[key] = inspect.Parameter(key, p.KEYWORD_ONLY, default=default)
                annotations = {**typing.get_type_hints(listed), **annotations}
        options = [name for name, p in given.items() if p.kind is p.VAR_KEYWORD]
        named = {name: p for name, p in given.items() if name not in options}
        found = {**named, **found}
        annotations = {**_annotations(source.__init__ if inspect.isclass(source) else source), **annotations}
        if not options:
            return found, annotations
    open_ended = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)
    return {**found, "options": open_ended}, annotations


def _coerce(value: Any, annotation: Any, where: str) -> Any:
    """``value`` as the annotated type: a list as a tuple, ``"3"`` refused or read as pydantic's lax mode does."""
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, TypeError, NameError):
        return value
    try:
        coerced = adapter.validate_python(value)
    except ValidationError as error:
        expected = "; ".join(dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in error.errors()[:2]))
        raise InputError(f"{where}={value!r}: {expected}") from None
    return coerced if isinstance(coerced, _PLAIN) else value


def _is_built(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_is_built, value.values()))
    return isinstance(value, list) and any(map(_is_built, value))


def checked(node: Any, where: str) -> Any:
    """A plain copy of a resolved config in which every value has the type its constructor asks for.

    Raises:
        InputError: naming the key, for an unknown or missing argument or a value of the wrong type.
    """
    if isinstance(node, list):
        return [checked(value, f"{where}[{i}]") for i, value in enumerate(node)]
    if not isinstance(node, Mapping):
        return node
    if "_target_" not in node:
        return {key: checked(value, f"{where}.{key}") for key, value in node.items()}
    target = located(node["_target_"], where)
    parameters, annotations = _arguments(target)
    accepts_any = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    arguments: dict[str, Any] = {}
    for key, value in node.items():
        at = f"{where}.{key}"
        if key.startswith("_") and key.endswith("_"):
            arguments[key] = value
            continue
        if key not in parameters and not accepts_any:
            name = getattr(target, "__name__", str(target))
            raise InputError(f"{at}: {name} has no option '{key}'{did_you_mean(key, parameters)}")
        value = checked(value, at)
        if key in annotations and not _is_built(value):
            value = _coerce(value, annotations[key], at)
        arguments[key] = value
    if not node.get("_partial_"):
        positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        missing = [
            name
            for name, p in parameters.items()
            if p.kind in positional and p.default is p.empty and name not in arguments
        ]
        if missing:
            raise InputError(f"{where}: no value for {', '.join(missing)} (give it as {where}.{missing[0]}=...)")
    return arguments


def build(node: Any, where: str) -> Any:
    """Instantiate a config node (or ``None``), after :func:`checked`.

    Args:
        where: the node's key in the config, for the error's line.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if node is None:
        return None
    plain = OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node
    plain = checked(plain, where)
    try:
        return instantiate(plain, _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        if isinstance(cause, InputError | ValueError | TypeError | OSError | ImportError):
            key = re.search(r"full_key: (\S+)", str(error))
            at = f"{where}.{key[1]}" if key else where
            raise InputError(f"{at}: {_first_line(cause)}") from cause
        raise


def plain(cfg: DictConfig, **types: Any) -> dict[str, Any]:
    """A config as resolved plain values.

    Args:
        **types: what the values that no constructor takes have to be: ``seed=int``, ``metrics__seed=int``.

    Raises:
        InputError: for a value that was never given or has another type.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise InputError(f"no value for {', '.join(missing)} (give it as {missing[0]}=...)")
    config = typing.cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    for path, annotation in types.items():
        *parents, key = path.split("__")
        node = functools.reduce(dict.__getitem__, parents, config)
        node[key] = _coerce(node[key], annotation, ".".join([*parents, key]))
    return config


# ---------------------------------------------------------------------------------------------------------------------
# Saying what is wrong
# ---------------------------------------------------------------------------------------------------------------------


# Of Hydra, which launchers build on: what it is, and the extra that installs it.
_PLUGINS = {
    "launcher/joblib": ("Hydra's joblib launcher", "joblib"),
    "launcher/submitit_slurm": ("Hydra's submitit launcher", "slurm"),
    "launcher/submitit_local": ("Hydra's submitit launcher", "slurm"),
    "launcher/ray": ("Hydra's Ray launcher", "ray"),
}


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def _options(group: str, listed: Iterable[str]) -> set[str]:
    folder = Path(conf_dir(), group)
    return {str(p.relative_to(folder).with_suffix("")) for p in folder.rglob("*.yaml")} | set(listed)


def explain(error: BaseException) -> str | None:
    """One line for an error that the user's input caused, ``None`` for a bug."""
    if isinstance(error, InputError):
        return str(error)
    if isinstance(error, ValueError) and str(error).startswith("Config group override must be"):
        return "a group cannot be null: choose one of its files, or leave it out with a ~ before it (~metrics/modes)"
    if isinstance(error, MissingConfigException):
        # "model/flow/nvp": the user wrote model=flow/nvp.
        group, _, option = str(error.missing_cfg_file or "").partition("/")
        if (missing := _PLUGINS.get(option)) is not None:
            return f"{missing[0]} is not installed: pip install 'genlab[{missing[1]}]'"
        if group == "hydra" or not option or not Path(conf_dir(), group).is_dir():
            return _first_line(error)
        return f"{group}={option}: no such option{did_you_mean(option, _options(group, error.options or []))}"
    if isinstance(error, OverrideParseException):
        return f"{error.override}: cannot be read as an override ({_first_line(error)})"
    if isinstance(error, HydraException):
        override = re.match(r"Could not (?:override|append|delete) '?([\w./@]+)'?", str(error))
        if override is None:
            return " ".join(str(error).split()) or _first_line(error.__cause__ or error)
        cause = error.__cause__
        key = override[1]
        siblings: Iterable[str] = ()
        parent = getattr(cause, "parent_node", None)
        if parent is not None and OmegaConf.is_dict(parent):
            siblings = [str(k) for k in parent if not str(k).startswith("_")]
            prefix, _, last = str(getattr(cause, "full_key", None) or key).rpartition(".")
            hint = did_you_mean(last, siblings, f"{prefix}." if prefix else "")
            return f"{key}: there is no such key{hint} (a new key is added with a + before it)"
        return f"{key}: there is no such key or group{did_you_mean(key, _groups())}"
    if isinstance(error, MissingMandatoryValue):
        return f"no value for {error.full_key} (give it as {error.full_key}=...)"
    if isinstance(error, InterpolationToMissingValueError):
        key = _first_line(error).rpartition(" ")[2]
        return f"no value for {key} (give it as {key}=...)"
    if isinstance(error, OmegaConfBaseException):
        of_resolver = "InputError raised while resolving interpolation: "
        if of_resolver in str(error):
            return _first_line(error).partition(of_resolver)[2]
        return f"{error.full_key}: {_first_line(error)}" if error.full_key else _first_line(error)
    return None


def _groups() -> set[str]:
    return {p.name for p in Path(conf_dir()).iterdir() if p.is_dir()}


def one_line_errors(task: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Wrap a command's task: a wrong input ends it with one line and exit code 2.

    Inside a sweep the error goes up to the launcher instead, so that the other jobs still run.
    """

    @functools.wraps(task)
    def wrapped(cfg: DictConfig) -> Any:
        try:
            return task(cfg)
        except Exception as error:
            line = explain(error)
            in_sweep = HydraConfig.get().mode == RunMode.MULTIRUN
            if line is None or in_sweep or os.environ.get("GENLAB_DEBUG"):
                raise
            print(f"genlab: error: {line}", file=sys.stderr)
            raise SystemExit(2) from None

    return wrapped
