"""Models train and draw on a device without float64, as Apple's GPUs are; here, the CPU is taken for one."""

import sys
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from genlab.machine.devices import finest
from genlab.models.adversarial import AdversarialModel
from genlab.models.base import LikelihoodModel, ObjectiveModel
from support.catalogue import IMAGE_MODELS, batch, example, make

# Their schedules of steps, and what follows from them, are computed in float64 on the CPU, wherever the model lies.
SCHEDULED = [name for name in IMAGE_MODELS if name.startswith("diffusion")]
SLOW = ("gan/biggan", "gan/sngan", "gan/stylegan2", "gan/r3gan")


class Refusing(TorchDispatchMode):
    """Raises if an operation gives float64; a number of Python in one is a tensor without dimensions, and may be."""

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves(out) if isinstance(leaf, Tensor)]
        if any(tensor.dtype == torch.float64 and tensor.ndim > 0 for tensor in tensors):
            raise AssertionError(f"{func} gives float64")
        return out


@pytest.fixture
def without_float64(monkeypatch: pytest.MonkeyPatch) -> None:
    real = finest
    for module in [m for m in sys.modules.values() if vars(m).get("finest") is real and m.__name__ != __name__]:
        monkeypatch.setattr(module, "finest", lambda device: torch.float32)


def test_the_check_sees_float64() -> None:
    with Refusing(), pytest.raises(AssertionError, match="gives float64"):
        torch.ones(2).double()


@pytest.mark.usefixtures("without_float64")
@pytest.mark.parametrize("name", [pytest.param(n, marks=[pytest.mark.slow] * (n in SLOW)) for n in IMAGE_MODELS])
def test_models_need_no_float64(name: str) -> None:
    shape, levels = example(name)
    model, x, y = make(name, shape, levels), batch(shape, levels), torch.zeros(4, dtype=torch.long)
    model.initialize(x, y)
    with Refusing():
        if isinstance(model, ObjectiveModel):
            model.loss(x, y)["loss"].backward()
        if isinstance(model, AdversarialModel):
            played = model.play(x, y)
            (model.discriminator(played.fake, y).sum() + sum(played.terms.values())).backward()
        if isinstance(model, LikelihoodModel):
            with torch.no_grad():
                model.eval().log_prob(x, y)
    if name not in SCHEDULED:
        with Refusing(), torch.no_grad():
            model.eval().sample(2)


def test_apple_gpus_have_float32_and_others_float64() -> None:
    assert finest(torch.device("mps")) == torch.float32
    assert finest(torch.device("cpu")) == finest(torch.device("cuda")) == torch.float64
