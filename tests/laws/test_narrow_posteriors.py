"""Densities under many Gaussians at once, as a mixture of posteriors is computed: also of narrow ones."""

import pytest
import torch

from genlab.models.vae.posteriors import Gaussian


@pytest.mark.parametrize("std", [1.0, 0.05, 0.001])
@pytest.mark.parametrize("offset", [0.0, 30.0])
def test_densities_by_matrix_products_are_those_of_each_gaussian(std: float, offset: float) -> None:
    mean = offset + torch.randn(6, 32)
    q = Gaussian(mean, std * (0.5 + torch.rand(6, 32)))
    z = torch.cat([mean + std * torch.randn(6, 32), offset + torch.randn(3, 32)]).requires_grad_()
    found = q.log_prob_each(z)
    assert found.dtype == torch.float32
    each = torch.distributions.Normal(q.mean.double(), q.std.double()).log_prob(z.double().unsqueeze(1)).sum(2)
    torch.testing.assert_close(found.double(), each, atol=1e-3, rtol=1e-6)
    (gradient,) = torch.autograd.grad(found.diagonal().sum(), z)
    (expected,) = torch.autograd.grad(each.diagonal().sum(), z)
    torch.testing.assert_close(gradient, expected, atol=1e-3 / std, rtol=1e-4)
