"""Objectives of VAEs against their formulas, on a model of a few numbers: values and gradients, draw by draw."""

import math
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.models.vae.objectives import (
    ELBO,
    IWAE,
    BetaTC,
    InfoVAE,
    Objective,
    decomposed_kl,
    mmd2,
    systematic,
)
from genlab.models.vae.posteriors import Gaussian

B, D = 5, 2
BITS = 0.37  # what the model makes of a nat


class Model:
    """x = theta z + noise, z standard normal; the posterior's parameters of each image are given and trained."""

    latent_dim = D
    has_gaussian_posterior = True

    def __init__(self, trainable: bool = True) -> None:
        generator = torch.Generator().manual_seed(4)
        self.x = torch.randn(B, D, generator=generator).double()
        self.h = (0.7 * torch.randn(B, 2 * D, generator=generator)).double().requires_grad_(trainable)
        self.theta = torch.tensor([0.8, -1.3]).double().requires_grad_()

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        return BITS * nats

    def gaussian(self, x: Tensor, y: Tensor | None = None) -> Gaussian:
        return Gaussian.of(self.posterior_params(x, y))

    def posterior_params(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        assert x is self.x
        assert y == "classes"
        return self.h

    def draw_posterior(self, params: Tensor, noise: Tensor) -> tuple[Tensor, Tensor]:
        q = Gaussian.of(params)
        z = q.mean + q.std * noise
        return z, q.log_prob(z)

    def draw(self, x: Tensor, y: Tensor | None = None, num: int = 1) -> tuple[Tensor, Tensor]:
        return self.draw_posterior(self.posterior_params(x, y), torch.randn(num, B, D))

    def draw_prior(self, noise: Tensor) -> Tensor:
        return 2 * noise + 1

    def log_prior(self, z: Tensor) -> Tensor:
        return -0.5 * (z.square() + math.log(2 * math.pi)).sum(-1)

    def log_likelihood(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        assert z.shape == (B, D)
        return self.log_likelihood_of_many(x, z[None], y)[0]

    def log_likelihood_of_many(self, x: Tensor, z: Tensor, y: Tensor | None = None) -> Tensor:
        assert y == "classes"
        return -0.5 * ((x - self.theta * z).square() + math.log(2 * math.pi)).sum(-1)


def figures(objective: Any, model: Any, seed: int = 0) -> dict[str, Tensor]:
    torch.manual_seed(seed)
    found: dict[str, Tensor] = objective(model, model.x, "classes")
    return found


def close(found: Tensor, expected: Any, tolerance: float = 1e-6) -> None:
    assert found.shape == ()
    assert float(found.detach()) == pytest.approx(float(expected), rel=tolerance, abs=1e-9)


# -- the evidence lower bound ------------------------------------------------------------------------------------------


class Terms(SimpleNamespace):
    """A model whose terms of the bound are given."""

    x = None

    def elbo_terms(self, x: Any, y: Any) -> tuple[Tensor, Tensor]:
        assert y == "classes"
        return self.log_likelihood, self.kl

    def bits_per_dim(self, nats: Tensor) -> Tensor:
        return BITS * nats


KL = torch.tensor([[0.1, 2.0, 0.3], [0.3, 4.0, 0.9]]).double()
TERMS = Terms(log_likelihood=torch.tensor([-3.0, -6.0]).double(), kl=KL, latent_dim=3, units_per_part=1)


@pytest.mark.parametrize("beta", [0.0, 1.0, 4.0])
def test_the_elbo_weighs_the_divergence_in_the_loss_alone(beta: float) -> None:
    found = figures(ELBO(beta=beta), TERMS)
    assert list(found) == ["loss", "nll", "reconstruction", "kl"]
    rate, distortion = float(KL.sum()) / 2, 4.5
    close(found["loss"], BITS * (distortion + beta * rate))
    close(found["nll"], distortion + rate)
    close(found["reconstruction"], distortion)
    close(found["kl"], rate)
    close(figures(ELBO(), TERMS)["loss"], BITS * (distortion + rate))


@pytest.mark.parametrize(
    ("free_bits", "counted"), [(0.0, 3.8), (0.1, 3.8), (0.4, 0.4 + 3 + 0.6), (1.0, 1 + 3 + 1), (3.5, 10.5)]
)
def test_free_bits_are_those_of_each_latent_on_average_over_the_batch(free_bits: float, counted: float) -> None:
    found = figures(ELBO(beta=2.0, free_bits=free_bits), TERMS)
    close(found["loss"], BITS * (4.5 + 2 * counted))
    close(found["kl"], 3.8)  # what is told is the divergence as it is
    close(found["nll"], 8.3)


def test_free_bits_of_a_divergence_in_one_part_are_those_of_all_latents() -> None:
    whole = Terms(log_likelihood=TERMS.log_likelihood, kl=KL.sum(1, keepdim=True), latent_dim=3, units_per_part=3)
    for free_bits, counted in ((1.0, 3.8), (2.0, 6.0)):
        close(figures(ELBO(free_bits=free_bits), whole)["loss"], BITS * (4.5 + counted))


def test_an_estimate_of_the_divergence_below_zero_counts_as_it_is() -> None:
    """As that of a few draws may be; without free bits nothing is cut off, nor its gradient."""
    kl = torch.tensor([[-1.0], [0.4]]).double().requires_grad_()
    model = Terms(log_likelihood=TERMS.log_likelihood, kl=kl, latent_dim=3, units_per_part=3)
    found = figures(ELBO(), model)
    close(found["loss"], BITS * (4.5 - 0.3))
    found["loss"].backward()
    torch.testing.assert_close(kl.grad, torch.full((2, 1), BITS / 2).double())


def test_the_weight_of_the_divergence_follows_the_images_seen() -> None:
    for options, expected in (
        ({}, {0: 3, 5: 3, 100: 3}),
        ({"warmup_images": 10}, {0: 0, 1: 0.3, 5: 1.5, 10: 3, 11: 3, 25: 3}),
        ({"cycle_images": 10}, {0: 0, 1: 0.6, 4: 2.4, 5: 3, 6: 3, 9: 3, 10: 0, 12: 1.2, 17: 3, 23: 1.8}),
        ({"warmup_images": 1}, {0: 0, 1: 3}),
        ({"cycle_images": 1}, {0: 0, 1: 0}),
    ):
        objective = ELBO(beta=3.0, **options)  # type: ignore[arg-type]
        assert float(objective.weight) == 3  # of an evaluation without training
        assert not objective.state_dict()  # it follows from the images seen, which checkpoints hold
        for images, weight in expected.items():
            objective.prepare(images)
            found = figures(objective, TERMS)
            close(found["loss"], BITS * (4.5 + weight * 3.8))
            assert ("kl_weight" in found) == bool(options)
            if options:
                close(found["kl_weight"], weight)
                objective.prepare(3)
                close(found["kl_weight"], weight)  # a figure of its step


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"beta": -0.1}, "beta=-0.1, free_bits=0.0: at least 0"),
        ({"free_bits": -0.1}, "free_bits=-0.1"),
        ({"warmup_images": 5, "cycle_images": 5}, "not both"),
        ({"warmup_images": 0}, "warmup_images=0, cycle_images=None: at least 1"),
        ({"warmup_images": -5}, "warmup_images=-5"),
        ({"cycle_images": 0}, "cycle_images=0: at least 1"),
        ({"cycle_images": -1}, "cycle_images=-1"),
    ],
)
def test_options_of_the_elbo_out_of_range_are_refused(options: Any, line: str) -> None:
    with pytest.raises(InputError, match=line):
        ELBO(**options)


# -- the total correlation ---------------------------------------------------------------------------------------------


def parts(q: Gaussian, z: Tensor, log_prior: Tensor) -> tuple[float, float, float]:
    """By sums over images, as the paper has them."""
    mean, std, z, log_prior = (t.detach().numpy() for t in (q.mean, q.std, z, log_prior))
    num = len(z)

    def density(i: int, j: int) -> np.ndarray:
        """Of draw i under the posterior of image j, for each latent."""
        deviation = (z[i] - mean[j]) / std[j]
        return np.exp(-0.5 * deviation**2) / (std[j] * math.sqrt(2 * math.pi))

    information = correlation = own = 0.0
    for i in range(num):
        of_all = np.mean([density(i, j).prod() for j in range(num)])
        of_each = np.prod([np.mean([density(i, j)[d] for j in range(num)]) for d in range(z.shape[1])])
        information += math.log(density(i, i).prod() / of_all) / num
        correlation += math.log(of_all / of_each) / num
        own += (math.log(of_each) - log_prior[i]) / num
    return information, correlation, own


def test_the_parts_of_the_divergence_are_the_papers_sums() -> None:
    model = Model()
    q = model.gaussian(model.x, "classes")  # type: ignore[arg-type]
    z = q.mean + q.std * torch.randn(B, D).double()
    log_prior = model.log_prior(z)
    for found, expected in zip(decomposed_kl(q, z, log_prior), parts(q, z, log_prior), strict=True):
        close(found, expected)


@pytest.mark.parametrize("options", [{}, {"beta": 2.0, "alpha": 0.5, "gamma": 3.0}, {"beta": 0.0}, {"alpha": 0.0},
                                     {"gamma": 0.0}])  # fmt: skip
def test_beta_tc_weighs_the_three_parts(options: dict[str, float]) -> None:
    model = Model()
    found = figures(BetaTC(**options), model)
    torch.manual_seed(0)
    q = model.gaussian(model.x, "classes")  # type: ignore[arg-type]
    z = q.mean + q.std * torch.randn(B, D, dtype=torch.float64)
    information, correlation, own = parts(q, z, model.log_prior(z))
    weights = {"beta": 6.0, "alpha": 1.0, "gamma": 1.0, **options}  # by default the paper's
    distortion = -model.log_likelihood(model.x, z, "classes").mean().item()  # type: ignore[arg-type]
    weighted = weights["alpha"] * information + weights["beta"] * correlation + weights["gamma"] * own
    close(found["loss"], BITS * (distortion + weighted))
    close(found["nll"], distortion + information + correlation + own)
    close(found["reconstruction"], distortion)
    close(found["kl"], information + correlation + own)
    close(found["mutual_information"], information)
    close(found["total_correlation"], correlation)
    close(found["dimension_kl"], own)


def test_beta_tc_refuses_negative_weights_and_posteriors_without_a_density() -> None:
    for name in ("alpha", "beta", "gamma"):
        with pytest.raises(InputError, match=f"{name}=-0.5.*at least 0"):
            BetaTC(**{name: -0.5})
    BetaTC().check(Model())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="vae/posterior=gaussian"):
        BetaTC().check(SimpleNamespace(has_gaussian_posterior=False))  # type: ignore[arg-type]


# -- InfoVAE -----------------------------------------------------------------------------------------------------------


def discrepancy(a: np.ndarray, b: np.ndarray) -> float:
    C = 2.0 * a.shape[1]

    def mean(u: np.ndarray, v: np.ndarray, same: bool) -> float:
        kernel = [
            C / (C + ((p - q) ** 2).sum()) for i, p in enumerate(u) for j, q in enumerate(v) if not same or i != j
        ]
        return float(np.mean(kernel)) if kernel else 0.0

    return mean(a, a, True) + mean(b, b, True) - 2 * mean(a, b, False)


@pytest.mark.parametrize(("N", "M", "dims"), [(6, 7, 3), (2, 2, 1), (1, 3, 2), (1, 1, 2), (4, 4, 5)])
def test_the_discrepancy_is_the_sum_over_pairs(N: int, M: int, dims: int) -> None:
    a, b = torch.randn(N, dims).double(), torch.randn(M, dims).double() + 1
    close(mmd2(a, b), discrepancy(a.numpy(), b.numpy()))


def test_far_from_zero_the_discrepancy_is_the_same() -> None:
    a, b = torch.randn(60, 8), torch.randn(60, 8)
    assert float(mmd2(a + 1000, b + 1000)) == pytest.approx(float(mmd2(a, b)), abs=1e-4)


@pytest.mark.parametrize("options", [{}, {"alpha": 0.0, "scale": 1.0}, {"alpha": 1.0, "scale": 0.0},
                                     {"alpha": 0.3, "scale": 10.0}])  # fmt: skip
def test_info_vae_is_the_papers_sum(options: dict[str, float]) -> None:
    model = Model()
    found = figures(InfoVAE(**options), model)
    torch.manual_seed(0)
    z, log_q = model.draw(model.x, "classes")  # type: ignore[arg-type]
    prior = model.draw_prior(torch.randn(B, D, dtype=z.dtype))
    distance = discrepancy(z[0].detach().numpy(), prior.numpy())
    distortion = -model.log_likelihood(model.x, z[0], "classes").mean().item()  # type: ignore[arg-type]
    rate = (log_q[0] - model.log_prior(z[0])).mean().item()
    alpha, scale = options.get("alpha", 0.9), options.get("scale", 1000.0)
    close(found["loss"], BITS * (distortion + (1 - alpha) * rate + (alpha + scale - 1) * distance))
    close(found["nll"], distortion + rate)
    close(found["reconstruction"], distortion)
    close(found["kl"], rate)
    close(found["mmd2"], distance)


@pytest.mark.parametrize("options", [{"alpha": -0.01}, {"alpha": 1.01}, {"scale": -0.01}])
def test_options_of_info_vae_out_of_range_are_refused(options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"alpha in \[0, 1\], scale at least 0"):
        InfoVAE(**options)


# -- the importance-weighted bound -------------------------------------------------------------------------------------


def log_weights(model: Model, h: Tensor, theta: Tensor, noise: Tensor, fixed: Tensor | None = None) -> Tensor:
    """log p(x, z) - log q(z | x) of each draw, ``(k, B)``; the density's own parameters may be ``fixed``."""
    mean, log_std = h.chunk(2, 1)
    z = mean + log_std.exp() * noise
    m, s = (h if fixed is None else fixed).chunk(2, 1)
    log_q = (-0.5 * ((z - m) / s.exp()) ** 2 - s - 0.5 * math.log(2 * math.pi)).sum(-1)
    joint = -0.5 * (z**2 + (model.x - theta * z) ** 2).sum(-1) - D * math.log(2 * math.pi)
    return joint - log_q


def noise_of(k: int, seed: int = 0) -> Tensor:
    torch.manual_seed(seed)
    return torch.randn(k, B, D)


@pytest.mark.parametrize("k", [1, 2, 5])
@pytest.mark.parametrize("options", [{}, {"doubly_reparameterized": True}, {"backward_draws": 1}])
def test_the_bound_is_the_logarithm_of_the_mean_weight(k: int, options: Any) -> None:
    if k == 1 and options.get("backward_draws"):
        return
    model = Model()
    found = figures(IWAE(k, **options), model)
    with torch.no_grad():
        log_w = log_weights(model, model.h, model.theta, noise_of(k))
        z = model.draw_posterior(model.h, noise_of(k))[0]
        distortion = -model.log_likelihood_of_many(model.x, z, "classes").mean()  # type: ignore[arg-type]
    bound = np.log(np.exp(log_w.numpy()).mean(0)).mean()
    assert list(found) == ["loss", "nll", "reconstruction", "kl"]
    close(found["loss"], -BITS * bound)
    close(found["nll"], -bound)
    close(found["reconstruction"], distortion)
    close(found["kl"], -distortion - log_w.mean())


def gradients(objective: IWAE, model: Model) -> tuple[Tensor, ...]:
    return torch.autograd.grad(figures(objective, model)["loss"], [model.h, model.theta])


def test_the_plain_gradient_is_that_of_the_bound() -> None:
    model = Model()
    bound = (torch.logsumexp(log_weights(model, model.h, model.theta, noise_of(5)), 0) - math.log(5)).mean()
    expected = torch.autograd.grad(-BITS * bound, [model.h, model.theta])
    for found, gradient in zip(gradients(IWAE(), model), expected, strict=True):  # five draws by default
        torch.testing.assert_close(found, gradient)


def test_the_doubly_reparameterized_gradient_is_the_papers() -> None:
    """Equation 8: squared weights for what reaches the encoder through z alone; the decoder's has the weights."""
    model, k = Model(), 4
    log_w = log_weights(model, model.h, model.theta, noise_of(k), fixed=model.h.detach())
    weights = torch.softmax(log_w, 0).detach()
    (of_encoder,) = torch.autograd.grad((weights**2 * log_w).sum(0).mean(), model.h, retain_graph=True)
    (of_decoder,) = torch.autograd.grad((weights * log_w).sum(0).mean(), model.theta)
    found = gradients(IWAE(k, doubly_reparameterized=True), model)
    torch.testing.assert_close(found[0], -BITS * of_encoder)
    torch.testing.assert_close(found[1], -BITS * of_decoder)
    # With an encoder that does not learn, the decoder's is the same.
    frozen = Model(trainable=False)
    loss = figures(IWAE(k, doubly_reparameterized=True), frozen)["loss"]
    (alone,) = torch.autograd.grad(loss, frozen.theta)
    torch.testing.assert_close(alone, -BITS * of_decoder)


@pytest.mark.parametrize(("k", "num"), [(2, 1), (5, 1), (5, 4), (9, 3)])
def test_the_gradient_of_some_draws_is_the_mean_of_the_chosen_ones(k: int, num: int) -> None:
    model = Model()
    found = gradients(IWAE(k, backward_draws=num), model)
    noise = noise_of(k)
    start = torch.rand(1, B)
    log_w = log_weights(model, model.h, model.theta, noise)
    ends = torch.softmax(log_w.detach(), 0).cumsum(0).numpy()
    chosen = [
        [np.searchsorted(ends[:, b], float((i + start[0, b]) / num), "right") for i in range(num)] for b in range(B)
    ]
    surrogate = sum(log_w[i, b] for b in range(B) for i in chosen[b]) / (num * B)
    for gradient, expected in zip(found, torch.autograd.grad(-BITS * surrogate, [model.h, model.theta]), strict=True):
        torch.testing.assert_close(gradient, expected)


@pytest.mark.parametrize(("k", "num"), [(3, 1), (6, 4), (4, 9)])
def test_systematic_resampling_takes_what_lies_at_evenly_spaced_points(k: int, num: int) -> None:
    weights = torch.softmax(torch.randn(k, 40), 0)
    torch.manual_seed(2)
    found = systematic(weights, num)
    torch.manual_seed(2)
    start = torch.rand(1, 40).numpy()
    assert found.shape == (num, 40)
    assert found.dtype == torch.int64
    for b in range(40):
        ends = np.cumsum(weights[:, b].double().numpy())
        points = (np.arange(num) + start[0, b]) / num
        assert found[:, b].tolist() == np.searchsorted(ends, points, "right").tolist()


def test_weights_that_rounding_leaves_below_one_choose_no_draw_that_is_not_there() -> None:
    chosen = systematic(torch.full((3, 2000), 0.3), 1)  # of 0.9 in all
    assert torch.equal(chosen.unique(), torch.arange(3))
    # A draw without weight is never chosen, wherever it lies.
    for impossible in range(3):
        weights = torch.full((3, 2000), 0.5).index_fill_(0, torch.tensor([impossible]), 0.0)
        assert impossible not in systematic(weights, 2)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"k": 0}, "k=0: at least 1 draw"),
        ({"k": -1}, "k=-1"),
        ({"k": 5, "backward_draws": 0}, "backward_draws=0: expected 1 to 4 of the k=5"),
        ({"k": 5, "backward_draws": 5}, "backward_draws=5: expected 1 to 4"),
        ({"k": 5, "backward_draws": 6}, "backward_draws=6"),
        ({"k": 5, "backward_draws": 2, "doubly_reparameterized": True}, "needs every draw's gradient"),
    ],
)
def test_options_of_the_weighted_bound_out_of_range_are_refused(options: Any, line: str) -> None:
    with pytest.raises(InputError, match=line):
        IWAE(**options)


def test_only_the_doubly_reparameterized_gradient_needs_a_density() -> None:
    without: Any = SimpleNamespace(has_gaussian_posterior=False)
    IWAE(doubly_reparameterized=False).check(without)
    IWAE().check(without)
    IWAE(doubly_reparameterized=True).check(Model())  # type: ignore[arg-type]
    with pytest.raises(InputError, match="doubly_reparameterized needs the posterior's density"):
        IWAE(doubly_reparameterized=True).check(without)


def test_an_objective_has_to_say_what_its_loss_is() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Objective()  # type: ignore[abstract]
    for objective in (ELBO(), BetaTC(), InfoVAE(), IWAE()):
        before = objective.state_dict()
        objective.prepare(5)
        assert objective.state_dict() == before
