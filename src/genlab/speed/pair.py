"""Measure how fast a model trains and samples on a dataset, compared with a minimal loop."""

import copy
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytorch_lightning as pl
import torch

from genlab.composition.building import build
from genlab.composition.named_parts import named
from genlab.errors import InputError
from genlab.loggers.tracker import Tracker
from genlab.machine.rate import rate
from genlab.metrics.drawing import draw, evaluating
from genlab.models.diffusion.diffusion_model import DiffusionModel
from genlab.speed.loops import GenlabLoop
from genlab.speed.plain_process import plain_process
from genlab.speed.rounds import Timing, interleaved, synchronize
from genlab.training.parts import assemble
from genlab.tuning.candidates import Tuning
from genlab.tuning.tune import tuned

SAME, OWN = "genlab, same precision", "genlab"


@dataclass
class Pair:
    """Measurements of one model on one dataset, in seconds.

    Attributes:
        model: name of the model's config.
        dataset: name of the dataset's config.
        device: device that was measured.
        precision: precision of genlab with its own defaults.
        channels_last: whether genlab uses the channels-last memory format by default.
        compiled: whether and how genlab compiles the model by default, as ``trainer.compile`` says it.
        tf32: whether its float32 matrix products are rounded to TF32.
        tuned: what ``trainer.tune`` measured and chose; None if it did not.
        parameters: number of parameters of the model.
        batch_size: number of examples in a batch.
        steps: seconds per step of each contender: ``plain``, ``genlab, same precision`` and ``genlab``.
        shares: seconds that each stage of a plain step takes, and as ``framework`` what genlab adds at the same
            precision.
        num_samples: number of samples drawn in a round; 0 if sampling was not measured.
        sampling: seconds to draw ``num_samples``; None if sampling was not measured.
        unit: unit of speeds, such as ``images/s``.
        per_example: how many of what the unit counts an example has.
        evaluations: seconds that the network evaluations of these samples alone take; None if they are not counted.
    """

    model: str
    dataset: str
    device: str
    precision: str
    channels_last: bool
    compiled: bool | str
    tf32: bool
    parameters: int
    batch_size: int
    steps: dict[str, Timing]
    shares: dict[str, float] = field(default_factory=dict)
    num_samples: int = 0
    sampling: Timing | None = None
    evaluations: Timing | None = None
    tuned: dict[str, Any] | None = None
    unit: str = "images/s"
    per_example: int = 1

    def overhead(self) -> float:
        """Give the time of genlab's step divided by the plain step's, both in float32 and uncompiled."""
        return self.steps[SAME].times(self.steps["plain"])

    def speedup(self) -> float:
        """Give the time of the plain step divided by that of genlab's step with its own defaults."""
        return self.steps["plain"].times(self.steps[OWN])

    def images_per_second(self, contender: str) -> float:
        """Give the number of training images per second of a contender (a key of ``steps``)."""
        return self.batch_size / self.steps[contender].median

    def rate(self, contender: str) -> str:
        """Write the speed of a contender in :attr:`unit`, which stands above."""
        return rate(self.per_example * self.images_per_second(contender))


def measure_pair(
    config: dict[str, Any],
    *,
    rounds: int = 5,
    steps: int | None = None,
    seconds: float = 2.0,
    num_samples: int = 64,
    advance: Callable[[int], None] | None = None,
    overrides: Iterable[str] = (),
) -> Pair:
    """Time the contenders in turns, then the stages of a plain step, then sampling.

    Args:
        config: config of ``genlab train``, resolved, whose ``run_dir`` exists and will be thrown away.
        rounds: number of rounds, in each of which every contender has a turn.
        steps: number of steps in a turn; None for as many as the plain loop takes in ``seconds``.
        seconds: duration of a turn of the plain loop, if ``steps`` is None.
        num_samples: number of samples to draw in a round; 0 to leave sampling out.
        advance: callback for a progress bar, called with 1 after every turn.
        overrides: overrides of the config, which ``trainer.tune`` leaves as they are.

    Raises:
        InputError: if the config is wrong, or the training set is too small to time a step on.
    """
    same = copy.deepcopy(config)
    same["trainer"] |= {"precision": "32-true", "compile": False, "tf32": False}
    same["training"] |= {"channels_last": False}
    built = {SAME: assemble(same), OWN: assemble(config)}
    tuning = Tuning.from_config(config["trainer"], processes=1)
    if (chosen := tuned(config, built[OWN], tuning, overrides, endless=True)) is not None:
        config = {**config, "trainer": {**config["trainer"], **chosen["chosen"]}}
    device = _device(config)
    with plain_process(same, device) as plain, run_callbacks(config) as (callbacks, loggers):
        like = GenlabLoop(same["trainer"], built[SAME].training, built[SAME].data, callbacks(), loggers)
        own = GenlabLoop(config["trainer"], built[OWN].training, built[OWN].data, callbacks(), loggers)
        epoch = plain.num_images // plain.batch_size
        num = min(epoch - 1 - own.warmup, steps or max(2, round(seconds / plain.seconds_per_step(1))))
        if num < 1:
            raise InputError(f"{plain.num_images} training images are too few to time batches of {plain.batch_size}")
        own.seconds_per_step(1)  # compiles the model, if the config asks for it
        timings = interleaved(
            {
                "plain": lambda: plain.seconds_per_step(num),
                SAME: lambda: like.seconds_per_step(num),
                OWN: lambda: own.seconds_per_step(num),
            },
            rounds,
            advance,
        )
        spent = plain.stages(num)
    pair = Pair(
        model=config["choices"]["model"],
        dataset=config["choices"]["dataset"],
        device=str(device),
        precision=str(config["trainer"]["precision"]),
        channels_last=bool(config["training"]["channels_last"]),
        compiled=config["trainer"]["compile"],
        tf32=bool(config["trainer"].get("tf32", False)),
        tuned=chosen,
        parameters=sum(p.numel() for p in built[OWN].model.parameters()),
        batch_size=plain.batch_size,
        steps=timings,
        unit=built[OWN].data.modality.unit_of_speed,
        per_example=built[OWN].data.modality.counted_in(built[OWN].model.shape),
    )
    if spent.keys() == {"data"}:
        spent["both players"] = timings["plain"].median - spent["data"]
    pair.shares = {**spent, "framework": timings[SAME].median - timings["plain"].median}
    if num_samples:
        model = built[OWN].training.sampling_model.to(device)

        def sample() -> None:
            draw(model, num_samples, seed=0)
            synchronize(device)

        tasks = {"sampling": sample}
        if isinstance(model, DiffusionModel) and (count := model.evaluations()) is not None:
            tasks["evaluations"] = lambda: _evaluate(model, num_samples, count)
        for task in tasks.values():
            task()
        # Two turns a round in any case, so that the bar's length is known beforehand.
        turns = None if advance is None else lambda _: advance(2 // len(tasks))
        found = interleaved(tasks, min(rounds, 3), turns)
        pair.num_samples, pair.sampling = num_samples, found["sampling"]
        pair.evaluations = found.get("evaluations")
    return pair


def _evaluate(model: DiffusionModel, num_samples: int, count: int) -> None:
    """Evaluate the network of a model as often as sampling does, and do nothing else."""
    device = model.device
    with evaluating(model):
        h = torch.randn(num_samples, *model.shape, device=device)
        times = torch.rand(num_samples, model.num_times, device=device)
        y = None if model.num_classes is None else torch.zeros(num_samples, dtype=torch.long, device=device)
        for _ in range(count):
            model.network(h, times, y)
    synchronize(device)


def _device(config: dict[str, Any]) -> torch.device:
    accelerator = config["trainer"]["accelerator"]
    on_gpu = accelerator in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if on_gpu else "cpu")


def _nothing(trainer: pl.Trainer, module: pl.LightningModule) -> None:
    """Do nothing when training ends."""


@contextmanager
def run_callbacks(config: dict[str, Any]) -> Iterator[tuple[Callable[[], list[Any]], list[Any]]]:
    """Give a function that builds the config's callbacks, and the config's loggers."""

    def callbacks() -> list[Any]:
        # The best checkpoint belongs to validation, and pictures of the end to the end: neither is measured.
        nodes = [(name, node) for name, node in named(config["callbacks"]) if name not in ("progress", "best")]
        built = [build(node, f"callbacks.{name}") for name, node in nodes]
        for callback in built:
            callback.on_fit_end = _nothing
        return built

    loggers = [build(node, f"logger.{name}") for name, node in named(config["logger"])]
    try:
        yield callbacks, loggers
    finally:
        for logger in loggers:
            if isinstance(logger, Tracker):
                logger.close()
