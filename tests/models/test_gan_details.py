"""Details of published trainings that are options of the residual networks and of R3GAN."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from genlab.models.gan.r3gan import R3GAN
from genlab.models.gan.sngan import SNGAN


@pytest.mark.parametrize("pooling", ["sum", "mean"])
def test_d_sums_or_averages_its_last_features(pooling: str) -> None:
    torch.manual_seed(0)
    model = SNGAN((1, 16, 8), channels=8, discriminator_channels=4, normalization="none", pooling=pooling)  # type: ignore
    D = model.discriminator
    x = torch.rand(3, 1, 16, 8)
    h = F.relu(D.blocks(2 * x - 1))
    pooled = h.flatten(2).sum(2) / (h[0, 0].numel() if pooling == "mean" else 1)
    torch.testing.assert_close(D(x), F.linear(pooled, D.to_logit.weight, D.to_logit.bias).squeeze(1))


@pytest.mark.parametrize("core", [False, True])
def test_the_core_of_r3gan_computes_in_float32_under_autocast(core: bool) -> None:
    torch.manual_seed(0)
    model = R3GAN((3, 16, 16), 2, channels=16, num_blocks=1, float32_core=core)
    G, D = model.generator, model.discriminator
    of: dict[str, torch.dtype] = {}

    def watch(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda *args, name=name: of.__setitem__(name, args[2].dtype))

    inside = {
        "basis": G.to_basis, "4x4": G.stages[0][0].conv1, "last stage": D.stages[-1][0].conv1, "last basis": D.basis,
        "logit": D.to_logit,
    }  # fmt: skip
    outside = {"8x8": G.stages[1][0].conv1, "image": G.to_image, "first": D.from_image, "D 8x8": D.stages[1][0].conv1}
    for name, module in {**inside, **outside}.items():
        watch(name, module)
    y = torch.tensor([0, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        D(G(torch.randn(2, 64), y), y)
    assert {of[name] for name in outside} == {torch.bfloat16}
    assert {of[name] for name in inside} == {torch.float32 if core else torch.bfloat16}
