"""Splines in few operators beside those of zuko: the same maps, slopes, inverses and gradients."""

import copy

import pytest
import torch
import zuko
from torch import Tensor
from zuko.transforms import MonotonicRQSTransform

from genlab.models.flow.fast_spline import FastSpline, with_fast_splines


def params(*shape: int, bins: int = 8) -> tuple[Tensor, Tensor, Tensor]:
    torch.manual_seed(0)
    return tuple(3 * torch.randn(*shape, num, dtype=torch.float64) for num in (bins, bins, bins - 1))  # type: ignore[return-value]


@pytest.mark.parametrize("options", [{}, {"slope": 1e-2}, {"bound": 2.0}])
def test_the_map_is_that_of_zuko_inside_and_outside(options: dict[str, float]) -> None:
    knots = params(500, 3)
    x = 4 * torch.randn(500, 3, dtype=torch.float64)
    theirs, own = MonotonicRQSTransform(*knots, **options), FastSpline(*knots, **options)
    for ours, expected in zip(own.call_and_ladj(x), theirs.call_and_ladj(x), strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(own(x), theirs(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(own.inv(x), theirs.inv(x), rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(own.log_abs_det_jacobian(x, own(x)), own.call_and_ladj(x)[1])
    outside = x.abs() > own.horizontal.max()
    assert outside.any()
    assert torch.equal(own(x)[outside], x[outside])


def test_the_slope_is_the_derivative() -> None:
    spline, x = FastSpline(*params(40)), torch.linspace(-6, 6, 40, dtype=torch.float64).requires_grad_()
    y, log_slope = spline.call_and_ladj(x)
    (derivative,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(log_slope, derivative.log(), rtol=1e-9, atol=1e-9)


def test_one_spline_for_many_values_and_many_for_one() -> None:
    x = torch.linspace(-6, 6, 20, dtype=torch.float64)
    one, many = params(), params(20, 1)
    for knots, values in ((one, x), (many, x), (many, x[:1])):
        for call in ("__call__", "_inverse"):
            expected = getattr(MonotonicRQSTransform(*knots), call)(values)
            torch.testing.assert_close(getattr(FastSpline(*knots), call)(values), expected, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("passes", [None, 2])
def test_a_flow_of_zuko_is_the_same_flow(passes: int | None) -> None:
    torch.manual_seed(0)
    theirs = zuko.flows.NSF(3, 2, transforms=3, hidden_features=(16,), passes=passes).double()
    own = copy.deepcopy(theirs)
    with_fast_splines(own)
    assert own.state_dict().keys() == theirs.state_dict().keys()
    x, context = torch.randn(200, 3, dtype=torch.float64), torch.randn(200, 2, dtype=torch.float64)
    found = []
    for flow in (theirs, own):
        log_prob = flow(context).log_prob(x)
        found.append((log_prob, *torch.autograd.grad(log_prob.sum(), list(flow.parameters()))))
        found[-1] += (flow(context).transform.inv(x),)
        assert isinstance(flow.transform.transforms[0].univariate(*params(3)), FastSpline) == (flow is own)
    for ours, expected in zip(found[1], found[0], strict=True):
        torch.testing.assert_close(ours, expected, rtol=1e-8, atol=1e-8)
