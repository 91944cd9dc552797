"""A finished (or running) run as an object: its config, its model with its weights, its data."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import torch

from genlab.composition.building import build
from genlab.composition.sampling import sampling_settings
from genlab.data.module import DataModule
from genlab.data.tokenizers import TOKENIZER, Tokenizer, load_tokenizer
from genlab.errors import InputError
from genlab.modalities.modality import Modality
from genlab.models.base import GenerativeModel
from genlab.models.weights import AVERAGED, weights_of
from genlab.runs.checkpoints import read_checkpoint
from genlab.runs.folder import CONFIG, SUMMARY, RunFolder
from genlab.runs.moved import current

Weights = Literal["auto", "ema", "raw"]


def load(
    run: str | Path,
    checkpoint: str = "best",
    weights: Weights = "auto",
    device: str | torch.device = "auto",
    dataset: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
) -> "Run":
    """Open a run folder; nothing else is needed.

    Args:
        checkpoint: ``"best"``, ``"last"`` or the path of a file; of a run that keeps no best one, the last is it.
        weights: the averaged ones (``"ema"``), those of training (``"raw"``), or whichever samples (``"auto"``).
        device: ``"auto"`` is a GPU where there is one.
        dataset: changes to the run's dataset config, such as where the files lie on this machine.
        sampling: changes to the run's settings of sampling, ``{"temperature": 0.8}``, by which its model is sampled
            where it is given no others.

    Raises:
        InputError: where the folder, or its checkpoint, is missing, damaged or does not match the config.
    """
    from omegaconf import OmegaConf

    folder = RunFolder.open(run)
    loaded = OmegaConf.load(folder.path / CONFIG)
    changes = {"dataset": dict(dataset or {}), "sampling": dict(sampling or {})}
    config = current(OmegaConf.to_container(OmegaConf.merge(loaded, changes)))
    if not isinstance(config, dict) or not {"model", "dataset"} <= config.keys():
        raise InputError(f"{folder.path / CONFIG} is damaged: it has no model and dataset")
    if checkpoint == "best" and not (config.get("callbacks") or {}).get("best"):
        checkpoint = "last"
    return Run(folder, config, checkpoint, weights, device_named(device))


def device_named(device: str | torch.device) -> torch.device:
    """A device by its name, checked; ``"auto"`` is a GPU where there is one."""
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device}: {str(error).splitlines()[0]}") from error
    return torch.device(device)


@dataclass
class Run:
    """What :func:`load` gives.

    Attributes:
        config: resolved, plain values.
        summary: of ``summary.json``; empty while the run is going on.
    """

    folder: RunFolder
    config: dict[str, Any]
    checkpoint: str
    weights: Weights
    device: torch.device
    used_weights: str = field(default="", init=False)

    @cached_property
    def model(self) -> GenerativeModel:
        """The trained model, in evaluation mode, with the run's settings of sampling as its own."""
        model = build(self.config["model"], "model")
        assert isinstance(model, GenerativeModel)
        model.sampling = sampling_settings(model, self.config["sampling"])
        model.load_state_dict(self._state(model))
        return model.to(self.device).eval()

    @cached_property
    def data(self) -> DataModule:
        """The data it was trained on."""
        data = build(self.config["dataset"], "dataset")
        assert isinstance(data, DataModule)
        data.setup()
        return data

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Of a model of text; the text itself is not needed."""
        return load_tokenizer(self.folder.path / TOKENIZER)

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        """What the model draws as what people look at: of a prior over codes, the images of the codes."""
        return self._data_without_examples.decode(x)

    @property
    def modality(self) -> Modality:
        """The kind of data that people look at; the data itself is not needed."""
        return self._data_without_examples.pictured.modality

    @property
    def is_coded(self) -> bool:
        """Whether the model sees something else than what people look at, such as codes of images."""
        return self._data_without_examples.pictured is not self._data_without_examples

    @cached_property
    def _data_without_examples(self) -> DataModule:
        data = build(self.config["dataset"], "dataset")
        assert isinstance(data, DataModule)
        return data

    @cached_property
    def summary(self) -> dict[str, Any]:
        return self.folder.read_json(SUMMARY)

    @property
    def checkpoint_path(self) -> Path:
        if self.checkpoint in ("best", "last"):
            return self.folder.checkpoints / f"{self.checkpoint}.ckpt"
        return Path(self.checkpoint)

    def _state(self, model: GenerativeModel) -> dict[str, torch.Tensor]:
        path = self.checkpoint_path
        if not path.is_file():
            there = sorted(p.stem for p in self.folder.checkpoints.glob("*.ckpt"))
            raise InputError(f"there is no checkpoint {path} (there is {', '.join(there) or 'none yet'})")
        try:
            state = read_checkpoint(path)["state_dict"]
        except InputError as error:
            raise InputError(f"{error}: try checkpoint=last") from error
        has_ema = any(name.startswith(AVERAGED) for name in state)
        kind = ("ema" if has_ema else "raw") if self.weights == "auto" else self.weights
        weights = weights_of(model, state, kind)
        if not weights:
            raise InputError(f"{path} has no {kind} weights (training.ema_decay was not set)")
        _match(weights, model, path)
        self.used_weights = kind
        return weights


def _match(weights: dict[str, torch.Tensor], model: GenerativeModel, path: Path) -> None:
    expected = {name: value.shape for name, value in model.state_dict().items() if isinstance(value, torch.Tensor)}
    found = {name: value.shape for name, value in weights.items() if isinstance(value, torch.Tensor)}
    if expected == found:
        return
    wrong = sorted(name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name))
    name = wrong[0]
    raise InputError(
        f"{path} does not match the run's config in {len(wrong)} of {len(expected)} weights, such as {name}: the "
        f"checkpoint has {_words(found.get(name))}, the config asks for {_words(expected.get(name))}"
    )


def _words(shape: torch.Size | None) -> str:
    return "none" if shape is None else str(list(shape))
