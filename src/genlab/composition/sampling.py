"""Turn the ``sampling`` part of a config into a model's sampling settings."""

import dataclasses
import typing
from collections.abc import Mapping
from itertools import product
from typing import TYPE_CHECKING, Any

from genlab.composition.building import coerced
from genlab.composition.explaining import did_you_mean
from genlab.errors import InputError

if TYPE_CHECKING:
    from genlab.models.base import GenerativeModel
    from genlab.models.sampling import SamplingSettings


def sampling_settings(model: "GenerativeModel", given: Mapping[str, Any]) -> "SamplingSettings":
    """Replace some of a model's sampling settings by those of a config.

    Args:
        model: model whose settings are the defaults.
        given: settings to change, by name, such as ``{"num_steps": 8}``.

    Returns:
        New settings; the model is left as it is.

    Raises:
        InputError: if the model has no such setting, or a value has the wrong type or is out of range.
    """
    types = typing.get_type_hints(model.Sampling)
    for name in given:
        if name not in types:
            raise InputError(
                f"sampling.{name}: {type(model).__name__} has no such setting of sampling{did_you_mean(name, types)}"
            )
    changes = {name: coerced(value, types[name], f"sampling.{name}") for name, value in given.items()}
    return dataclasses.replace(model.sampling, **changes)


def combinations(given: Mapping[str, Any]) -> list[dict[str, Any]]:
    """List every combination of settings that may be given as lists of values.

    Args:
        given: values, or lists of values, by name: ``{"num_steps": [4, 8]}`` gives two combinations.

    Raises:
        InputError: if a list is empty.
    """
    lists = [value if isinstance(value, list) else [value] for value in given.values()]
    if empty := [name for name, values in zip(given, lists, strict=True) if not values]:
        raise InputError(f"sampling.{empty[0]}=[]: give at least one value")
    return [dict(zip(given, values, strict=True)) for values in product(*lists)]
