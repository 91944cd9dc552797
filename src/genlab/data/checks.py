"""Checks of what a source gives, for every data set alike: a fault is one line before training, not a wrong result."""

from collections.abc import Mapping
from typing import get_args

import torch
from torch import Tensor

from genlab.data.examples import Examples, Split
from genlab.errors import InputError

NUM_PROBED = 256  # number of examples that are read to check data which is not in memory


def checked_splits(data: str, loaded: object, num_classes: int | None) -> dict[Split, Examples]:
    """Check the splits that a source has loaded, and return them.

    Args:
        data: name of the data set, for messages.
        loaded: what the source gave.
        num_classes: number of classes; ``None`` for data without classes.

    Raises:
        InputError: if there is no training split, a split is empty or has an unknown name, or its examples and classes
            do not belong together.
    """
    if not isinstance(loaded, Mapping) or "train" not in loaded:
        there = f"the splits {', '.join(map(str, loaded)) or 'none'}" if isinstance(loaded, Mapping) else _kind(loaded)
        raise InputError(f"dataset {data}: its source gives {there}; load() must give a dict with the split train")
    if unknown := [str(split) for split in loaded if split not in get_args(Split)]:
        raise InputError(
            f"dataset {data}: its source gives the split '{unknown[0]}'; splits are named {', '.join(get_args(Split))}"
        )
    for split, examples in loaded.items():
        _check_split(f"dataset {data}: {split}", examples)
        if num_classes is not None and (most := int(examples.labels.max())) >= num_classes:
            raise InputError(f"dataset {data}: num_classes={num_classes} is stated, {split} has the class {most}")
    return dict(loaded)


def probe(data: str, split: Split, examples: Examples) -> Tensor:
    """Take at most ``NUM_PROBED`` examples as they are stored, evenly spaced over a split, ``(B, ...)``.

    Raises:
        InputError: if they are not tensors of one shape.
    """
    index = torch.linspace(0, len(examples) - 1, min(len(examples), NUM_PROBED)).round().long()
    try:
        return examples.take(index)
    except (TypeError, RuntimeError) as error:  # of torch.stack
        reason = (str(error).splitlines() or [type(error).__name__])[0]
        raise InputError(
            f"dataset {data}: {split} cannot be read as tensors of one shape and type ({reason})"
        ) from error


def _check_split(what: str, examples: object) -> None:
    if not isinstance(examples, Examples):
        raise InputError(f"{what} is {_kind(examples)}; give genlab.data.examples.Examples(images, labels)")
    if (examples.images is None) == (examples.read is None):
        raise InputError(f"{what} has {'both' if examples.read else 'neither'} images and read; give one of them")
    for name, value in (("images", examples.images), ("labels", examples.labels)):
        if not isinstance(value, Tensor) and (value is not None or name == "labels"):
            raise InputError(f"{what} has {name} of {_kind(value)}; give a tensor, such as torch.as_tensor({name})")
    labels = examples.labels
    if labels.ndim != 1 or labels.dtype != torch.int64:
        raise InputError(
            f"{what} has labels {list(labels.shape)} of {_dtype(labels)}; give an int64 class for each example, zeros "
            "if there are none"
        )
    if examples.images is not None and examples.images.ndim == 0:
        raise InputError(f"{what} has one number for images; give a tensor (N, ...)")
    num = examples.num_in_memory
    if num is not None and num != len(labels):
        raise InputError(f"{what} has {num:,} examples and {len(labels):,} labels; give one label for each example")
    if len(labels) == 0:
        raise InputError(f"{what} has no examples")
    if examples.names is not None and len(set(examples.names)) != len(labels):
        raise InputError(
            f"{what} has {len(labels):,} examples and {len(set(examples.names)):,} different names; give each its own"
        )
    if (least := int(labels.min())) < 0:
        raise InputError(f"{what} has the class {least}; classes are numbered from 0, and all 0 if there are none")


def _kind(value: object) -> str:
    return f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")


def _dtype(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
