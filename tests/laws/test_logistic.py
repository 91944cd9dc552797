"""Logarithms of the logistic function, against float64 and autograd's own derivatives."""

import shutil

import pytest
import torch
from torch.nn import functional as F

from genlab.distributions.logistic import log_one_minus_exp, log_sigmoid


def test_log_sigmoid_is_torchs_to_a_rounding() -> None:
    s = torch.linspace(-200, 200, 40001)
    exact = F.logsigmoid(s.double())
    # A rounding of 1, and of the value itself where that is larger.
    assert ((log_sigmoid(s) - exact).abs() <= 6e-8 * (1 + exact.abs())).all()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_log_sigmoid_keeps_the_precision_it_is_given(dtype: torch.dtype) -> None:
    assert log_sigmoid(torch.zeros(3, dtype=dtype)).dtype == dtype


def test_log_sigmoid_has_its_derivatives_at_zero_and_far_out_too() -> None:
    s = torch.tensor([-300.0, -2.0, 0.0, 0.5, 300.0], dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(log_sigmoid, s)
    assert torch.autograd.gradgradcheck(log_sigmoid, s)
    (slope,) = torch.autograd.grad(log_sigmoid(s).sum(), s)
    torch.testing.assert_close(slope, torch.sigmoid(-s))


@pytest.mark.skipif(shutil.which("gcc") is None and shutil.which("c++") is None, reason="needs a C++ compiler")
@pytest.mark.slow
def test_compiled_they_are_the_same() -> None:
    s = torch.cat([torch.linspace(-200, 200, 4001), torch.zeros(1)]).requires_grad_()
    value = torch.compile(log_sigmoid)(s)
    torch.testing.assert_close(value, log_sigmoid(s), atol=1e-7, rtol=1e-6)
    (slope,) = torch.autograd.grad(value.sum(), s)
    torch.testing.assert_close(slope, torch.sigmoid(-s.detach()), atol=1e-6, rtol=1e-5)
    w = torch.logspace(-6, 1.5, 1001)
    torch.testing.assert_close(torch.compile(log_one_minus_exp)(w), log_one_minus_exp(w), atol=1e-7, rtol=1e-6)


def test_log_one_minus_exp_does_not_cancel_where_its_argument_is_small() -> None:
    w = torch.logspace(-6, 1.5, 1001)
    exact = torch.log(-torch.expm1(-w.double()))
    assert ((log_one_minus_exp(w) - exact).abs() <= 1e-6 * (1 + exact.abs())).all()


def test_log_one_minus_exp_has_its_derivative_on_both_sides_of_the_series_end() -> None:
    w = torch.tensor([1e-9, 1e-6, 1e-3, 0.0999, 0.1001, 1.0, 10.0], requires_grad=True)
    (slope,) = torch.autograd.grad(log_one_minus_exp(w).sum(), w)
    torch.testing.assert_close(slope.double(), 1 / torch.expm1(w.detach().double()), rtol=2e-6, atol=0)
