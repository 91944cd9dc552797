"""ELU of features and their negatives, by whichever kernel."""

import pytest
import torch
import torch.nn.functional as F

from genlab.layers.elu import concat_elu, elu
from genlab.layers.gated_resnet import gated_sum


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16])
@pytest.mark.parametrize("few", [0, 2**14])
def test_values_and_gradients_are_those_of_elu(dtype: torch.dtype, few: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("genlab.layers.elu.FEW", few)
    torch.manual_seed(0)
    x = torch.cat([torch.randn(1000), torch.tensor([0.0, -0.0, 1e-8, -1e-8, 30.0, -30.0, 200.0, -200.0])])
    x = x.to(dtype).view(1, 7, -1).requires_grad_()
    upstream = torch.randn(1, 14, 144).to(dtype)
    both = torch.cat([x, -x], 1)
    tolerance = {"rtol": torch.finfo(dtype).eps, "atol": 1e-7 if dtype != torch.float64 else 0.0}
    for found, expected in ((concat_elu(x), F.elu(both)), (elu(both), F.elu(both))):
        torch.testing.assert_close(found, expected, **tolerance)
        ours, theirs = (torch.autograd.grad((y * upstream).sum(), x)[0] for y in (found, expected))
        torch.testing.assert_close(
            ours, theirs, rtol=1e-5, atol=max(1e-6, 4 * torch.finfo(dtype).eps)
        )  # differences, rounded
    with torch.no_grad():
        torch.testing.assert_close(concat_elu(x), F.elu(both), **tolerance)
        torch.testing.assert_close(elu(both), F.elu(both), **tolerance)


@pytest.mark.parametrize("memory_format", [torch.contiguous_format, torch.channels_last])
def test_a_gated_sum_is_what_its_formula_says(memory_format: torch.memory_format) -> None:
    x, z, upstream = (torch.randn(2, channels, 3, 5, dtype=torch.float64) for channels in (4, 8, 4))
    x, z = (part.contiguous(memory_format=memory_format).requires_grad_() for part in (x, z))
    found, expected = gated_sum(x, z), x + z[:, :4] * torch.sigmoid(z[:, 4:])
    torch.testing.assert_close(found, expected)
    with torch.no_grad():
        torch.testing.assert_close(gated_sum(x, z), expected)
    for ours, theirs in zip(
        *(torch.autograd.grad((y * upstream).sum(), (x, z)) for y in (found, expected)), strict=True
    ):
        torch.testing.assert_close(ours, theirs)
