"""Hooks that do nothing are not called, those that do something are, and averages follow tensors that are replaced."""

from typing import Any

import pytorch_lightning as pl
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

from genlab.training.ema import ExponentialMovingAverage
from genlab.training.hooks import OF_A_STEP, Unprofiled, leave_out_empty_hooks
from genlab.training.schedules import constant


class Counts(pl.Callback):
    def __init__(self) -> None:
        self.calls = 0

    def on_before_optimizer_step(self, *_: Any) -> None:
        self.calls += 1


class Line(pl.LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.line = nn.Linear(2, 1)
        self.ended = 0

    def training_step(self, batch: Tensor, batch_idx: int) -> Tensor:
        return self.line(batch).square().mean()

    def on_train_batch_end(self, *_: Any) -> None:
        self.ended += 1

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


def trained(with_empty_hooks: bool) -> tuple[Line, Counts, pl.Callback]:
    torch.manual_seed(0)
    module, counts, idle = Line(), Counts(), pl.Callback()
    off: dict[str, Any] = dict.fromkeys(("logger", "enable_checkpointing", "enable_progress_bar"), False)
    trainer = pl.Trainer(
        max_epochs=2,
        accelerator="cpu",
        callbacks=[counts, idle],
        profiler=Unprofiled(),
        enable_model_summary=False,
        **off,
    )
    if not with_empty_hooks:
        leave_out_empty_hooks(trainer, module)
    trainer.fit(module, DataLoader(torch.randn(6, 2, generator=torch.Generator().manual_seed(1)), batch_size=2))  # type: ignore[arg-type]
    return module, counts, idle


def test_a_hook_that_does_something_is_called_and_the_training_is_the_same() -> None:
    module, counts, idle = trained(False)
    other, all_counts, _ = trained(True)
    assert counts.calls == all_counts.calls == module.ended == other.ended == 6
    assert torch.equal(module.line.weight, other.line.weight)
    assert all(getattr(idle, hook) is None for hook in OF_A_STEP)
    assert callable(counts.on_before_optimizer_step)
    assert counts.on_train_batch_end is None


def test_an_average_follows_tensors_that_are_replaced() -> None:
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = ExponentialMovingAverage(model, 0.5)
    average.update(model)
    model.double()
    average.double()
    model[1].running_mean = torch.full((2,), 3.0, dtype=torch.float64)  # another tensor, not another value
    model[0].weight.data.fill_(1.0)
    before = average.model[0].weight.clone()
    average.update(model)  # the second update, whose decay is 2 / 11
    torch.testing.assert_close(average.model[0].weight, 2 / 11 * before + 9 / 11)
    assert torch.equal(average.model[1].running_mean, model[1].running_mean)
    other = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2)).double()
    average.update(other)
    assert torch.equal(average.model[1].running_mean, other[1].running_mean)


def test_a_constant_rate_has_no_schedule() -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], 0.1)
    assert constant(optimizer) is None
    assert constant(optimizer, warmup_steps=3) is not None
