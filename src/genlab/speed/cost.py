"""What a training step costs in operations, bytes and memory, for any size of a batch, counted on two small ones."""

import copy
import math
from collections import Counter
from dataclasses import dataclass
from typing import Any

import torch

from genlab.errors import Diverged, InputError
from genlab.speed.counting import Count, StepCounter
from genlab.speed.loops import GenlabLoop
from genlab.training.adversarial import AdversarialTraining
from genlab.training.module import TrainingModule
from genlab.training.parts import Parts, assemble

SMALLEST = 4  # examples in the smaller of the two batches that are counted
SHARE = 8  # of the batch, which the smaller of them has, if that is more
LONGEST = 64  # batches that are counted at most


@dataclass(frozen=True)
class Line:
    """A figure that grows linearly with the size of a batch: ``fixed + each * size``."""

    fixed: float
    each: float

    def at(self, size: float) -> float:
        """Give the figure for a batch of a size, which is never negative."""
        return max(0.0, self.fixed + self.each * size)

    @classmethod
    def through(cls, first: tuple[int, float], second: tuple[int, float]) -> "Line":
        """Make the line through two points ``(size, figure)``."""
        each = (second[1] - first[1]) / (second[0] - first[0])
        return cls(first[1] - each * first[0], each)


@dataclass(frozen=True)
class Cost:
    """What a training step of a model on a dataset costs, as genlab takes it with its precision, but not compiled.

    A step is a batch; if not all batches do the same, as in a game with a penalty in every 16th, it is their mean.

    Attributes:
        model: name of the model's config.
        dataset: name of the dataset's config.
        precision: precision of training.
        batch_size: number of examples in a batch, as configured.
        counted: sizes of the batches that were counted.
        batches: number of batches of each size that were counted.
        flops: operations of a step by their kind.
        modules: operations of a step by the class of the innermost module that does them.
        bytes_moved: bytes that the operations of a step read and write.
        saved: bytes that are kept for backward passes.
        grown: bytes that a step holds at most beyond what is there when it begins.
        weights: bytes of the weights and buffers.
        averaged: bytes of averaged weights.
        gradients: bytes of the gradients.
        optimizer: bytes of the state of the optimizers.
        data: bytes of the training examples, which lie on the device; 0 if they are read from files.
        unit: unit of speeds, such as ``images/s``.
        per_example: how many of what the unit counts an example has.
    """

    model: str
    dataset: str
    precision: str
    batch_size: int
    counted: tuple[int, int]
    batches: int
    flops: dict[str, Line]
    modules: dict[str, Line]
    bytes_moved: Line
    saved: Line
    grown: Line
    weights: int
    averaged: int
    gradients: int
    optimizer: int
    data: int
    unit: str = "images/s"
    per_example: int = 1

    def total_flops(self, size: float) -> float:
        """Give the operations of a step with a batch of a size."""
        return sum(line.at(size) for line in self.flops.values())

    def memory(self, size: float) -> float:
        """Predict the largest memory of a step, in bytes: what is there when it begins, and what it adds.

        When the backward pass begins, gradients of the step before are still there. With small batches, a step may hold
        the most elsewhere, as in the optimizer, and the line of what is saved says more of large ones: the larger one
        counts. What an operation needs inside, and what the allocator keeps free, come on top.
        """
        kept = self.weights + self.averaged + self.gradients + self.optimizer
        return kept + self.data + self.added(size)

    def added(self, size: float) -> float:
        """Give the bytes that a step adds to what is there when it begins."""
        return max(self.saved.at(size), self.grown.at(size))


def count_cost(config: dict[str, Any]) -> Cost:
    """Count what a training step costs by training on small batches of two sizes.

    Args:
        config: config of ``genlab train``, resolved, whose ``run_dir`` exists and will be thrown away.

    Raises:
        InputError: if the config is wrong, or the training set is too small.
    """
    config = copy.deepcopy(config)
    config["trainer"]["compile"] = False
    parts = assemble(config)
    batch_size = parts.data.batch_size
    small = max(min(batch_size, SMALLEST), batch_size // SHARE)
    small = math.ceil(small / pack) * pack if (pack := getattr(parts.model, "pack", 1)) > 1 else small
    sizes = small, 2 * small
    cycle = min(LONGEST, _cycle(parts.training))
    first, second = (_count(config, parts, size, cycle) for size in sizes)

    def line(of: float, and_of: float) -> Line:
        return Line.through((sizes[0], of / cycle), (sizes[1], and_of / cycle))

    def lines(of: Counter[str], and_of: Counter[str]) -> dict[str, Line]:
        return {kind: line(of[kind], and_of[kind]) for kind in sorted(of | and_of, key=lambda kind: -and_of[kind])}

    train = parts.data.splits["train"].images
    return Cost(
        model=config["choices"]["model"],
        dataset=config["choices"]["dataset"],
        precision=str(config["trainer"]["precision"]),
        batch_size=batch_size,
        counted=sizes,
        batches=cycle,
        unit=parts.data.modality.unit_of_speed,
        per_example=parts.data.modality.counted_in(parts.model.shape),
        flops=lines(first.flops, second.flops),
        modules=lines(first.modules, second.modules),
        bytes_moved=line(first.bytes_moved, second.bytes_moved),
        saved=Line.through((sizes[0], first.saved), (sizes[1], second.saved)),
        grown=Line.through((sizes[0], first.grown), (sizes[1], second.grown)),
        weights=second.weights,
        averaged=second.averaged,
        gradients=second.gradients,
        optimizer=second.optimizer,
        data=0 if train is None else train.numel() * train.element_size(),
    )


def _cycle(training: TrainingModule) -> int:
    """Count the batches after which training does the same again."""
    if not isinstance(training, AdversarialTraining):
        return training.accumulate
    of_discriminator = [penalty.every for penalty in training.regularizers.values()]
    of_generator = [penalty.every for penalty in training.generator_regularizers.values()]
    turns = training.discriminator_steps * math.lcm(*of_generator)
    return training.accumulate * math.lcm(turns, *of_discriminator)


def _count(config: dict[str, Any], parts: Parts, size: int, cycle: int) -> Count:
    counter = StepCounter(warmup=1)
    parts.data.batch_size = size
    # Without other callbacks, Lightning would write a checkpoint to the current folder.
    trainer = config["trainer"] | {"enable_checkpointing": False}
    loop = GenlabLoop(trainer, parts.training, parts.data, [counter], [])
    try:
        with torch.random.fork_rng():
            loop.seconds_per_step(cycle)
    except Diverged:  # as some models do on small batches with a large rate; it is seen when all is counted
        if counter.count.batches < cycle:
            raise
    except InputError:
        raise
    except ValueError as error:
        raise InputError(
            f"{len(parts.data.splits['train'])} training images are too few to count {cycle + 1} batches of {size}"
        ) from error
    return counter.count
