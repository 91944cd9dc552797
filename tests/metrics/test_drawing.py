"""The context in which models are measured."""

import pytest
import torch
from torch import nn

from genlab.metrics.drawing import evaluating


def test_modules_return_to_the_mode_that_each_was_in() -> None:
    """Also with an error inside, and also those that are frozen within a model that trains."""
    model = nn.Sequential(nn.Linear(2, 2), nn.Dropout(), nn.Sequential(nn.Linear(2, 2), nn.Dropout()).eval())
    before = [module.training for module in model.modules()]
    assert before == [True, True, True, False, False, False]

    def measure() -> None:
        with evaluating(model):
            assert not any(module.training for module in model.modules())
            assert not torch.is_grad_enabled()
            raise RuntimeError("inside")

    with pytest.raises(RuntimeError, match="inside"):
        measure()
    assert [module.training for module in model.modules()] == before
