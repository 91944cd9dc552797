"""What configs ask for: ``${genlab.name:...}`` and its like."""

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
    """The experiment, or else ``model-dataset``: the folder that a run's folder lies in."""
    if experiment:
        return experiment.replace("/", "-")
    return "-".join(part.rsplit("/", 1)[-1] for part in (model, dataset) if part)


def unique_name() -> str:
    """Sorts by time, and differs whatever else starts in the same second."""
    return time.strftime("%Y%m%d-%H%M%S-") + secrets.token_hex(4)


def default_precision(accelerator: str) -> str:
    """``bf16-mixed`` where the device multiplies in bfloat16, and does not merely convert; else ``32-true``."""
    from genlab.machine.devices import computes_in_bfloat16

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
