"""Check the settings of Lightning's Trainer before a run has a folder."""

import os
import re
import warnings
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import torch
from lightning_fabric.plugins.environments import LightningEnvironment
from pytorch_lightning.accelerators import AcceleratorRegistry

from genlab.composition.building import build
from genlab.errors import InputError
from genlab.machine.process import OF_RUN, alone
from genlab.training.hooks import Unprofiled

PRECISIONS = ("32-true", "bf16-mixed", "16-mixed")
_SHORT = ("32", "bf16", "16")  # Lightning's other names of these
OF_GENLAB = ("compile", "tf32", "tune", "tune_precision", "tune_seconds")  # which are not Lightning's
_DURATION = re.compile(r"\d+:\d{1,2}:\d{1,2}:\d{1,2}")


def trainer_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Select the trainer's settings that are arguments of Lightning's Trainer.

    Args:
        config: config of the run, as plain values.
    """
    options = {key: value for key, value in config["trainer"].items() if key not in OF_GENLAB}
    return options if options.get("profiler") is not None else {**options, "profiler": Unprofiled()}


def check_trainer(config: Mapping[str, Any]) -> None:
    """Check the settings of the trainer, by building one that is thrown away.

    Args:
        config: config of the run, as plain values.

    Raises:
        InputError: if a setting is wrong, or asks for a device that this machine lacks.
    """
    given = trainer_options(config)
    _check_device(given.get("accelerator", "auto"), given.get("devices", 1))
    if (precision := given.get("precision")) is not None and str(precision) not in PRECISIONS + _SHORT:
        raise InputError(f"trainer.precision={precision}: expected {', '.join(PRECISIONS[:-1])} or {PRECISIONS[-1]}")
    if config["trainer"].get("tf32", False) and (short := str(precision or "32-true")) not in ("32-true", "32"):
        raise InputError(
            f"trainer.tf32=true: it rounds float32 matrix products, and this run has trainer.precision={short}; leave "
            "it out, or give trainer.precision=32-true"
        )
    time = given.get("max_time")
    if time is not None and not (isinstance(time, Mapping | timedelta) or _DURATION.fullmatch(str(time))):
        raise InputError(f"trainer.max_time={time}: expected days:hours:minutes:seconds, such as 00:00:05:00")
    if OF_RUN not in os.environ:  # one of several processes would wait for the others
        with alone(), warnings.catch_warnings():
            warnings.simplefilter("ignore")  # the trainer that trains says them
            # Given, so that Lightning does not look for a cluster, which may have started several runs.
            here = {"strategy": "auto", "num_nodes": 1, "logger": False, "enable_checkpointing": False}
            build({**given, **here, "plugins": [LightningEnvironment()]}, "trainer")


def _check_device(accelerator: Any, devices: Any) -> None:
    """Raise InputError if there is no accelerator of this name, or too few of its devices."""
    if not isinstance(accelerator, str) or accelerator == "auto":
        return
    known = sorted({"cpu", "gpu", *AcceleratorRegistry.available_accelerators()})
    if accelerator not in known:
        raise InputError(f"trainer.accelerator={accelerator}: expected auto, {', '.join(known)}")
    kinds = ["cuda", "mps"] if accelerator == "gpu" else [accelerator]
    found = [kind for kind in kinds if kind == "cpu" or _is_there(kind)]
    if not found:
        name = {"gpu": "GPU", "cuda": "GPU", "mps": "GPU of Apple (MPS)"}.get(accelerator, accelerator)
        asks_for_cuda = accelerator in ("gpu", "cuda") and not torch.backends.cuda.is_built()
        built = ", and this PyTorch is without CUDA" if asks_for_cuda else ""
        raise InputError(
            f"trainer.accelerator={accelerator}: no {name} was found{built}; leave trainer=... out to train on what "
            "there is, or give trainer=cpu"
        )
    there = torch.cuda.device_count()
    asked = max(map(int, devices), default=0) + 1 if isinstance(devices, list) else devices
    if found == ["cuda"] and isinstance(asked, int) and asked > there:
        raise InputError(f"trainer.devices={devices}: this machine has {there} GPU{'s' * (there != 1)}")


def _is_there(kind: str) -> bool:
    try:
        return bool(AcceleratorRegistry.get(kind).is_available())
    except ImportError:  # its library is not installed
        return False


def check_validation(config: Mapping[str, Any], batches: int) -> None:
    """Check that validation happens at least once in an epoch of training if it is asked for by steps.

    Args:
        config: config of the run, as plain values.
        batches: number of batches of an epoch.

    Raises:
        InputError: if it does not.
    """
    given = trainer_options(config)
    limit = given.get("limit_train_batches", 1.0)
    if limit is not None:
        batches = int(batches * limit) if isinstance(limit, float) else min(batches, limit)
    every = given.get("val_check_interval")
    if not isinstance(every, int) or isinstance(every, bool) or given.get("fast_dev_run"):
        return
    if given.get("check_val_every_n_epoch", 1) is not None and every > batches:
        raise InputError(
            f"trainer.val_check_interval={every}: an epoch has {batches} batches; give at most that, or add "
            "trainer.check_val_every_n_epoch=null to count batches across epochs"
        )
