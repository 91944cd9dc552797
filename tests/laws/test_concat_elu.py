"""ELU of features and their negatives, by whichever kernel."""

import pytest
import torch
import torch.nn.functional as F

from genlab.layers.gated_resnet import concat_elu


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
def test_values_and_gradients_are_those_of_elu(dtype: torch.dtype) -> None:
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, 1e-8, -1e-8, 30.0, -30.0, 200.0, -200.0])])
    x = x.to(dtype).view(1, 7, -1).requires_grad_()
    upstream = torch.randn(1, 14, 144).to(dtype)
    found, expected = concat_elu(x), F.elu(torch.cat([x, -x], 1))
    tolerance = {"rtol": 1e-6, "atol": 1e-7} if dtype == torch.float32 else {"rtol": 0.0, "atol": 0.0}
    torch.testing.assert_close(found, expected, **tolerance)
    ours, theirs = (torch.autograd.grad((y * upstream).sum(), x)[0] for y in (found, expected))
    torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)
