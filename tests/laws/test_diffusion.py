"""Models in continuous time: paths, solvers, guidance and likelihoods, against closed forms and enumeration."""

import itertools
import math
from collections.abc import Callable, Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.models.diffusion import solvers
from genlab.models.diffusion.couplings import Independent, OptimalTransport
from genlab.models.diffusion.ddpm import DDPM
from genlab.models.diffusion.diffusion_model import DiffusionModel
from genlab.models.diffusion.edm import EDM
from genlab.models.diffusion.flow_matching import FlowMatching
from genlab.models.diffusion.mean_flow import MeanFlow
from genlab.models.diffusion.paths import (
    Cosine,
    Data,
    Linear,
    Noise,
    Prediction,
    SmoothPath,
    VarianceExploding,
    Velocity,
)
from genlab.models.diffusion.times import LogitNormal, Times, Uniform
from genlab.models.sampling import Tally
from genlab.networks.ddpm_pp import DDPMpp
from genlab.networks.dit import DiT
from genlab.networks.time_mlp import TimeMLP
from genlab.networks.unet import UNet


@pytest.fixture(autouse=True)
def _seed() -> Iterator[None]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        yield


class Small(nn.Module):
    """A smooth network of points or images of any shape, with random weights, that counts what it is asked."""

    def __init__(self, shape: tuple[int, ...], num_times: int, num_classes: int | None, time_scale: float) -> None:
        super().__init__()
        size = math.prod(shape)
        self.classes = None if num_classes is None else nn.Embedding(num_classes, 16)
        self.first, self.times, self.last = nn.Linear(size, 16), nn.Linear(num_times, 16), nn.Linear(16, size)
        self.asked = 0

    def forward(self, x: Tensor, times: Tensor, y: Tensor | None = None) -> Tensor:
        self.asked += len(x)
        h = self.first(x.flatten(1)) + self.times(times)
        if self.classes is not None:
            h = h + self.classes(y)
        return self.last(torch.tanh(h)).view_as(x)


def some_images(num: int, levels: int = 4) -> Tensor:
    return torch.randint(levels, (num, 1, 2, 3)) / (levels - 1)


# -- paths -------------------------------------------------------------------------------------------------------------

PATHS = [Linear(), Cosine(), VarianceExploding()]
all_paths = pytest.mark.parametrize("path", PATHS, ids=lambda path: type(path).__name__)


@all_paths
def test_the_velocity_is_the_derivative_of_the_path(path: SmoothPath) -> None:
    x, e = torch.randn(2, 8, 3, dtype=torch.float64)
    t = torch.rand(8, dtype=torch.float64, requires_grad=True)
    point = path.at(x, e, t)
    slopes = torch.stack([torch.autograd.grad(point[:, i].sum(), t, retain_graph=True)[0] for i in range(3)], 1)
    torch.testing.assert_close(path.velocity(x, e, t), slopes)


@all_paths
def test_a_path_goes_from_noise_to_data(path: SmoothPath) -> None:
    ends = torch.tensor([0.0, 1.0], dtype=torch.float64)
    alpha, sigma = path.alpha(ends), path.sigma(ends)
    assert alpha[1] == 1
    assert sigma[1].abs() < 1e-12
    assert sigma[0] >= 1
    for num_steps in (1, 2, 7):
        times = path.times(num_steps)
        assert len(times) == num_steps + 1
        assert (times[0], times[-1]) == (0, 1)
        assert (times.diff() > 0).all()


def test_noise_levels_are_spaced_as_in_edm() -> None:
    sigma = VarianceExploding().sigma(VarianceExploding().times(18))
    expected = [(80 ** (1 / 7) + i / 17 * (0.002 ** (1 / 7) - 80 ** (1 / 7))) ** 7 for i in range(18)]
    torch.testing.assert_close(sigma, torch.tensor([*expected, 0.0], dtype=torch.float64), rtol=1e-9, atol=1e-12)


@all_paths
@pytest.mark.parametrize("prediction", [Velocity(), Noise(), Data()], ids=lambda p: type(p).__name__)
def test_a_right_prediction_says_what_data_and_noise_are(path: SmoothPath, prediction: Prediction) -> None:
    x, e = torch.randn(2, 8, 3, dtype=torch.float64)
    t = 0.05 + 0.9 * torch.rand(8, dtype=torch.float64)
    target = prediction.target(path, x, e, t)
    data, noise = prediction.data_and_noise(path, path.at(x, e, t), target, t)
    torch.testing.assert_close(data, x)
    torch.testing.assert_close(noise, e)


@pytest.mark.parametrize("times", [Uniform(), LogitNormal(), LogitNormal(0.4, 0.5)], ids=["all", "middle", "late"])
def test_drawn_times_have_their_distribution(times: Times) -> None:
    drawn = torch.stack([times.draw(50, torch.device("cpu")) for _ in range(400)])  # (400, 50)
    alone = times.from_uniform(torch.rand(20_000))
    for q in (0.1, 0.5, 0.9):
        torch.testing.assert_close(drawn.quantile(q), alone.quantile(q), rtol=0, atol=0.02)
    # Each place of a batch has the distribution of a single draw, and the mean of a batch varies less.
    torch.testing.assert_close(drawn[:, 0].mean(), alone.mean(), rtol=0, atol=0.05)
    assert drawn.mean(1).std() < 0.2 * alone.view(400, 50).mean(1).std()


# -- couplings ---------------------------------------------------------------------------------------------------------


def test_optimal_transport_is_the_best_of_all_orders() -> None:
    x, e = torch.randn(2, 6, 2, 3)
    best = min(itertools.permutations(range(6)), key=lambda order: float((x - e[list(order)]).square().sum()))
    assert OptimalTransport().order(x, e).tolist() == list(best)
    assert Independent().order(x, e).tolist() == list(range(6))


def test_groups_are_ordered_among_themselves() -> None:
    x, e = torch.randn(2, 7, 4)
    order = OptimalTransport(group=3).order(x, e)
    for first, last in ((0, 3), (3, 6), (6, 7)):
        assert sorted(order[first:last].tolist()) == list(range(first, last))
        part = OptimalTransport().order(x[first:last], e[first:last])
        assert torch.equal(order[first:last], first + part)


# -- solvers -----------------------------------------------------------------------------------------------------------


def field(x: Tensor, t: Tensor) -> Tensor:
    """dx/dt = x cos(t) + 1, which is not a polynomial in t."""
    return x * torch.cos(t)[:, None] + 1


def exact(x: Tensor) -> Tensor:
    grid = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    return math.exp(math.sin(1)) * (x + torch.exp(-torch.sin(grid)).mean())


@pytest.mark.parametrize(("solver", "order"), [(solvers.euler, 1), (solvers.midpoint, 2)])
def test_errors_fall_with_the_solver_s_order(solver: Callable[..., Tensor], order: int) -> None:
    x = torch.randn(5, 1, dtype=torch.float64)
    errors = [
        (solver(field, x, torch.linspace(0, 1, n + 1, dtype=torch.float64)) - exact(x)).abs().max() for n in (40, 80)
    ]
    assert 2**order * 0.9 < float(errors[0] / errors[1]) < 2**order * 1.1


def test_heun_is_of_order_two_but_for_its_last_step() -> None:
    x = torch.randn(5, 1, dtype=torch.float64)

    def error(n: int) -> Tensor:
        # The last step, one of Euler's, is made short.
        times = torch.cat([torch.linspace(0, 1 - 1e-7, n + 1, dtype=torch.float64), torch.ones(1).double()])
        return (solvers.heun(field, x, times) - exact(x)).abs().max()

    assert 3.6 < float(error(40) / error(80)) < 4.4


@pytest.mark.parametrize("ends", [(0.0, 1.0), (1.0, 0.0)])
def test_adaptive_steps_meet_the_tolerance_there_and_back(ends: tuple[float, float]) -> None:
    x = torch.randn(5, 1, dtype=torch.float64)
    there, evaluations = solvers.dopri5(field, x, *ends, 1e-8)
    back, _ = solvers.dopri5(field, there, *reversed(ends), 1e-8)
    torch.testing.assert_close(back, x, rtol=0, atol=1e-6)
    if ends == (0.0, 1.0):
        torch.testing.assert_close(there, exact(x), rtol=0, atol=1e-6)
    assert (evaluations > 7).all()


def test_adaptive_steps_are_those_of_each_example_alone() -> None:
    def stiff(x: Tensor, t: Tensor) -> Tensor:
        return torch.sin(x * 20 * t[:, None])

    x = torch.linspace(-3, 3, 7, dtype=torch.float64)[:, None]
    together, evaluations = solvers.dopri5(stiff, x, 0.0, 1.0, 1e-6)
    alone = [solvers.dopri5(stiff, x[i : i + 1], 0.0, 1.0, 1e-6) for i in range(7)]
    assert len(set(evaluations.tolist())) > 1
    assert torch.equal(together, torch.cat([point for point, _ in alone]))
    assert torch.equal(evaluations, torch.cat([number for _, number in alone]))


class Gaussian(FlowMatching):
    """Flow matching that has learned N(mean, scale^2) exactly: the field in closed form."""

    def __init__(self, path: SmoothPath, mean: float, scale: float, dims: int = 2) -> None:
        super().__init__((dims,), Small, path, num_steps=200)
        self.double()
        self.location, self.spread = mean, scale

    def denoise(self, h: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        a, s = self.path.alpha(t)[:, None], self.path.sigma(t)[:, None]
        variance = (a * self.spread) ** 2 + s**2
        residual = h - a * self.location
        return self.location + a * self.spread**2 / variance * residual, s / variance * residual

    def velocity(self, h: Tensor, t: Tensor, y: Tensor | None) -> Tensor:
        return self.path.velocity(*self.denoise(h, t, y), t)


@pytest.mark.parametrize("path", [Linear(), Cosine()], ids=lambda path: type(path).__name__)
@pytest.mark.parametrize("solver", ["euler", "midpoint", "heun", "dopri5", "ddim", "ddpm", "dpm_solver_pp"])
def test_samples_of_a_gaussian_have_its_moments(path: SmoothPath, solver: str) -> None:
    model = Gaussian(path, 0.7, 0.4)
    sampling = model.Sampling(num_steps=1000 if solver in ("euler", "ddim", "ddpm") else 200, solver=solver)  # type: ignore[arg-type]
    # Standardised noise, so that the moments are those of the map and not of a draw.
    z = torch.randn(4000, 2, dtype=torch.float64)
    z = (z - z.mean(0)) / z.std(0)
    x = model.solve(z, None, sampling)
    drawn = 0.02 if solver == "ddpm" else 1e-3  # which draws more noise on its way
    assert (x.mean(0) - 0.7).abs().max() < drawn
    assert (x.std(0) - 0.4).abs().max() < drawn


@pytest.mark.parametrize("path", [Linear(), Cosine()], ids=lambda path: type(path).__name__)
def test_the_likelihood_of_a_gaussian_is_exact(path: SmoothPath) -> None:
    model = Gaussian(path, 0.7, 0.4)
    model.tolerance = 1e-6
    x = torch.randn(50, 2, dtype=torch.float64)
    expected = torch.distributions.Normal(0.7, 0.4).log_prob(x).sum(1)
    torch.testing.assert_close(model.log_prob(x), expected.double(), rtol=0, atol=1e-3)


def test_edm_s_samplers_give_the_moments_of_a_gaussian() -> None:
    class Exact(EDM):
        def denoiser(self, h: Tensor, sigma: Tensor, y: Tensor | None) -> Tensor:
            return 0.7 + 0.16 / (0.16 + sigma[:, None] ** 2) * (h - 0.7)

    model = Exact((2,), Small).double()
    z = torch.randn(4000, 2, dtype=torch.float64)
    z = (z - z.mean(0)) / z.std(0)
    for solver, num_steps, churn, atol in (
        ("heun", 200, 0.0, 1e-3), ("euler", 2000, 0.0, 5e-3), ("heun", 200, 20.0, 0.02),
        ("dpm_solver_pp", 200, 0.0, 2e-3), ("ddim", 2000, 0.0, 5e-3),
    ):  # fmt: skip
        sampling = model.Sampling(solver=solver, num_steps=num_steps, churn=churn)  # type: ignore[arg-type]
        x = model.solve(0.7 + math.sqrt(80.0**2 + 0.16) * z, None, sampling)  # data with noise, not noise alone
        assert (x.mean(0) - 0.7).abs().max() < atol + 1e-3, solver
        assert (x.std(0) - 0.4).abs().max() < atol, solver


def test_on_a_straight_line_ddim_is_euler_s_method() -> None:
    model = FlowMatching((2,), Small)
    z = torch.randn(6, 2)
    a, b = (model.solve(z, None, model.Sampling(num_steps=7, solver=s)) for s in ("euler", "ddim"))  # type: ignore[arg-type]
    torch.testing.assert_close(a, b)


# -- what sampling promises --------------------------------------------------------------------------------------------


def models(num_classes: int | None = None) -> list[DiffusionModel]:
    shape = (1, 2, 3)
    options = {"num_classes": num_classes, "levels": 4}
    return [
        FlowMatching(shape, Small, **options),  # type: ignore[arg-type]
        FlowMatching(shape, Small, Cosine(), Noise(), LogitNormal(), OptimalTransport(), **options),  # type: ignore[arg-type]
        DDPM(shape, Small, chain=20, num_steps=5, **options),  # type: ignore[arg-type]
        EDM(shape, Small, num_steps=5, **options),  # type: ignore[arg-type]
        MeanFlow(shape, Small, num_steps=2, **options),  # type: ignore[arg-type]
    ]


@pytest.mark.parametrize("index", range(5))
def test_every_solver_draws_each_sample_from_its_own_stream(index: int) -> None:
    model = models()[index].eval()
    for solver in model.available:
        sampling = model.Sampling(num_steps=4, solver=solver)
        together = model.sample(6, generator=generators(3, range(6)), sampling=sampling)
        apart = [model.sample(2, generator=generators(3, [i, i + 1]), sampling=sampling) for i in (0, 2, 4)]
        assert torch.equal(together, torch.cat(apart)), solver
        assert not torch.equal(together, model.sample(6, generator=generators(4, range(6)), sampling=sampling))
        assert set((together * 3).flatten().tolist()) <= {0.0, 1.0, 2.0, 3.0}


@pytest.mark.parametrize("index", range(5))
def test_the_evaluations_that_are_said_are_those_that_are_made(index: int) -> None:
    model = models(None if index == 4 else 3)[index].eval()
    network = model.network
    assert isinstance(network, Small)
    for solver, num_steps in itertools.product(model.available, (1, 2, 5)):
        for guidance in (1.0,) if index == 4 else (1.0, 2.0):
            sampling = model.Sampling(
                num_steps=num_steps, solver=solver, guidance=guidance, guidance_from=0.3, guidance_to=0.9
            )
            network.asked = 0
            model.sample(4, generator=generators(0, range(4)), sampling=sampling)
            said = model.evaluations(sampling)
            assert (said is None) == (solver == "dopri5")
            if said is None:
                # Each sample alone: the network is asked for a whole batch until its last sample has arrived.
                counted = []
                for i in range(4):
                    model.tally = Tally()
                    network.asked = 0
                    model.sample(1, generator=generators(0, [i]), sampling=sampling)
                    assert model.tally.mean == network.asked
                    counted.append(network.asked)
                model.tally = Tally()
                model.sample(4, generator=generators(0, range(4)), sampling=sampling)
                # About as many together: rounding, which differs between batches, takes part in the choice of steps.
                assert model.tally.mean == pytest.approx(sum(counted) / 4, rel=0.2)
            if said is not None:
                assert network.asked == 4 * said, (solver, num_steps, guidance)
                assert f"{said} network evaluation" in model.describe_sampler(sampling)


@pytest.mark.parametrize("index", range(4))
def test_guidance_of_one_is_none_and_of_zero_ignores_the_class(index: int) -> None:
    model = models(3)[index].eval()
    y = torch.tensor([0, 1, 2, 0])
    h, t = torch.randn(4, 1, 2, 3), torch.full((4,), 0.5)
    for function in (model.denoise, lambda h, t, y: (model.velocity(h, t, y),)) if index < 2 else (model.denoise,):
        plain = function(h, t, y)
        without = function(h, t, torch.full_like(y, 3))
        for weight, expected in (
            (1.0, plain), (0.0, without), (3.0, tuple(u + 3 * (c - u) for c, u in zip(plain, without, strict=True))),
        ):  # fmt: skip
            guided = model._guided(function, y, model.Sampling(guidance=weight))(h, t)
            for a, b in zip(guided, expected, strict=True):
                if weight == 1:
                    assert torch.equal(a, b)
                torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-4)
    outside = model._guided(model.denoise, y, model.Sampling(guidance=3.0, guidance_from=0.6))(h, t)
    assert all(torch.equal(a, b) for a, b in zip(outside, model.denoise(h, t, y), strict=True))


@pytest.mark.parametrize("index", range(5))
def test_what_is_known_is_kept_and_the_rest_depends_on_it(index: int) -> None:
    model = models()[index].eval()
    known = torch.tensor([[0.0, 1.0, math.nan], [math.nan, math.nan, 1 / 3]]).view(1, 1, 2, 3).repeat(64, 1, 1, 1)
    other = known.clone()
    other[:, 0, 0, 0] = 1.0
    sampling = model.Sampling(num_steps=8, solver=model.sampling.solver)
    a, b = (model.sample(64, generator=generators(0, range(64)), known=k, sampling=sampling) for k in (known, other))
    drawn = known.isnan()
    torch.testing.assert_close(a[~drawn], known[~drawn])
    torch.testing.assert_close(b[~drawn], other[~drawn])
    if index != 1:  # whose random network gives white and black alone
        assert not torch.equal(a[drawn], b[drawn])
    if "dopri5" in model.available:
        with pytest.raises(InputError, match="chooses its own steps"):
            model.sample(64, known=known, sampling=model.Sampling(solver="dopri5"))


@pytest.mark.parametrize("index", range(5))
def test_variations_are_the_more_different_the_more_is_noise(index: int) -> None:
    model = models()[index].eval()
    x, streams = some_images(64), range(64)
    sampling = model.Sampling(num_steps=20, solver=model.sampling.solver)
    whole = model.vary(x, 1.0, generator=generators(0, streams), sampling=sampling)
    assert torch.equal(whole, model.sample(64, generator=generators(0, streams), sampling=sampling))
    slight = model.vary(x, 0.01, generator=generators(0, streams), sampling=sampling)
    assert (slight - x).abs().mean() < (whole - x).abs().mean()
    assert torch.equal(slight[:5], model.vary(x[:5], 0.01, generator=generators(0, range(5)), sampling=sampling))
    for strength in (0.0, 1.5):
        with pytest.raises(InputError, match="strength"):
            model.vary(x, strength)


def test_hidden_classes_are_hidden_in_training_alone() -> None:
    model = FlowMatching((2,), Small, num_classes=3, label_dropout=0.25)
    y = torch.arange(3).repeat(2000)
    seen = model.training_classes(y)
    assert seen is not None
    assert set(seen.tolist()) == {0, 1, 2, 3}
    assert ((seen == 3).float().mean() - 0.25).abs() < 0.03
    assert torch.equal(seen[seen < 3], y[seen < 3])
    model.eval()
    assert model.training_classes(y) is y
    with pytest.raises(InputError):
        model.training_classes(None)


# -- likelihoods -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_classes", [None, 3])
def test_the_density_of_points_integrates_to_one(num_classes: int | None) -> None:
    model = FlowMatching((2,), Small, num_classes=num_classes).double()
    model.initialize(torch.randn(100, 2) * torch.tensor([0.5, 2.0]) + 1)
    axis = torch.linspace(-1, 1, 121, dtype=torch.float64)
    x = torch.cartesian_prod(8 * axis * 0.5 + 1, 8 * axis * 2.0 + 1)
    y = None if num_classes is None else torch.full((len(x),), 1)
    density = model.log_prob(x, y).exp()
    area = (8 * 0.5 * 2 / 120) * (8 * 2.0 * 2 / 120)
    torch.testing.assert_close(density.sum() * area, torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=2e-3)


def test_the_mean_of_probes_is_the_trace() -> None:
    model = FlowMatching((1, 2, 3), Small, levels=4).double()
    h, t = torch.randn(1, 1, 2, 3, dtype=torch.float64), torch.tensor([0.4], dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda h: model.velocity(h, t, None), h).view(6, 6)
    probes = torch.cat([model._probes(h)[0] for _ in range(20_000)]).flatten(1)
    draws = ((probes @ jacobian) * probes).sum(1)
    assert abs(float(draws.mean() - jacobian.trace())) < 4 * float(draws.std()) / 20_000**0.5
    assert float(draws.std()) > 0
    assert torch.equal(probes.abs(), torch.ones_like(probes))


def test_the_same_probes_serve_a_whole_solution(monkeypatch: pytest.MonkeyPatch) -> None:
    model = FlowMatching((1, 2, 3), Small, levels=4)
    calls = []
    probes = model._probes
    monkeypatch.setattr(model, "_probes", lambda h: calls.append(1) or probes(h))
    model.log_prob(some_images(5))
    assert len(calls) == 1


def test_the_bound_of_images_is_below_what_all_images_sum_to() -> None:
    """The probabilities of all images of one pixel sum to the share of samples that are in range."""
    model = FlowMatching((1, 1, 1), Small, levels=4).eval()
    model.network.last.weight.data *= 0.2  # type: ignore[union-attr,operator]
    model.network.last.bias.data.zero_()  # type: ignore[union-attr,operator]
    with torch.no_grad():
        x = (torch.arange(4) / 3).repeat_interleave(2000).view(-1, 1, 1, 1)
        log_prob = model.log_prob(x).view(4, 2000)
        total = (log_prob.logsumexp(1) - math.log(2000)).exp().sum()
        h = model.solve(torch.randn(20_000, 1, 1, 1), None, model.Sampling(solver="dopri5"))
    inside = ((h > -1) & (h < 1)).float().mean()
    torch.testing.assert_close(total, inside, rtol=0, atol=0.03)
    assert (log_prob.mean(1) < log_prob.logsumexp(1) - math.log(2000)).all()


class TwoSteps(DDPM):
    """A chain of two steps for one pixel of four levels, whose denoiser is given by a function."""

    def __init__(self, denoiser: Callable[[Tensor, Tensor], Tensor], variance: str = "small") -> None:
        super().__init__(
            (1, 1, 1), Small, levels=4, chain=2, beta_first=0.3, beta_last=0.6, variance=variance, bound_steps=None,  # type: ignore[arg-type]
        )  # fmt: skip
        self.double()
        self.denoiser = denoiser

    def denoise(self, h: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        data = self.denoiser(h, self.chain.state(t)).clamp(-1, 1)
        a, s = (f(t).view(-1, 1, 1, 1) for f in (self.path.alpha, self.path.sigma))
        return data, (h - a * data) / s


def marginal(model: TwoSteps) -> Tensor:
    """The probabilities of the four levels by quadrature over both latents, ``(4,)``."""
    grid = torch.linspace(-9, 9, 1801, dtype=torch.float64)
    step = float(grid[1] - grid[0])
    left, T = model.chain.alpha_bar, model.chain.num_steps
    x2 = torch.distributions.Normal(0.0, 1.0).log_prob(grid).exp() * step

    def back(k: int) -> tuple[Tensor, float]:
        """Mean of each state k, and the standard deviation, of a step back."""
        states = grid.view(-1, 1, 1, 1)
        data, _ = model.denoise(states, torch.full((len(grid),), 1 - k / T, dtype=torch.float64), None)
        now, before = left[k], left[k - 1]
        beta = 1 - now / before
        mean = before.sqrt() * beta / (1 - now) * data + (now / before).sqrt() * (1 - before) / (1 - now) * states
        small = beta * (1 - before) / (1 - now) if k > 1 else back_variance_of_two(left)
        return mean.flatten(), float((beta if model.large_variance else small).sqrt())

    mean, std = back(2)
    x1 = (x2[:, None] * torch.distributions.Normal(mean[:, None], std).log_prob(grid).exp()).sum(0) * step
    mean, std = back(1)
    normal = torch.distributions.Normal(mean, std)
    edges = [-math.inf, -2 / 3, 0.0, 2 / 3, math.inf]
    cdf = [torch.zeros_like(grid) if e == -math.inf else torch.ones_like(grid) if e == math.inf
           else normal.cdf(torch.tensor(e, dtype=torch.float64)) for e in edges]  # fmt: skip
    return torch.stack([((b - a) * x1).sum() for a, b in itertools.pairwise(cdf)])


def back_variance_of_two(left: Tensor) -> Tensor:
    return (1 - left[2] / left[1]) * (1 - left[1]) / (1 - left[2])


@pytest.mark.parametrize("variance", ["small", "large"])
def test_the_bound_of_a_chain_never_exceeds_the_likelihood(variance: str) -> None:
    model = TwoSteps(lambda h, k: torch.tanh(1.3 * h + 0.2 * k.view(-1, 1, 1, 1)), variance)
    log_p = marginal(model).log()
    torch.testing.assert_close(log_p.exp().sum(), torch.tensor(1.0, dtype=torch.float64), rtol=0, atol=1e-4)
    x = (torch.arange(4, dtype=torch.float64) / 3).repeat_interleave(20_000).view(-1, 1, 1, 1)
    draws = model.log_prob(x).view(4, -1)
    error = draws.std(1) / 20_000**0.5
    assert (draws.mean(1) - 4 * error < log_p).all()
    assert (draws.mean(1) < log_p + 1e-3).all()


def test_the_bound_meets_the_likelihood_where_the_posterior_is_exact() -> None:
    """If the data is always one level, the step back is the posterior, and the bound lacks the chain's end alone."""
    model = TwoSteps(lambda h, k: torch.full_like(h, 1 / 3))
    x = torch.full((20_000, 1, 1, 1), 2 / 3, dtype=torch.float64)  # level 2, 1/3 on the scale of [-1, 1]
    log_p = float(marginal(model)[2].log())
    left = float(model.chain.alpha_bar[2])
    of_prior = 0.5 * (left / 9 + (1 - left) - 1 - math.log(1 - left))
    bound = model.log_prob(x)
    assert float(bound.mean()) <= log_p + 1e-6
    # Only the states' distribution at the chain's end differs from the prior.
    assert log_p - float(bound.mean()) < of_prior + 1e-3


def test_some_terms_of_the_bound_have_the_mean_of_all() -> None:
    model = DDPM((1, 2, 3), Small, levels=4, chain=12, bound_steps=None).double().eval()
    x = some_images(1).double().repeat(6000, 1, 1, 1)
    with torch.no_grad():
        full = model.log_prob(x)
        model.bound_steps = 3
        some = model.log_prob(x)
    error = float((full.var() + some.var()).sqrt()) / 6000**0.5
    assert abs(float(full.mean() - some.mean())) < 4 * error
    assert some.std() > full.std()


# -- EDM and MeanFlow --------------------------------------------------------------------------------------------------


def test_the_preconditioned_network_sees_and_predicts_variance_one() -> None:
    model = EDM((2,), Small)
    data, e = torch.randn(2, 100_000, 2)
    for sigma in (0.01, 0.5, 3.0, 50.0):
        level = torch.full((len(data),), sigma)
        size = math.sqrt(sigma**2 + 1)
        inputs = (data + sigma * e) / size
        targets = (data - (data + sigma * e) / size**2) / (sigma / size)
        assert abs(float(inputs.std()) - 1) < 0.02
        assert abs(float(targets.std()) - 1) < 0.02
        # The loss is the error of the network itself, whatever the level.
        weight = (sigma**2 + 1) / sigma**2
        found = model.network(inputs, level.log()[:, None] / 4)
        expected = (found - targets).square().mean()
        denoised = model.denoiser(data + sigma * e, level, None)
        torch.testing.assert_close(weight * (denoised - data).square().mean(), expected, rtol=2e-3, atol=0)


def test_mean_flow_learns_against_a_target_that_moves_along_the_field(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MeanFlow((3,), Small, power=0.0, apart=1.0).double()
    x = torch.randn(5, 3, dtype=torch.float64)
    kept: dict[str, Tensor] = {}
    average = model.average

    def watched(h: Tensor, t: Tensor, s: Tensor, y: Tensor | None) -> Tensor:
        kept.update(h=forward_ad.unpack_dual(h).primal, v=forward_ad.unpack_dual(h).tangent)  # type: ignore[dict-item]
        kept.update(t=forward_ad.unpack_dual(t).primal, s=s)
        return average(h, t, s, y)

    monkeypatch.setattr(model, "average", watched)
    figures = model.loss(x)
    monkeypatch.undo()
    figures["loss"].backward()
    h, v, t, s = (kept[name].detach() for name in "hvts")
    gradients = [p.grad.clone() for p in model.parameters() if p.grad is not None]
    small = 1e-5
    ahead, behind = (average(h + d * v, t + d, s, None) for d in (small, -small))
    slope = (ahead - behind) / (2 * small)
    target = (v + (s - t)[:, None] * slope).detach()
    model.zero_grad()
    loss = (average(h, t, s, None) - target).square().sum(1).mean()
    torch.testing.assert_close(figures["loss"], loss, rtol=1e-6, atol=0)
    loss.backward()
    for a, b in zip(gradients, [p.grad for p in model.parameters() if p.grad is not None], strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-8)


@pytest.mark.parametrize("networks", [UNet, DiT])
def test_networks_of_images_have_the_derivative_that_mean_flow_needs(networks: type[nn.Module]) -> None:
    model = MeanFlow((1, 8, 8), networks, num_classes=3)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 0.05 * torch.randn_like(parameter)
    model.double()
    h, v = torch.randn(2, 2, 1, 8, 8, dtype=torch.float64)
    t, s, y = torch.tensor([0.2, 0.5]).double(), torch.tensor([0.6, 0.9]).double(), torch.tensor([0, 2])
    with forward_ad.dual_level():
        dual = (forward_ad.make_dual(h, v), forward_ad.make_dual(t, torch.ones_like(t)))
        _, slope = forward_ad.unpack_dual(model.average(*dual, s, y))
    small = 1e-6
    ahead, behind = (model.average(h + d * v, t + d, s, y) for d in (small, -small))
    expected = (ahead - behind) / (2 * small)
    assert slope is not None
    torch.testing.assert_close(slope, expected, rtol=1e-4, atol=1e-6)


# -- networks ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("networks", "shape"),
    [
        (UNet, (1, 8, 8)),
        (UNet, (2, 5, 7)),
        (DDPMpp, (1, 8, 8)),
        (DDPMpp, (2, 5, 7)),
        (DiT, (1, 8, 8)),
        (DiT, (2, 5, 7)),
        (TimeMLP, (3,)),
    ],
)
def test_networks_start_at_zero_and_see_times_and_classes(networks: type[nn.Module], shape: tuple[int, ...]) -> None:
    network = networks(shape, num_times=2, num_classes=3)
    x, times, y = torch.randn(4, *shape), torch.rand(4, 2), torch.tensor([0, 1, 2, 0])
    torch.testing.assert_close(network(x, times, y), torch.zeros_like(x), rtol=0, atol=1e-3)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    found = network(x, times, y)
    assert found.shape == x.shape
    for other in (network(x + 0.1, times, y), network(x, times.flip(1), y), network(x, times, (y + 1) % 3)):
        assert (other - found).abs().flatten(1).amax(1).min() > 1e-5
    found.square().sum().backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())


# -- bad options -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: FlowMatching((4, 4), Small), "expected images"),
        (lambda: FlowMatching((2,), UNet), "diffusion/networks=mlp"),
        (lambda: FlowMatching((2,), DiT), "diffusion/networks=mlp"),
        (lambda: FlowMatching((1, 4, 4), TimeMLP), "diffusion/networks=unet"),
        (lambda: FlowMatching((2,), Small, label_dropout=1.0), "label_dropout"),
        (lambda: FlowMatching((1, 4, 4), Small, levels=1), "levels"),
        (lambda: FlowMatching((2,), Small, VarianceExploding()), "diffusion/edm"),
        (lambda: FlowMatching((2,), Small, num_probes=0), "num_probes"),
        (lambda: FlowMatching((2,), Small, num_steps=0), "num_steps"),
        (lambda: EDM((2,), Small, sigma_data=0.0), "sigma_data"),
        (lambda: VarianceExploding(sigma_min=0.0), "sigma_min"),
        (lambda: DDPM((2,), Small, chain=1), "chain"),
        (lambda: DDPM((2,), Small, variance="middle"), "variance"),  # type: ignore[arg-type]
        (lambda: DDPM((2,), Small, bound_steps=2000), "bound_steps"),
        (lambda: MeanFlow((2,), Small, apart=0.0), "apart"),
        (lambda: LogitNormal(std=0.0), "std"),
        (lambda: OptimalTransport(group=1), "group"),
        (lambda: OptimalTransport(group=200, batch_size=128), "dataset.batch_size is 128"),
        (lambda: UNet((1, 8, 8), multipliers=[]), "multipliers"),
        (lambda: UNet((1, 8, 8), attention_levels=[3]), "attention_levels"),
        (lambda: UNet((1, 8, 8), width=6, num_heads=4), "num_heads"),
        (lambda: DiT((1, 8, 8), width=10, num_heads=4), "multiple of the heads"),
        (lambda: DiffusionModel.Sampling(guidance_from=0.5, guidance_to=0.2), "guidance_from"),
        (lambda: DiffusionModel.Sampling(churn=-1.0), "churn"),
        (lambda: DiffusionModel.Sampling(churn=1.0, solver="ddim"), "solver=heun"),
        (lambda: FlowMatching((2,), Small).sample(2, sampling=DiffusionModel.Sampling(guidance=2.0)), "no classes"),
        (
            lambda: FlowMatching((2,), Small, num_classes=2, label_dropout=0.0).settings(
                DiffusionModel.Sampling(guidance=2.0)
            ),
            "label_dropout=0",
        ),
        (lambda: DDPM((2,), Small).settings(DiffusionModel.Sampling(solver="heun")), "DDPM is solved by ddim, ddpm"),
        (
            lambda: DDPM((2,), Small).sample(2, sampling=DiffusionModel.Sampling(2000 / 2000, 2000, "ddim")),
            "1000 steps",
        ),
        (lambda: FlowMatching((2,), Small).settings(DiffusionModel.Sampling(churn=1.0)), "EDM's path"),
        (lambda: MeanFlow((2,), Small, num_classes=2).settings(DiffusionModel.Sampling(guidance=2.0)), "label_dropout"),
    ],
)
def test_bad_options_are_refused(make: Callable[[], object], says: str) -> None:
    with pytest.raises(InputError, match=says):
        make()


def test_the_density_of_a_grid_counts_every_place_of_a_channel() -> None:
    """With a network that is 0, data are noise times the channel's deviation plus its mean."""

    class Zero(nn.Module):
        def forward(self, h: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
            return 0.0 * h

    model = FlowMatching((2, 3, 3), lambda **_: Zero(), levels=None).double()
    x = torch.randn(2000, 2, 3, 3, dtype=torch.float64) * torch.tensor([2.0, 0.5]).view(1, 2, 1, 1) + 1
    model.initialize(x)
    density = torch.distributions.Normal(model.mean, model.std)
    torch.testing.assert_close(model.log_prob(x[:7]), density.log_prob(x[:7]).flatten(1).sum(1))
    assert model.likelihood == "estimate"
