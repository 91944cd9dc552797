"""Open a run folder as an object with the run's config, its trained model and its data."""

import sys
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from genlab.composition.building import build
from genlab.composition.sampling import sampling_settings
from genlab.composition.trust import own_values, trust_modules
from genlab.data.examples import NamesClasses
from genlab.data.module import DataModule
from genlab.data.tokenizers import TOKENIZER, Tokenizer, load_tokenizer
from genlab.errors import InputError
from genlab.metrics.result import Result
from genlab.modalities.modality import Modality
from genlab.models.base import GenerativeModel
from genlab.runs.config import config_to_build, with_data_of_this_machine
from genlab.runs.folder import STATUS, SUMMARY, RunFolder
from genlab.runs.frames import logged
from genlab.runs.stored_weights import Weights as Weights
from genlab.runs.stored_weights import data_of_file, stored_weights, weights_file


def load(
    run: str | Path,
    checkpoint: str = "best",
    weights: Weights = "auto",
    device: str | torch.device = "auto",
    dataset: Mapping[str, Any] | None = None,
    sampling: Mapping[str, Any] | None = None,
    trust: str | Collection[str] = (),
) -> "Run":
    """Open a finished or running run from its folder; nothing else is needed.

    The model and the data are built when they are first used. Their config may be a stranger's: it may name genlab's
    own classes, those that ``conf/`` names, what this user has trained with on this machine, and what is trusted.

    Args:
        run: folder of the run.
        checkpoint: ``"best"``, ``"last"`` or the path of a file; if the run keeps no best checkpoint, ``"best"`` gives
            the last one.
        weights: ``"ema"`` for the averaged weights, ``"raw"`` for those of training, ``"auto"`` for the averaged ones
            if there are some; a number for the average of this width, put together from snapshots
            (:mod:`genlab.runs.averages`), of the whole training.
        device: device of the model; ``"auto"`` for a GPU if there is one, else the CPU.
        dataset: changes to the run's dataset config, such as where the files lie on this machine.
        sampling: changes to the run's sampling settings, such as ``{"temperature": 0.8}``; they become the model's
            default settings.
        trust: import paths of modules whose code the run's config may name besides, such as ``"my_package"``; they
            stay trusted in this process.

    Raises:
        InputError: if the folder is missing or damaged, or its config names code that is not trusted; a bad checkpoint
            is found when the model is first used.

    Examples:
        >>> import genlab
        >>> trained = genlab.train(model__networks__hidden=[16], logger="csv", debug="limit")
        >>> run = genlab.load(trained.folder.path, device="cpu", sampling={"temperature": 0.5})
        >>> run.model.sample(2).shape, run.model.sampling.temperature
        (torch.Size([2, 1, 8, 8]), 0.5)
    """
    from omegaconf import OmegaConf

    trust_modules(trust)
    folder = RunFolder.open(run)
    saved = with_data_of_this_machine(config_to_build(folder))
    changes = {"dataset": dict(dataset or {}), "sampling": dict(sampling or {})}
    own_values(changes)
    config: Any = OmegaConf.to_container(OmegaConf.merge(OmegaConf.create(saved), changes))
    config["metrics"] = config.get("metrics") or {}
    if checkpoint == "best" and (isinstance(weights, float) or not (config.get("callbacks") or {}).get("best")):
        checkpoint = "last"  # averages of a width are those at the end of the training
    return Run(folder, config, checkpoint, weights, device_named(device))


def device_named(device: str | torch.device) -> torch.device:
    """Give a device by its name.

    Args:
        device: name such as ``"cuda:1"``; ``"auto"`` for a GPU if there is one, else the CPU.

    Raises:
        InputError: if there is no such device.
    """
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise InputError(f"device={device}: {str(error).splitlines()[0]}") from error
    return torch.device(device)


@dataclass
class Run:
    """A run opened by :func:`load`.

    Attributes:
        folder: folder of the run.
        config: config of the run, resolved into plain values.
        checkpoint: checkpoint to load: ``"best"``, ``"last"`` or the path of a file.
        weights: weights to load: ``"ema"``, ``"raw"``, ``"auto"`` or the width of an average.
        device: device of the model.
        used_weights: weights that were loaded, ``"ema"`` or ``"raw"``; empty until :attr:`model` is first used.
        other_data: what is unlike in :attr:`data` and the examples that the run was trained on, in words; None if
            nothing is, or :attr:`data` was not used yet.
    """

    folder: RunFolder
    config: dict[str, Any]
    checkpoint: str
    weights: Weights
    device: torch.device
    used_weights: str = field(default="", init=False)
    other_data: str | None = field(default=None, init=False)
    _trained_on: dict[str, Any] | None = field(default=None, init=False, repr=False)

    @cached_property
    def model(self) -> GenerativeModel:
        """Trained model in evaluation mode, with the run's sampling settings as its defaults.

        Raises:
            InputError: if the checkpoint is missing, is damaged or does not match the config.
        """
        model = build(self.config["model"], "model")
        if not isinstance(model, GenerativeModel):
            raise InputError(f"model: {type(model).__name__} is not a genlab model (a GenerativeModel)")
        model.sampling = sampling_settings(model, self.config["sampling"])
        model.load_state_dict(self._state(model))
        return model.to(self.device).eval()

    @cached_property
    def data(self) -> DataModule:
        """Data that the run was trained on, with its splits; a line on stderr says if it has changed since.

        Raises:
            InputError: if the data is missing, or the checkpoint, which says how it was split, is damaged.
        """
        data = self._build_data()
        if self._trained_on is None and self.checkpoint_path.is_file():
            self._trained_on = data_of_file(self.checkpoint_path)
        if self._trained_on is not None:  # a run without a checkpoint has not been trained
            data.hold_out_as(self._trained_on)
            data.setup()
            self.other_data = data.difference(self._trained_on or self._sizes(data))
        data.setup()
        if self.other_data:
            print(
                f"genlab: {self.folder.path} was trained on other data than this: {self.other_data}; what is "
                "validation or test data now may have been trained on",
                file=sys.stderr,
            )
        return data

    def _sizes(self, data: DataModule) -> dict[str, Any]:
        """Give the sizes of the splits that the run's results state, for checkpoints that do not say what data is."""
        for result in self.summary.get("metrics", {}).values():
            protocol = result.get("protocol", {})
            if protocol.get("dataset") == data.name and "sizes" in protocol:
                return {"sizes": protocol["sizes"]}
        return {}

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """Tokenizer of a model of text, read from the run folder; the text itself is not needed."""
        return load_tokenizer(self.folder.path / TOKENIZER)

    def decode(self, x: torch.Tensor) -> torch.Tensor:
        """Turn what the model draws into what people look at: the codes of a prior over codes become images.

        Args:
            x: samples of the model, ``(B, *shape)``.
        """
        return self._data_without_examples.decode(x)

    @property
    def modality(self) -> Modality:
        """Kind of data that people look at; the data itself is not loaded."""
        return self._data_without_examples.pictured.modality

    @property
    def is_coded(self) -> bool:
        """Tell whether the model learns something other than what people look at, such as codes of images."""
        return self._data_without_examples.pictured is not self._data_without_examples

    @property
    def levels(self) -> int | None:
        """Number of values of each dimension of what the model sees, such as grey levels; None for real numbers."""
        return self._data_without_examples.levels

    @property
    def class_names(self) -> list[str]:
        """Names of the classes, in the order of their numbers; empty if the data has none, or is not here."""
        source = self._data_without_examples.source
        try:
            return source.class_names() if isinstance(source, NamesClasses) else []
        except InputError:
            return []

    @cached_property
    def _data_without_examples(self) -> DataModule:
        return self._build_data()

    def _build_data(self) -> DataModule:
        data = build(self.config["dataset"], "dataset")
        if not isinstance(data, DataModule):
            raise InputError(f"dataset: {type(data).__name__} is not a genlab data set (a DataModule)")
        return data

    @cached_property
    def summary(self) -> dict[str, Any]:
        """Content of ``summary.json``; empty until the run is finished."""
        return self.folder.read_json(SUMMARY)

    @property
    def metrics(self) -> Any:
        """Curves of the training, a pandas DataFrame: ``images_seen``, ``seconds``, and a column per logged figure.

        Raises:
            InputError: if pandas is not installed, or the run has logged nothing.
        """
        return logged(self.folder)

    @property
    def figures(self) -> dict[str, Result]:
        """Results of the end of training, with their protocols, by name; empty until the run is finished."""
        return {name: Result.from_json(one) for name, one in (self.summary.get("metrics") or {}).items()}

    @property
    def status(self) -> str:
        """Status of the run, such as ``"done"``; ``"unknown"`` if the folder does not say."""
        return str(self.folder.read_json(STATUS).get("status", "unknown"))

    @property
    def trained_on(self) -> dict[str, Any]:
        """Identity of the data that the weights were trained on; empty until :attr:`model` or :attr:`data` is used."""
        return dict(self._trained_on or {})

    @property
    def checkpoint_path(self) -> Path:
        """Path of the file that the weights are read from."""
        return weights_file(self.folder, self.checkpoint)

    def _state(self, model: GenerativeModel) -> dict[str, torch.Tensor]:
        path = self.checkpoint_path
        if not path.is_file():
            there = sorted(p.stem for p in self.folder.checkpoints.glob("*.ckpt"))
            raise InputError(f"there is no checkpoint {path} (there is {', '.join(there) or 'none yet'})")
        try:
            stored = stored_weights(path, self.weights, model)
        except InputError as error:
            is_best = self.checkpoint == "best" and path.suffix == ".ckpt"
            raise InputError(f"{error}: try checkpoint=last" if is_best else str(error)) from error
        self._trained_on = stored.trained_on
        _match(stored.weights, model, stored.path)
        self.used_weights = stored.kind
        return stored.weights


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
