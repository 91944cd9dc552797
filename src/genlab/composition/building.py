"""Check a config against the constructors that it names, and build the objects."""

import functools
import inspect
import re
import typing
from collections.abc import Callable, Mapping
from typing import Any

from omegaconf import DictConfig, OmegaConf

from genlab.composition.explaining import did_you_mean, first_line
from genlab.composition.failures import failure
from genlab.composition.free_text import escaped
from genlab.composition.named_parts import without_unchosen
from genlab.composition.trust import check, check_found
from genlab.errors import InputError

_PLAIN = (bool, int, float, str, list, tuple, dict, type(None))
# Keys of a node that Hydra reads, and the values that they may have.
_HYDRAS: dict[str, tuple[Any, ...]] = {
    "_convert_": ("none", "partial", "object", "all"),
    "_partial_": (False, True),
    "_recursive_": (False, True),
}


# What constructors, and the libraries that they call, raise for values that they cannot work with.
_OF_VALUES = (InputError, ValueError, TypeError, OSError, ImportError, RuntimeError, ArithmeticError)


def located(target: str, where: str) -> Callable[..., Any]:
    """Import what a ``_target_`` names, if :mod:`genlab.composition.trust` lets it through.

    Args:
        target: import path of a class or function.
        where: config key of the node, for the error message.

    Raises:
        InputError: if it may not be imported, or cannot be.
    """
    from hydra.utils import get_object

    check(target, where)
    try:
        found: Callable[..., Any] = get_object(target)
    except Exception as error:
        raise InputError(f"{where}._target_: cannot import {target} ({first_line(error)})") from error
    check_found(target, found, where)
    return found


def _annotations(target: Callable[..., Any]) -> dict[str, Any]:
    try:
        return typing.get_type_hints(target, include_extras=True)
    except Exception:  # some libraries have annotations that cannot be evaluated
        return {}


def _arguments(target: Callable[..., Any]) -> tuple[dict[str, inspect.Parameter], dict[str, Any]]:
    """Collect the parameters of a function or class, and their types.

    ``**options`` stands for the parameters of the inherited constructors, ``**options: Unpack[...]`` for the keys of
    the TypedDict.
    """
    found: dict[str, inspect.Parameter] = {}
    annotations: dict[str, Any] = {}
    sources = [vars(c)["__init__"] for c in target.__mro__ if "__init__" in vars(c)] if inspect.isclass(target) else []
    of_genlab = getattr(target, "__module__", "").startswith("genlab.")
    for source in sources if of_genlab and sources else [target]:
        try:
            given = dict(inspect.signature(source).parameters)
        except (TypeError, ValueError):  # some functions in C say nothing of their arguments
            given = {"options": inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)}
        given.pop("self", None)
        for name, p in list(given.items()):
            if typing.get_origin(p.annotation) is typing.Unpack:
                (listed,) = typing.get_args(p.annotation)
                del given[name]
                for key in listed.__annotations__:
                    default = None if key in listed.__optional_keys__ else p.empty
                    given[key] = inspect.Parameter(key, p.KEYWORD_ONLY, default=default)
                annotations = {**typing.get_type_hints(listed, include_extras=True), **annotations}
        options = [name for name, p in given.items() if p.kind is p.VAR_KEYWORD]
        named = {name: p for name, p in given.items() if name not in options}
        found = {**named, **found}
        annotations = {**_annotations(source.__init__ if inspect.isclass(source) else source), **annotations}
        if not options:
            return found, annotations
    open_ended = inspect.Parameter("options", inspect.Parameter.VAR_KEYWORD)
    return {**found, "options": open_ended}, annotations


def coerced(value: Any, annotation: Any, where: str) -> Any:
    """Convert a value to an annotated type by the rules of pydantic's lax mode, such as a list to a tuple.

    Args:
        value: plain value from a config.
        annotation: type that the value must have; one that pydantic does not know is not checked.
        where: config key of the value, for the error message.

    Raises:
        InputError: if the value does not fit the type.
    """
    from pydantic import ConfigDict, TypeAdapter, ValidationError
    from pydantic.errors import PydanticUserError

    try:
        adapter = TypeAdapter(annotation, config=ConfigDict(arbitrary_types_allowed=True))
    except (PydanticUserError, TypeError, NameError):
        return value
    try:
        converted = adapter.validate_python(value)
    except ValidationError as error:
        # Of several types that would do, a class such as Tensor is none that a config can give.
        faults = [e for e in error.errors() if e["type"] != "is_instance_of"] or error.errors()
        expected = "; ".join(dict.fromkeys(_sentence(e["msg"]) for e in faults[:2]))
        raise InputError(f"{where}={value!r}: {expected}") from None
    return converted if isinstance(converted, _PLAIN) else value


def _sentence(message: str) -> str:
    message = message.removeprefix("Value error, ")
    return message[0].lower() + message[1:]


def _is_built(value: Any) -> bool:
    if isinstance(value, Mapping):
        return "_target_" in value or any(map(_is_built, value.values()))
    return isinstance(value, list) and any(map(_is_built, value))


def checked(node: Any, where: str) -> Any:
    """Copy a resolved config so that every value has the type its constructor asks for.

    Args:
        node: config node as plain values.
        where: config key of the node, for error messages; empty for the top level.

    Raises:
        InputError: if an argument is unknown or missing, or a value has the wrong type; the message names the key.
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
        at = f"{where}.{key}" if where else str(key)
        if not isinstance(key, str):
            raise InputError(f"{at}: an option's name is a text")
        if key in _HYDRAS:
            if value not in _HYDRAS[key]:
                raise InputError(f"{at}={value}: one of {', '.join(map(str, _HYDRAS[key]))}")
            arguments[key] = value
            continue
        if key.startswith("_") and key.endswith("_"):
            arguments[key] = checked(value, at)
            continue
        if key not in parameters and not accepts_any:
            name = getattr(target, "__name__", str(target))
            raise InputError(f"{at}: {name} has no option '{key}'{did_you_mean(key, parameters)}")
        value = checked(without_unchosen(value, annotations.get(key)), at)
        if key in annotations and not _is_built(value):
            value = coerced(value, annotations[key], at)
        arguments[key] = value
    if not node.get("_partial_"):
        positional = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
        by_position = len(node.get("_args_") or ())
        missing = [
            name
            for i, (name, p) in enumerate(parameters.items())
            if p.kind in positional and p.default is p.empty and name not in arguments and i >= by_position
        ]
        if missing:
            raise InputError(f"{where}: no value for {', '.join(missing)} (give it as {where}.{missing[0]}=...)")
    return arguments


def _literal(node: Any) -> Any:
    """Copy resolved values so that Hydra, which resolves them twice, takes text with ``${`` in it as it is."""
    if isinstance(node, dict):
        return {key: _literal(value) for key, value in node.items()}
    if isinstance(node, list):
        return [_literal(value) for value in node]
    return escaped(escaped(node)) if isinstance(node, str) else node


def build(node: Any, where: str) -> Any:
    """Check a config node with :func:`checked` and instantiate it; None stays None.

    Args:
        node: config node, as an OmegaConf object or plain values.
        where: config key of the node, for error messages; empty for the top level.

    Raises:
        InputError: if the node is wrong, or a constructor refuses its values.
    """
    from hydra.errors import InstantiationException
    from hydra.utils import instantiate

    if node is None:
        return None
    resolved = OmegaConf.to_container(node, resolve=True, throw_on_missing=True) if OmegaConf.is_config(node) else node
    arguments = checked(resolved, where)
    try:
        return instantiate(_literal(arguments), _convert_="all")
    except InstantiationException as error:
        cause = error.__cause__
        misconfigured = type(cause).__name__ == "MisconfigurationException"  # Lightning's, which is heavy to import
        refused = isinstance(cause, InputError) or (isinstance(cause, _OF_VALUES) and failure(cause) is None)
        if misconfigured or refused:
            assert cause is not None
            key = re.search(r"full_key: (\S+)", str(error))
            at = ".".join(filter(None, [where, key and key[1]]))
            raise InputError(f"{at}: {first_line(cause)}" if at else first_line(cause)) from cause
        raise


def plain(cfg: DictConfig, **types: Any) -> dict[str, Any]:
    """Resolve a config into plain values.

    Args:
        cfg: composed config.
        **types: types of the values that no constructor checks, such as ``seed=int`` or, for the key
            ``metrics.seed``, ``metrics__seed=int``.

    Raises:
        InputError: if a mandatory value is missing, or a value has the wrong type.
    """
    missing = sorted(OmegaConf.missing_keys(cfg))
    if missing:
        raise InputError(f"no value for {', '.join(missing)} (give it as {missing[0]}=...)")
    config = typing.cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    for path, annotation in types.items():
        *parents, key = path.split("__")
        node = functools.reduce(dict.__getitem__, parents, config)
        if key in node:  # a trainer of the user's own may lack keys of genlab's
            node[key] = coerced(node[key], annotation, ".".join([*parents, key]))
    return config
