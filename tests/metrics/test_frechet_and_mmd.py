"""FD-infinity and CMMD: closed forms, sums over all pairs, and other implementations."""

import json

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from torch import Tensor

from genlab.errors import InputError
from genlab.metrics.features import Features
from genlab.metrics.frechet import FrechetDistance
from genlab.metrics.measures.cmmd import CMMD
from genlab.metrics.measures.fid import FID
from genlab.metrics.measures.fid_infinity import FIDInfinity
from genlab.metrics.mmd import gaussian_mmd
from genlab.metrics.reference import Reference
from genlab.metrics.result import Result
from genlab.metrics.subject import FeaturesSubject
from support.command import FAST, Genlab
from support.paths import CONF
from support.running_quality import reference


def subject(fake: Tensor, real: Tensor) -> FeaturesSubject:
    return FeaturesSubject(Features(fake, None), reference(real), torch.device("cpu"))


def infinity(fake: Tensor, real: Tensor, **options: int) -> Result:
    return FIDInfinity(**options)(subject(fake, real))["fid_infinity"]


# -- Fréchet -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num", "d"), [(400, 6), (40, 64), (3, 2)])
@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_the_distance_is_that_of_torch_fidelity(num: int, d: int, offset: float) -> None:
    """Also with fewer images than features, and with features far from 0."""
    real, fake = offset + torch.randn(500, d), offset + 0.5 + torch.randn(num, d) @ torch.randn(d, d)
    expected = FID()(subject_of_any_size(fake, real))["fid"].value
    assert FrechetDistance(real)(fake) == pytest.approx(expected, rel=1e-5)
    assert FrechetDistance(real)(real) == pytest.approx(0, abs=1e-6)


def subject_of_any_size(fake: Tensor, real: Tensor) -> FeaturesSubject:
    found = subject(fake, real)
    found.__dict__["compared"] = (found.features, found.real)  # which refuses sets of few images
    return found


def gaussians(num: int, d: int, seed: int) -> tuple[Tensor, Tensor, float]:
    """Samples of one Gaussian, enough of another for its exact moments, and the distance of the two.

    The covariances are diagonal, with roots a and b: |m|² + sum (a - b)².
    """
    generator = torch.Generator().manual_seed(seed)
    mean, a, b = torch.full((d,), 0.1), torch.linspace(0.5, 1.5, d), torch.linspace(0.7, 1.2, d)
    # Rows and their negatives: mean 0; after whitening, the sample covariance is exactly b².
    x = torch.randn(4 * d, d, generator=generator).double()
    x = torch.cat([x, -x])
    root = torch.linalg.cholesky(x.T @ x / (len(x) - 1))
    real = torch.linalg.solve_triangular(root, x.T, upper=False).T * b
    fake = mean + a * torch.randn(num, d, generator=generator)
    return fake, real, float(mean.square().sum() + (a - b).square().sum())


def test_few_samples_of_a_gaussian_are_extrapolated_to_its_exact_distance() -> None:
    """The distance of 1,000 samples is a quarter too large; that of infinitely many is within three standard errors."""
    found, plain = [], []
    for seed in range(6):
        fake, real, exact = gaussians(1000, 32, seed)
        found.append(infinity(fake, real).value)
        plain.append(FrechetDistance(real)(fake))
    error = np.std(found, ddof=1) / len(found) ** 0.5
    assert abs(np.mean(found) - exact) < 3 * error
    assert np.mean(plain) - exact > 0.2 * exact > 5 * abs(np.mean(found) - exact)
    assert error < 0.1 * exact


def test_the_line_is_that_of_least_squares(monkeypatch: pytest.MonkeyPatch) -> None:
    """Distances a + b / N + noise, whose line numpy fits."""
    sizes: list[int] = []
    rng = np.random.default_rng(0)
    values: list[float] = []

    def distance(_: FrechetDistance, features: Tensor) -> float:
        sizes.append(len(features))
        assert len(features.unique(dim=0)) == len(features)  # without replacement
        values.append(3.0 + 100 / len(features) + rng.normal(scale=0.01))
        return values[-1]

    monkeypatch.setattr(FrechetDistance, "__call__", distance)
    result = infinity(torch.randn(900, 3), torch.randn(900, 3))
    assert sizes == np.linspace(450, 900, 15).astype(int).tolist()
    assert result.value == pytest.approx(np.polyfit(1 / np.array(sizes), values, 1)[1])
    sizes.clear()
    values.clear()
    infinity(torch.randn(900, 3), torch.randn(900, 3), points=3, smallest=100)
    assert sizes == [100, 500, 900]


def test_the_extrapolation_says_how_and_when_not_to_trust_it() -> None:
    result = infinity(torch.randn(100, 8), torch.randn(90, 8))
    assert result.protocol["estimator"] == ("Fréchet distance of 15 random subsets of 50 to 100, read at 1/N = 0")
    assert result.protocol["num_samples"] == 100
    assert result.warning is None
    assert infinity(torch.randn(100, 8), torch.randn(90, 8)).value != result.value
    fake, real = torch.randn(100, 60), torch.randn(90, 60)
    assert infinity(fake, real).value == infinity(fake, real).value
    assert "50 samples for 60 features" in str(infinity(fake, real).warning)
    for options in ({"points": 1}, {"smallest": 1}):
        with pytest.raises(InputError, match="a line takes two sizes"):
            FIDInfinity(**options)


# -- MMD ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("offset", [0.0, 1000.0])
def test_mmd_is_the_sum_over_all_pairs(offset: float) -> None:
    x, y = offset + torch.randn(13, 5), offset + 0.3 + torch.randn(7, 5)

    def mean(a: Tensor, b: Tensor) -> float:
        pairs = [float((u - v).double().square().sum()) for u in a for v in b]
        return float(np.mean([np.exp(-square / (2 * 2.0**2)) for square in pairs]))

    assert gaussian_mmd(x, y, 2.0) == pytest.approx(mean(x, x) + mean(y, y) - 2 * mean(x, y), rel=1e-4)
    assert gaussian_mmd(x, x, 2.0) == pytest.approx(0, abs=1e-15)


def test_mmd_of_two_gaussians_is_the_closed_form() -> None:
    """(1 + 2 / s²)^(-d/2) for two draws of a standard Gaussian; for means m apart, that times exp(-m² / (2 s² + 4))."""
    d, s, m, num = 3, 2.0, 1.5, 4000
    x, y = torch.randn(num, d), torch.randn(num, d) + torch.tensor([m, 0, 0])
    alike = (1 + 2 / s**2) ** (-d / 2)
    expected = 2 * alike * (1 - np.exp(-(m**2) / (2 * s**2 + 4)))
    biased = 2 * (1 - alike) / num  # of the pairs of an image with itself
    assert gaussian_mmd(x, y, s) == pytest.approx(expected + biased, rel=0.05)


def reference_code(x: np.ndarray, y: np.ndarray) -> float:
    """The formula of the authors' code: norms from products, means of whole matrices, sigma 10, times 1,000."""
    squares = [np.diag(a @ a.T) for a in (x, y)]
    gamma = 1 / (2 * 10**2)

    def mean(a: np.ndarray, b: np.ndarray, of_a: np.ndarray, of_b: np.ndarray) -> float:
        return float(np.exp(-gamma * (-2 * a @ b.T + of_a[:, None] + of_b[None])).mean())

    within = mean(x, x, squares[0], squares[0]) + mean(y, y, squares[1], squares[1])
    return 1000 * (within - 2 * mean(x, y, *squares))


def test_cmmd_is_that_of_the_authors() -> None:
    x, y = (torch.nn.functional.normalize(torch.randn(num, 16) + shift, dim=1) for num, shift in ((60, 0.5), (40, 0.0)))
    real = Reference(Features(y, None), {"features": "clip_vitl14_336", "num_real": 40})
    result = CMMD()(FeaturesSubject(Features(x, None), real, torch.device("cpu")))["cmmd"]
    assert result.value == pytest.approx(reference_code(x.double().numpy(), y.double().numpy()), rel=1e-6)
    assert result.warning is None
    assert result.protocol["estimator"] == "MMD, Gaussian kernel, sigma 10, biased, times 1000"
    assert "on CLIP's embeddings, not on test" in str(CMMD()(subject(x, y))["cmmd"].warning)
    with pytest.raises(InputError, match="width of the kernel"):
        CMMD(sigma=0)


# -- from the command line ---------------------------------------------------------------------------------------------


def test_both_are_measured_beside_the_others(genlab: Genlab) -> None:
    result = genlab(
        "train", "model=vae/vae", "model.networks.hidden=[8]", *FAST, "metrics/measures=fid_infinity",
        "+metrics.measures.cmmd._target_=genlab.metrics.measures.cmmd.CMMD",
    )  # fmt: skip
    assert result.code == 0, result.err
    metrics = json.loads((result.run / "summary.json").read_text())["metrics"]
    assert {"test/fid", "test/fid_infinity", "test/cmmd"} <= metrics.keys()
    assert metrics["test/fid_infinity"]["protocol"]["features"] == "digits"
    assert "FID infinity" in result.out


def test_the_options_list_the_default_measures_and_one_more() -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        default = set(compose("train").metrics.measures)
        for name in ("fid_infinity", "cmmd"):
            assert set(compose("train", [f"metrics/measures={name}"]).metrics.measures) == default | {name}
