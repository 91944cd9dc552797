"""Solvers: how a model gets from noise at time 0 to data at time 1.

Points are ``(B, *S)``; every example has its own noise, and no example depends on another.
"""

import itertools
from collections.abc import Callable

import torch
from torch import Tensor

from genlab.machine.devices import finest, precise
from genlab.models.diffusion.paths import Path, scaled

# A function from points and times ``(B,)`` to velocities.
Field = Callable[[Tensor, Tensor], Tensor]
# A function from points and times ``(B,)`` to the data and the noise that the model sees in them.
Predict = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
# A function called after each step with the points and the time, which gives the points to go on with.
Constrain = Callable[[Tensor, float], Tensor]
# A function that adds noise before a step, and gives the points and their time, which is earlier.
Churn = Callable[[Tensor, float], tuple[Tensor, float]]


def _same(x: Tensor, t: float) -> Tensor:
    return x


def euler(field: Field, x: Tensor, times: Tensor, constrain: Constrain = _same, churn: Churn | None = None) -> Tensor:
    """Solve dx/dt = field(x, t) by Euler's method, of order 1, with one evaluation a step; see :func:`heun`."""
    for t, later in itertools.pairwise(times.tolist()):
        if churn is not None:
            x, t = churn(x, t)
        x = constrain(x + (later - t) * field(x, _filled(x, t)), later)
    return x


def midpoint(field: Field, x: Tensor, times: Tensor, constrain: Constrain = _same) -> Tensor:
    """Solve dx/dt = field(x, t) by the midpoint method, of order 2, with two evaluations a step."""
    for t, later in itertools.pairwise(times.tolist()):
        half = (later - t) / 2
        middle = x + half * field(x, _filled(x, t))
        x = constrain(x + (later - t) * field(middle, _filled(x, t + half)), later)
    return x


def heun(
    field: Field,
    x: Tensor,
    times: Tensor,
    constrain: Constrain = _same,
    churn: Churn | None = None,
) -> Tensor:
    """Solve dx/dt = field(x, t) by Heun's method, of order 2; the last step is one of Euler's.

    EDM (arXiv:2206.00364), algorithms 1 and, with churn, 2.

    Args:
        field: velocity.
        x: points at the first time, ``(B, *S)``.
        times: ends of the steps, ``(num_steps + 1,)``.
        constrain: function applied after each step.
        churn: function that adds noise before a step, and gives the points and their time, which is earlier.
    """
    ends = times.tolist()
    for t, later in itertools.pairwise(ends):
        if churn is not None:
            x, t = churn(x, t)
        velocity = field(x, _filled(x, t))
        guess = x + (later - t) * velocity
        if later < ends[-1]:
            velocity = (velocity + field(guess, _filled(x, later))) / 2
        x = constrain(x + (later - t) * velocity, later)
    return x


# Coefficients of Dormand and Prince (1980): a step's stages, its result of order 5, and the difference to order 4.
_STAGES = (
    (1 / 5, (1 / 5,)),
    (3 / 10, (3 / 40, 9 / 40)),
    (4 / 5, (44 / 45, -56 / 15, 32 / 9)),
    (8 / 9, (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729)),
    (1.0, (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656)),
)
_RESULT = (35 / 384, 0.0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84)
_ERROR = (71 / 57600, 0.0, -71 / 16695, 71 / 1920, -17253 / 339200, 22 / 525, -1 / 40)


def dopri5(
    field: Field,
    x: Tensor,
    start: float,
    end: float,
    tolerance: float,
    most: int = 10_000,
    cost: Callable[[Tensor], Tensor] = torch.ones_like,
) -> tuple[Tensor, Tensor]:
    """Solve dx/dt = field(x, t) from ``start`` to ``end`` with steps chosen for each example by its own error.

    Dormand and Prince's pair of orders 5 and 4. Libraries choose one step for a whole batch, so that an example would
    depend on those beside it.

    Args:
        field: velocity.
        x: points at the time ``start``, ``(B, *S)``.
        start: first time.
        end: last time, before or after the first.
        tolerance: largest error of a step, absolute and relative.
        most: upper limit on the number of steps.
        cost: function from times ``(B,)`` to what an evaluation of the field counts at each.

    Returns:
        The points at the time ``end``, and the number of evaluations of each example, ``(B,)``.
    """
    sign, length = (1.0 if end > start else -1.0), abs(end - start)
    done = torch.zeros(len(x), dtype=finest(x.device), device=x.device)  # share of the way, times its length
    step = torch.full_like(done, min(0.05, length))
    evaluations = torch.zeros(len(x), dtype=torch.long, device=x.device)
    first = field(x, at := _filled(x, start))
    evaluations += cost(at).long()
    for _ in range(most):
        active = done < length
        if not active.any():
            break
        h = torch.where(active, step.minimum(length - done), torch.zeros_like(step))
        t, signed = start + sign * done, sign * h
        stages = [first]
        for share, weights in _STAGES:
            point = x + scaled(signed, _weighted(weights, stages))
            stages.append(field(point, at := (t + share * signed).to(x.dtype)))
            evaluations += active * cost(at).long()
        result = x + scaled(signed, _weighted(_RESULT, stages))
        stages.append(field(result, at := (t + signed).to(x.dtype)))
        evaluations += active * cost(at).long()
        scale = tolerance * (1 + x.abs().maximum(result.abs()))
        error = precise((scaled(signed, _weighted(_ERROR, stages)) / scale).flatten(1)).square().mean(1).sqrt()
        accepted = active & (error <= 1)
        x = chosen(accepted, result, x)
        first = chosen(accepted, stages[-1], first)
        done = torch.where(accepted, torch.where(h >= length - done, length, done + h), done)
        factor = (0.9 * error.clamp_min(1e-10) ** -0.2).clamp(0.2, 10.0)
        step = torch.where(active, (h * factor).clamp_min(1e-6 * length), step)
    return x, evaluations


def ddim(
    predict: Predict,
    path: Path,
    x: Tensor,
    times: Tensor,
    noise: Callable[[], Tensor] | None = None,
    constrain: Constrain = _same,
    large: bool = False,
) -> Tensor:
    """Go from noise to data by DDIM (arXiv:2010.02502), or with noise by the ancestral sampling of DDPM.

    Each step predicts data and noise, and puts them together as they belong to the later time.

    Args:
        predict: the model's data and noise.
        path: path from noise to data.
        x: points at the first time, ``(B, *S)``.
        times: ends of the steps, ``(num_steps + 1,)``.
        noise: function that draws standard normal noise of the points' shape, for steps with the variance of the
            path's posterior, eta = 1 of the paper; None for none, eta = 0.
        constrain: function applied after each step.
        large: whether the noise of a step has the variance of the step itself, and not that of its posterior given the
            data: both choices of DDPM (arXiv:2006.11239), section 3.2.
    """
    for t, later in itertools.pairwise(times):
        data, e = predict(x, _filled(x, float(t)))
        s, a_next, s_next = path.sigma(t), path.alpha(later), path.sigma(later)
        added = (s**2 - (path.alpha(t) / a_next * s_next) ** 2).clamp_min(0)  # by the step from data to noise
        posterior = (s_next / s) ** 2 * added if noise is not None else torch.zeros_like(s)
        x = float(a_next) * data + float((s_next**2 - posterior).clamp_min(0).sqrt()) * e
        if noise is not None and s_next > 0:
            x = x + float((added if large else posterior).sqrt()) * noise()
        x = constrain(x, float(later))
    return x


def dpm_solver_pp(predict: Predict, path: Path, x: Tensor, times: Tensor, constrain: Constrain = _same) -> Tensor:
    """Go from noise to data by DPM-Solver++ (2M), of order 2 with one evaluation a step: arXiv:2211.01095.

    In the paper's symbols, lambda is the logarithm of alpha / sigma; the first and the last step are of order 1.
    """
    before: tuple[float, Tensor] | None = None  # lambda and the data of the step before
    ends = list(itertools.pairwise(times))
    for i, (t, later) in enumerate(ends):
        data, e = predict(x, _filled(x, float(t)))
        log_ratio = _log_ratio(path, t)
        a_next, s_next = float(path.alpha(later)), float(path.sigma(later))
        h = _log_ratio(path, later) - log_ratio
        if before is None or i == len(ends) - 1 or before[0] == -torch.inf:
            x = a_next * data + s_next * e
        else:
            r = (log_ratio - before[0]) / h
            d = (1 + 1 / (2 * r)) * data - 1 / (2 * r) * before[1]
            x = s_next / float(path.sigma(t)) * x - a_next * torch.expm1(torch.tensor(-h)).item() * d
        before = (log_ratio, data)
        x = constrain(x, float(later))
    return x


def _log_ratio(path: Path, t: Tensor) -> float:
    return float(torch.log(path.alpha(t)) - torch.log(path.sigma(t)))


def _filled(x: Tensor, t: float) -> Tensor:
    return torch.full((len(x),), t, dtype=x.dtype, device=x.device)


def _weighted(weights: tuple[float, ...], stages: list[Tensor]) -> Tensor:
    total = torch.zeros_like(stages[0])
    for weight, stage in zip(weights, stages, strict=True):
        if weight:
            total = total + weight * stage
    return total


def chosen(condition: Tensor, yes: Tensor, no: Tensor) -> Tensor:
    """Take the examples ``(B, *S)`` of ``yes`` where the condition ``(B,)`` holds, and those of ``no`` elsewhere."""
    return torch.where(condition.view(-1, *[1] * (yes.ndim - 1)), yes, no)
