"""Build the parts of a run from its config: data, model, training procedure, evaluation."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch

from genlab.composition.building import build, checked, located
from genlab.composition.sampling import sampling_settings
from genlab.data.module import DataModule
from genlab.errors import InputError
from genlab.machine.devices import tune_processor
from genlab.metrics.drawing import own_randomness
from genlab.metrics.evaluation import Evaluation
from genlab.models.base import GenerativeModel
from genlab.training.budget import check_budget
from genlab.training.initial_weights import Match
from genlab.training.module import TrainingModule
from genlab.training.trainer_settings import check_trainer, check_validation


@dataclass
class Parts:
    """The built parts of a run.

    Attributes:
        data: data set, set up.
        model: model with initialized weights.
        training: training procedure, which holds the model.
        evaluation: evaluation to measure the trained model by.
        match: how the weights of another run fitted the model; None if it does not start from any.
    """

    data: DataModule
    model: GenerativeModel
    training: TrainingModule
    evaluation: Evaluation
    match: Match | None = None


def assemble(
    config: dict[str, Any],
    trained_on: Mapping[str, Any] | None = None,
    start: Callable[[GenerativeModel], Match] | None = None,
) -> Parts:
    """Build the parts of a run, and check the rest of its config; nothing is written.

    Args:
        config: config of the run, as plain values.
        trained_on: identity of the data that a run to resume was trained on so far; None for a run that begins.
        start: function that copies another run's weights into the initialized model; None for its own weights.

    Raises:
        InputError: if anything in the config is wrong, and the message names the key; or if the data is not that which
            the run was trained on.
    """
    check_budget(config)
    pl.seed_everything(config["seed"], workers=True, verbose=False)
    tune_processor()  # before the model sees data for the first time, as in training
    # Checked before the model is built, because a model of images cannot make sense of the shape of other data.
    check_kind(config)
    check_trainer(config)
    model = build(config["model"], "model")
    if not isinstance(model, GenerativeModel):
        raise InputError(f"model: {type(model).__name__} is not a genlab model (a GenerativeModel)")
    model.sampling = sampling_settings(model, config.get("sampling") or {})
    data = build(config["dataset"], "dataset")
    if not isinstance(data, DataModule):
        raise InputError(f"dataset: {type(data).__name__} is not a genlab data set (a DataModule)")
    if model.num_classes is not None and model.num_classes != data.num_classes:
        raise InputError(
            f"model.num_classes={model.num_classes}, and dataset={config['choices']['dataset']} has "
            f"{data.num_classes or 'no'} classes"
        )
    if trained_on is not None:
        data.hold_out_as(trained_on)
    data.setup()
    if trained_on is not None and (changes := data.difference(trained_on)):
        raise InputError(
            f"the run was trained on other data than dataset={config['choices']['dataset']} is now, and cannot go on "
            f"with it: {changes}; put the data back as it was, or begin a new run"
        )
    x, y = data.some("train", data.num_initial)
    with own_randomness(config["seed"], x.device), torch.no_grad():
        model.initialize(x, y)
    match = None if start is None else start(model)
    check_validation(config, len(data.train_dataloader()))
    for key in ("callbacks", "logger"):
        checked(config[key], key)
    training = build({**config["training"], "model": model}, "training")
    training.check(data)
    evaluation = build(config["metrics"], "metrics")
    evaluation.check_memory(model, data)
    return Parts(data, model, training, evaluation, match)


def check_kind(config: Mapping[str, Any]) -> None:
    """Check that a model is one of the kind of data that it is to be trained on.

    Args:
        config: config of the run; its interpolations need not be resolved, as those of the model cannot be if the data
            is of another kind.

    Raises:
        InputError: if it is not.
    """
    kinds = getattr(located(config["model"].get("_target_", ""), "model"), "kinds", None)
    if kinds is not None and (kind := config["dataset"]["kind"]) not in kinds:
        raise InputError(
            f"model={config['choices']['model']} models {' and '.join(sorted(kinds))} data, and "
            f"dataset={config['choices']['dataset']} is {kind}"
        )
