"""OmegaConf resolvers that configs use, such as ``${genlab.name:...}``."""

import json
import secrets
import time
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf

from genlab.composition.building import build
from genlab.errors import InputError
from genlab.machine import gpus


def run_name(experiment: str | None, model: str | None, dataset: str | None) -> str:
    """Name the folder that a run's folder lies in: the experiment, or else ``model-dataset``.

    Args:
        experiment: name of the experiment's config, if one was chosen.
        model: name of the model's config, such as ``vae/vae``.
        dataset: name of the dataset's config.
    """
    if experiment:
        return experiment.replace("/", "-")
    return "-".join(part.rsplit("/", 1)[-1] for part in (model, dataset) if part)


def unique_name() -> str:
    """Make a name that sorts by time, and that differs from others made in the same second."""
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(4)


def default_precision(accelerator: str) -> str:
    """Choose ``bf16-mixed`` if the device multiplies in bfloat16 (instead of converting to float32), else ``32-true``.

    Args:
        accelerator: Lightning's name of the accelerator.
    """
    from genlab.machine.devices import computes_in_bfloat16

    return "bf16-mixed" if computes_in_bfloat16(accelerator) else "32-true"


def codes_of(run: str, key: str) -> Any:
    """Look up a property of the codes that a finished run's model (such as a VQ-VAE) produces.

    Args:
        run: folder of the run.
        key: property: ``shape``, ``levels`` or ``num_classes``.

    Raises:
        InputError: if the run is not finished, or its model has no codes.
    """
    return _fact(run, "codes", key, "its model has no codes; give a run of model=vae/vq_vae")


def latents_of(run: str, key: str) -> Any:
    """Look up a property of the latents that a finished run's model (such as a VAE) produces.

    Args:
        run: folder of the run.
        key: property: ``shape`` or ``num_classes``.

    Raises:
        InputError: if the run is not finished, or its model has no latents.
    """
    return _fact(run, "latents", key, "its model has no latents, or is of an older version; give a run of a VAE")


def _fact(run: str, of: str, key: str, without: str) -> Any:
    path = Path(run).expanduser() / "summary.json"
    try:
        return json.loads(path.read_text(encoding="utf-8"))[of][key]
    except OSError:
        raise InputError(f"dataset.run={run} is no finished run: there is no {path}") from None
    except (KeyError, ValueError, TypeError):
        raise InputError(f"dataset.run={run}: {without}") from None


def vocabulary_of(source: DictConfig, tokenizer: DictConfig) -> int:
    """Count the tokens of a tokenizer; the text is read only if the count depends on it.

    Args:
        source: config of the text's source.
        tokenizer: config of the tokenizer.

    Raises:
        InputError: if the text cannot be found, or a value of its config is missing.
    """
    from genlab.data.tokenizers import vocabulary

    if missing := OmegaConf.missing_keys(source):
        raise InputError(f"no value for {min(missing)} (give it as {min(missing)}=...)")
    made = build(tokenizer, "tokenizer")
    return vocabulary(made, lambda: build(source, "dataset.source").read(), tokenizer.get("vocab_size"))


def classes_of(source: DictConfig) -> int | None:
    """Count the classes of pictures in a folder; None if there are fewer than two.

    Args:
        source: config of the images' source.

    Raises:
        InputError: if the folder cannot be read or has no images, or a value of its config is missing.
    """
    from genlab.data.picture_source import PictureSource

    if missing := OmegaConf.missing_keys(source):
        raise InputError(f"no value for {min(missing)} (give it as {min(missing)}=...)")
    made = build(source, "dataset.source")
    return len(made.class_names()) or None if isinstance(made, PictureSource) else None


def uci_width(name: str) -> int:
    """Look up the number of bits of an example of a binary UCI data set.

    Args:
        name: name of the data set.

    Raises:
        InputError: if there is no data set of this name.
    """
    from genlab.data.uci_binary import WIDTHS

    if name not in WIDTHS:
        raise InputError(f"dataset.name={name}: choose {', '.join(WIDTHS)}")
    return WIDTHS[name]


OmegaConf.register_new_resolver("genlab.name", run_name, replace=True)
OmegaConf.register_new_resolver("genlab.codes", codes_of, replace=True)
OmegaConf.register_new_resolver("genlab.latents", latents_of, replace=True)
OmegaConf.register_new_resolver("genlab.vocabulary", vocabulary_of, replace=True)
OmegaConf.register_new_resolver("genlab.classes", classes_of, replace=True)
OmegaConf.register_new_resolver("genlab.uci_width", uci_width, replace=True)
OmegaConf.register_new_resolver("genlab.sweep", lambda resumed, new: resumed or new, replace=True)
OmegaConf.register_new_resolver("genlab.num_gpus", lambda: len(gpus.visible()), replace=True)
OmegaConf.register_new_resolver("genlab.gpu", gpus.claim, replace=True)
OmegaConf.register_new_resolver("genlab.precision", default_precision, replace=True)
# Cached, so that all jobs of a sweep read the same name.
OmegaConf.register_new_resolver("genlab.unique", unique_name, replace=True, use_cache=True)
