"""Dequantization and the logit: inverses, log-determinants against autograd, and the bits/dim of known densities."""

import math

import pytest
import torch
import torch.nn.functional as F

from genlab.distributions.dequantization import dequantize, from_logit, quantize, to_logit


def grey(levels: int, *shape: int) -> torch.Tensor:
    return torch.randint(levels, shape).double() / (levels - 1)


@pytest.mark.parametrize("levels", [2, 17, 256])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_every_point_of_a_bin_quantizes_to_its_level(levels: int, dtype: torch.dtype) -> None:
    x = (torch.arange(levels, dtype=torch.float64) / (levels - 1)).to(dtype)[:, None]
    for u in (0.0, 0.25, 0.5, 0.999):
        point, _ = dequantize(x, torch.full_like(x, u), levels)
        assert point.min() >= 0
        assert point.max() <= 1
        torch.testing.assert_close(quantize(point, levels), x)
    assert quantize(torch.ones(1), levels) == 1  # the end of the last bin belongs to it


def test_bins_tile_the_unit_interval() -> None:
    levels = 17
    x = torch.arange(levels, dtype=torch.float64)[:, None] / (levels - 1)
    start, _ = dequantize(x, 0.0, levels)
    end, log_bin = dequantize(x, 1.0, levels)
    torch.testing.assert_close(end[:-1], start[1:])
    assert start[0] == 0
    assert end[-1] == 1
    torch.testing.assert_close((end - start).log().squeeze(1), log_bin)


@pytest.mark.parametrize("alpha", [0.0, 1e-6, 0.05])
def test_logit_inverse_and_log_determinant(alpha: float) -> None:
    x = torch.rand(4, 2, 3, dtype=torch.float64) * 0.98 + 0.01
    h, log_slope = to_logit(x, alpha)
    torch.testing.assert_close(from_logit(h, alpha), x, rtol=0, atol=1e-12)
    for i in range(len(x)):
        jacobian = torch.autograd.functional.jacobian(lambda v: to_logit(v[None], alpha)[0].flatten(), x[i])
        torch.testing.assert_close(log_slope[i], torch.linalg.slogdet(jacobian.view(6, 6)).logabsdet)


@pytest.mark.parametrize("alpha", [1e-6, 0.05])
def test_logit_of_the_ends_is_finite_and_comes_back(alpha: float) -> None:
    ends = torch.tensor([[0.0, 1.0]])
    h, log_slope = to_logit(ends, alpha)
    assert h.isfinite().all()
    assert log_slope.isfinite().all()
    torch.testing.assert_close(from_logit(h, alpha), ends)
    assert torch.equal(from_logit(torch.tensor([[-100.0, 100.0]]), alpha), ends)  # what no x maps to


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_the_uniform_density_costs_log2_levels_bits_per_dim(levels: int) -> None:
    # A standard logistic over the logits is the uniform density over [0, 1].
    x = grey(levels, 8, 1, 5, 3)
    point, log_bin = dequantize(x, torch.rand_like(x), levels)
    h, log_slope = to_logit(point, 0.0)
    log_logistic = (F.logsigmoid(h) + F.logsigmoid(-h)).flatten(1).sum(1)
    bits = -(log_logistic + log_slope + log_bin) / (15 * math.log(2))
    torch.testing.assert_close(bits, torch.full_like(bits, math.log2(levels)))


def test_the_mean_density_of_a_bin_is_its_probability() -> None:
    # The density 2x of [0, 1] puts ((k + 1)^2 - k^2) / levels^2 on level k.
    levels = 4
    k = torch.arange(levels, dtype=torch.float64)
    u = (torch.arange(1000, dtype=torch.float64) + 0.5) / 1000
    x = (k / (levels - 1)).repeat_interleave(len(u))[:, None]
    point, log_bin = dequantize(x, u.repeat(levels)[:, None], levels)
    density = torch.exp((2 * point.squeeze(1)).log() + log_bin)
    torch.testing.assert_close(density.view(levels, -1).mean(1), (2 * k + 1) / levels**2)
