"""Sample quality against known answers, against NumPy and SciPy, and torchmetrics against torch-fidelity."""

import math

import numpy as np
import pytest
import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.metrics.features import Features
from genlab.metrics.measures.base import Measure
from genlab.metrics.measures.fid import FID
from genlab.metrics.measures.inception_score import InceptionScore
from genlab.metrics.measures.kid import KID
from genlab.metrics.prdc import density_and_coverage
from genlab.metrics.quality import sample_quality
from genlab.metrics.subject import FeaturesSubject
from support.running_quality import Running, measure_a_share, reference


def quality(fake: Tensor, real: Tensor, logits: Tensor | None = None) -> dict[str, float]:
    results = sample_quality(Features(fake, logits), reference(real))
    return {name: result.value for name, result in results.items()}


def with_moments(x: Tensor, mean: Tensor, std: Tensor) -> Tensor:
    """``x`` made to have exactly these sample means and standard deviations, and no correlations."""
    x = x.double() - x.double().mean(0)
    root = torch.linalg.cholesky(x.T @ x / (len(x) - 1))
    return torch.linalg.solve_triangular(root, x.T, upper=False).T * std + mean


def test_fid_of_two_gaussians_is_the_closed_form() -> None:
    """|m|^2 + sum of (s_a - s_b)^2 for Gaussians of diagonal covariance."""
    d = 6
    mean, a, b = torch.linspace(-1, 1, d).double(), torch.linspace(1, 2, d).double(), torch.linspace(3, 0.5, d).double()
    fake = with_moments(torch.randn(300, d), mean, a)
    real = with_moments(torch.randn(400, d), torch.zeros(d).double(), b)
    expected = float(mean.square().sum() + (a - b).square().sum())
    assert quality(fake, real)["fid"] == pytest.approx(expected, rel=1e-9)


@pytest.mark.parametrize("num", [40, 500])
def test_fid_of_a_set_with_itself_is_zero_also_with_fewer_images_than_features(num: int) -> None:
    features = torch.randn(num, 64)
    results = sample_quality(Features(features, None), reference(features))
    assert results["fid"].value < 1e-6
    assert (results["fid"].warning is not None) == (num <= 64)


def test_kid_of_two_halves_of_a_set_is_unbiased_around_zero() -> None:
    values, errors = [], []
    for seed in range(20):
        x = torch.randn(400, 16, generator=torch.Generator().manual_seed(seed))
        values.append(quality(x[:200], x[200:])["kid"])
        errors.append(abs(values[-1]))
    mean, error = np.mean(values), np.std(values, ddof=1) / math.sqrt(len(values))
    assert abs(mean) < 3 * error
    assert min(values) < 0 < max(values)
    shifted = quality(x[:200] + 0.5, x[200:])["kid"]
    assert shifted > 10 * max(errors)


@pytest.mark.parametrize("classes", [2, 10])
def test_inception_score_of_k_equally_sure_classes_is_k(classes: int) -> None:
    num = 2000 * classes
    named = torch.arange(num) % classes
    logits = 60.0 * torch.nn.functional.one_hot(named, classes).float()
    x = torch.randn(num, 4)
    results = sample_quality(Features(x[:2000], logits), reference(x[:2000]))
    # The classes fall unequally into the splits of a shuffle: K (1 - (K - 1) / 2n) of n samples in each.
    assert results["inception_score"].value == pytest.approx(classes, rel=2 * classes / (num / 10))
    unsure = sample_quality(Features(x[:2000], torch.zeros(2000, classes)), reference(x[:2000]))
    assert unsure["inception_score"].value == pytest.approx(1.0)


def test_precision_and_recall_of_identical_disjoint_and_subset_sets() -> None:
    x = torch.randn(300, 8)
    same = quality(x, x)
    assert (same["precision"], same["recall"], same["coverage"]) == (1, 1, 1)
    apart = quality(x, x + 100)
    assert [apart[name] for name in ("precision", "recall", "density", "coverage")] == [0, 0, 0, 0]
    # Real images in two clusters, of which the samples are one: all of it is real, half of it is reached.
    clusters = torch.cat([x[:150], x[150:] + 100])
    half = quality(x[:150].repeat(2, 1) + 1e-4 * torch.randn(300, 8), clusters)
    assert half["precision"] == 1
    assert half["recall"] == pytest.approx(0.5, abs=0.02)
    assert half["coverage"] == pytest.approx(0.5, abs=0.02)


def test_density_and_coverage_by_brute_force() -> None:
    real, fake, k = torch.randn(40, 3), torch.randn(30, 3) * 1.5, 5
    radii = [sorted(float((r - s).norm()) for s in real)[k] for r in real]
    inside = [[float((f - r).norm()) < radius for r, radius in zip(real, radii, strict=True)] for f in fake]
    density, coverage = density_and_coverage(fake, real, k)
    assert density == pytest.approx(np.sum(inside) / (k * len(fake)))
    assert coverage == pytest.approx(np.mean(np.any(inside, axis=0)))


def test_density_rewards_samples_near_the_modes() -> None:
    real = torch.randn(500, 4)
    assert quality(0.3 * torch.randn(500, 4), real)["density"] > quality(torch.randn(500, 4), real)["density"]


def test_real_images_are_cut_to_the_number_of_samples_and_it_is_said() -> None:
    results = sample_quality(Features(torch.randn(50, 4), None), reference(torch.randn(80, 4)))
    counts = {name: result.protocol["num_real"] for name, result in results.items()}
    assert counts == {"fid": 80, "kid": 80, "precision": 50, "recall": 50, "density": 50, "coverage": 50}


def test_too_few_images_are_one_clear_line() -> None:
    with pytest.raises(InputError, match="more than 5"):
        quality(torch.randn(5, 4), torch.randn(100, 4))


# -- three ways to the same numbers ------------------------------------------------------------------------------------


def by_numpy(x: np.ndarray, y: np.ndarray, logits: np.ndarray) -> dict[str, float]:
    """FID by SciPy's matrix root, KID on the whole sets, IS in one split: from the definitions, in float64."""
    from scipy.linalg import sqrtm
    from scipy.special import log_softmax

    m, c, n, d = x.mean(0), np.cov(x.T), y.mean(0), np.cov(y.T)
    fid = np.square(m - n).sum() + np.trace(c + d - 2 * np.real(sqrtm(c @ d)))
    k_xx, k_yy, k_xy = ((a @ b.T / a.shape[1] + 1) ** 3 for a, b in ((x, x), (y, y), (x, y)))
    off = [(k.sum() - np.trace(k)) / (len(k) * (len(k) - 1)) for k in (k_xx, k_yy)]
    log_p = log_softmax(logits, axis=1)
    p = np.exp(log_p)
    score = np.exp((p * (log_p - np.log(p.mean(0)))).sum(1).mean())
    return {"fid": fid, "kid": sum(off) - 2 * k_xy.mean(), "inception_score": score}


def test_both_paths_agree_with_numpy_and_scipy() -> None:
    """With subsets that are the whole sets and one split, no estimator has a choice left."""
    num = 400
    fake, real = torch.randn(num, 12) @ torch.randn(12, 12) / 3, torch.randn(num, 12) + 0.3
    logits = 3 * torch.randn(num, 10)
    expected = by_numpy(fake.double().numpy(), real.double().numpy(), logits.double().numpy())
    subject = FeaturesSubject(Features(fake, logits), reference(real, logits), torch.device("cpu"))
    measures: list[Measure] = [FID(), KID(), InceptionScore(splits=1)]
    final = {name: result.value for measure in measures for name, result in measure(subject).items()}
    running = Running(reference(real, logits), num, splits=1)(Features(fake, logits))
    for name, value in expected.items():
        assert final[name] == pytest.approx(value, rel=1e-4), name
        assert running[name] == pytest.approx(value, rel=1e-4), name


def test_both_paths_agree_as_they_are_used() -> None:
    fake, real = torch.randn(3000, 12) @ torch.randn(12, 12) / 3, torch.randn(2500, 12) + 0.3
    logits = 3 * torch.randn(3000, 10)
    final = sample_quality(Features(fake, logits), reference(real, logits))
    metric = Running(reference(real, logits), 3000)
    running = metric(Features(fake, logits))
    assert running["fid"] == pytest.approx(final["fid"].value, rel=1e-3)
    # Their subsets are drawn differently.
    for name in ("kid", "inception_score"):
        assert abs(running[name] - final[name].value) < 3 * final[name].std
    assert metric(Features(fake, logits))["fid"] == pytest.approx(running["fid"], rel=1e-6)  # a second evaluation


def test_two_processes_measure_what_one_does(tmp_path) -> None:  # type: ignore[no-untyped-def]
    import json

    # An odd number: one process has a sample more than the other.
    fake, real, logits = torch.randn(601, 8) * 1.2, torch.randn(503, 8), torch.randn(601, 10)
    torch.save((fake, real, logits), tmp_path / "data.pt")
    torch.manual_seed(0)
    one = Running(reference(real, logits), 601)(Features(fake, logits))
    torch.multiprocessing.spawn(measure_a_share, (2, str(tmp_path)), nprocs=2)
    first, second = (json.loads((tmp_path / f"{rank}.json").read_text()) for rank in (0, 1))
    assert first == second
    assert first["fid"] == pytest.approx(one["fid"], rel=1e-4)
    assert first["kid"] == pytest.approx(one["kid"], rel=0.2)  # other subsets of the same images
    assert first["inception_score"] == pytest.approx(one["inception_score"], rel=0.01)


def test_blurred_and_noised_digits_are_worse_the_more_so_the_more_they_are(mnist_root: str) -> None:
    from torchvision.transforms.functional import gaussian_blur

    from genlab.data.mnist import MNIST
    from genlab.metrics.digit_classifier import DigitClassifier
    from genlab.metrics.features import extract

    images = MNIST(mnist_root).load()["test"].take(torch.arange(2400))
    classifier = DigitClassifier.pretrained("mnist")
    real = reference(extract(classifier, [images[:1200]]).features)
    x = images[1200:].float() / 255
    noise = torch.randn_like(x)
    for spoil in (lambda s: gaussian_blur(x, 13, 5 * s) if s else x, lambda s: x + s * noise):
        results = [sample_quality(extract(classifier, [spoil(s)]), real) for s in (0.0, 0.1, 0.2, 0.4)]
        fids = [result["fid"].value for result in results]
        coverage = [result["coverage"].value for result in results]
        assert fids == sorted(fids)
        assert fids[1] > 2 * fids[0]
        assert coverage[0] > max(coverage[1:])
        assert coverage[3] < 0.5 * coverage[0]
