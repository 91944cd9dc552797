"""The average of a model's weights: its recursion, what is copied or left out, and what checkpoints hold of it."""

import pytest
import torch
from torch import Tensor, nn

from genlab.training.ema import ExponentialMovingAverage


class Model(nn.Module):
    """Two layers with one weight, a buffer that moves, one that is a number, and a part of training alone."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Linear(2, 2, bias=False)
        self.first = nn.Linear(3, 3)
        self.norm = nn.BatchNorm1d(3)
        self.last = nn.Linear(3, 3, bias=False)
        self.last.weight = self.first.weight

    def forward(self, x: Tensor) -> Tensor:
        return self.last(self.norm(self.first(x)))


def moved(model: nn.Module, by: float) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(by * torch.randn_like(parameter))
        for buffer in model.buffers():
            buffer.copy_(buffer + 1)


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.999])
def test_the_average_is_the_weighted_sum_of_all_weights_so_far(decay: float) -> None:
    """Written out: the weights of each update count by its share times the decays of all later updates."""
    model = Model().double()
    average = ExponentialMovingAverage(model, decay)
    history, decays = [model.first.weight.detach().clone()], [min(decay, (1 + t) / (10 + t)) for t in range(12)]
    for _ in decays:
        moved(model, 1.0)
        average.update(model)
        history.append(model.first.weight.detach().clone())
    shares = [1.0, *(1 - d for d in decays)]
    expected = torch.zeros(3, 3).double()
    for t, weight in enumerate(history):
        later = 1.0
        for d in decays[t:]:
            later *= d
        expected += shares[t] * later * weight
    torch.testing.assert_close(average.model.first.weight.detach(), expected)
    assert average.model.last.weight is average.model.first.weight  # averaged once
    for name, buffer in average.model.named_buffers():
        assert torch.equal(buffer, dict(model.named_buffers())[name])
    assert average.updates == 12


def test_the_average_is_a_copy_that_does_not_learn() -> None:
    model = Model()
    average = ExponentialMovingAverage(model, 0.5)
    for _ in range(2):
        average.update(model)
        assert not any(p.requires_grad for p in average.parameters())
        assert all(p.is_leaf for p in average.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert not {p.data_ptr() for p in average.parameters()} & {p.data_ptr() for p in model.parameters()}


def test_the_average_stays_in_evaluation_mode_whatever_the_training_does() -> None:
    model = Model()
    average = ExponentialMovingAverage(model, 0.5)
    for mode in (True, False):
        assert average.train(mode) is average
        assert not any(module.training for module in average.modules())
    assert not average.train().training
    assert model.training
    before = average.model.norm.running_mean.clone()
    average.model(torch.randn(8, 3) + 5)
    assert torch.equal(average.model.norm.running_mean, before)


def test_parts_of_training_alone_are_the_models_own() -> None:
    model = Model()
    average = ExponentialMovingAverage(model, 0.5, shared=["judge"])
    assert average.model.judge is model.judge
    names = {"first.weight", "first.bias", "norm.weight", "norm.bias"}
    assert {name for name, _ in average.model.named_parameters()} == names
    assert not any("judge" in name for name in average.state_dict())
    average.train()
    average.requires_grad_(False)
    assert model.judge.training
    assert model.judge.weight.requires_grad
    judge = model.judge.weight.detach().clone()
    moved(model.first, 1.0)
    average.update(model)
    assert torch.equal(model.judge.weight, judge)


def test_a_weight_that_a_shared_part_has_too_is_averaged_all_the_same() -> None:
    model = Model()
    del model.first
    model.first = nn.Linear(3, 3)
    model.judge = nn.Linear(3, 3, bias=False)
    model.judge.weight = model.last.weight  # known to the model as the judge's
    average = ExponentialMovingAverage(model, 0.0, shared=["judge"])
    moved(model, 1.0)
    average.update(model)
    torch.testing.assert_close(average.model.last.weight, model.last.weight.detach())
    assert average.model.last.weight is not model.last.weight
    # The same of a buffer.
    model.judge.register_buffer("count", torch.zeros(2))
    model.last.register_buffer("count", model.judge.count)
    average = ExponentialMovingAverage(model, 0.0, shared=["judge"])
    model.last.count.fill_(4.0)
    average.update(model)
    assert (average.model.last.count == 4).all()


def test_a_loaded_average_goes_on_where_it_was() -> None:
    model = Model()
    averages = [ExponentialMovingAverage(model, 0.99) for _ in range(2)]
    for _ in range(3):
        moved(model, 1.0)
        averages[0].update(model)
    averages[1].load_state_dict(averages[0].state_dict())
    assert averages[1].updates == 3
    moved(model, 1.0)
    for average in averages:
        average.update(model)
    for a, b in zip(averages[0].parameters(), averages[1].parameters(), strict=True):
        assert torch.equal(a, b)


def test_checkpoints_in_which_all_was_averaged_still_load() -> None:
    """Whatever the average is called in the module that has it; nothing but shared parts is dropped."""
    model = Model()
    model.judges = nn.Linear(2, 2)  # its name begins like the shared part's
    whole = nn.ModuleDict({"ema": ExponentialMovingAverage(model, 0.9), "judge": nn.Linear(1, 1)})
    shared = nn.ModuleDict({"ema": ExponentialMovingAverage(model, 0.9, shared=("judge",)), "judge": nn.Linear(1, 1)})
    moved(model, 1.0)
    whole["ema"].update(model)
    state = whole.state_dict()
    assert "ema.model.judge.weight" in state
    judge = model.judge.weight.detach().clone()
    shared.load_state_dict(state)
    assert torch.equal(model.judge.weight, judge)
    for name, parameter in shared["ema"].model.named_parameters():
        assert torch.equal(parameter, dict(whole["ema"].model.named_parameters())[name])
    assert torch.equal(shared["judge"].weight, whole["judge"].weight)
    others = {name: value for name, value in whole["ema"].state_dict().items() if "judge" not in name}
    with pytest.raises(RuntimeError, match=r"model\.judge\.weight"):  # what is averaged has to be there
        whole["ema"].load_state_dict(others)
