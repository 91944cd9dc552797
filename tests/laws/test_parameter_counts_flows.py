"""Numbers of parameters of flows at their papers' settings beside those of the authors' code."""

import torch

from genlab.models.flow.flow_plus_plus import FlowPlusPlus, MixtureDequantization
from genlab.models.flow.glow import Glow


def count(model: torch.nn.Module) -> int:
    return sum(parameter.numel() for parameter in model.parameters())


def test_glow_on_cifar10() -> None:
    # github.com/openai/glow, counted from model.py and tfops.py at the README's setting of the quantitative result on
    # CIFAR-10 (n_level 3, depth 32, width 512, affine couplings, learntop):
    steps = 32 * sum(
        2 * C  # normalization
        + C**2  # invertible 1x1 convolution
        + 9 * (C // 2 + 1) * 512  # first convolution, with an edge channel
        + 512**2
        + 2 * 2 * 512  # two normalizations in the network
        + (9 * (512 + 1) + 2) * C  # last convolution with an edge channel, its biases and scales
        for C in (12, 24, 48)
    )
    splits = sum((9 * (C // 2 + 1) + 2) * C for C in (12, 24))
    top = (9 * (96 + 1) + 2) * 96
    assert steps + splits + top == 44_603_604
    with torch.device("meta"):
        model = Glow(
            (3, 32, 32),
            num_scales=3,
            num_steps=32,
            width=512,
            edge_channel=True,
            nets_normalized=True,
            log_factor=3.0,
            init_std=0.05,
            top_by_place=False,
            lu=False,
            logit=False,
        )
    assert count(model) == 44_603_604


def test_flow_plus_plus_on_cifar10() -> None:
    # github.com/aravindsrinivas/flowpp: the head of flows/run_cifar.py says 31,443,440.
    with torch.device("meta"):
        noise = MixtureDequantization((3, 32, 32), width=96, num_blocks=2, num_heads=4, num_components=32, context=32)
        model = FlowPlusPlus((3, 32, 32), dequantization=noise, width=96, num_blocks=10, num_heads=4, num_components=32)
    assert count(model) == 31_443_440
