"""How good and how varied samples are: torch-fidelity's estimators on features, and density and coverage."""

from importlib.metadata import version
from typing import Any

import torch

from genlab.errors import InputError
from genlab.metrics.features import Features
from genlab.metrics.prdc import density_and_coverage
from genlab.metrics.reference import Reference

Result = dict[str, Any]

# torch-fidelity's defaults, so that its own command line gives the same numbers.
RNG_SEED, KID_SUBSETS, KID_SUBSET_SIZE, IS_SPLITS, PR_NEIGHBOURS = 2020, 100, 1000, 10, 3
DC_NEIGHBOURS = 5


def sample_quality(fake: Features, real: Reference, device: torch.device | None = None) -> dict[str, Result]:
    """FID, KID, IS (where the extractor has classes), precision and recall, density and coverage of samples.

    ``fid``: Heusel et al., arXiv:1706.08500. ``kid``: Bińkowski et al., arXiv:1801.01401. ``inception_score``: Salimans
    et al., arXiv:1606.03498. ``precision``, ``recall``: Kynkäänniemi et al., arXiv:1904.06991. ``density``,
    ``coverage``: Naeem et al., arXiv:2002.09797. The last four use no more real images than there are samples.

    Raises:
        InputError: where there are too few images for any of them.
    """
    from torch_fidelity.metric_fid import KEY_METRIC_FID, fid_features_to_statistics, fid_statistics_to_metric
    from torch_fidelity.metric_isc import KEY_METRIC_ISC_MEAN, KEY_METRIC_ISC_STD, isc_features_to_metric
    from torch_fidelity.metric_kid import KEY_METRIC_KID_MEAN, KEY_METRIC_KID_STD, kid_features_to_metric
    from torch_fidelity.metric_prc import KEY_METRIC_PRECISION, KEY_METRIC_RECALL, prc_features_to_metric

    n, d = fake.features.shape
    if min(n, len(real)) <= DC_NEIGHBOURS:
        raise InputError(f"{n} samples and {len(real)} real images: more than {DC_NEIGHBOURS} of each are needed")
    common = {
        **real.protocol,
        "backend": f"torch-fidelity {version('torch-fidelity')}",
        "num_features": d,
        "num_samples": n,
    }
    results: dict[str, Result] = {}

    # In float64 throughout: a float32 mean of many features costs the sixth digit.
    statistics = [fid_features_to_statistics(f.double()) for f in (fake.features, real.features.features)]
    fid = fid_statistics_to_metric(*statistics, verbose=False)[KEY_METRIC_FID]
    results["fid"] = {"value": max(0.0, fid), "protocol": {**common, "estimator": "Fréchet distance"}}
    if min(n, len(real)) <= d:
        results["fid"]["warning"] = f"{min(n, len(real))} images for {d} features: the FID is biased upwards"

    subset = min(KID_SUBSET_SIZE, n, len(real))
    kid = kid_features_to_metric(
        fake.features,
        real.features.features,
        kid_subsets=KID_SUBSETS,
        kid_subset_size=subset,
        rng_seed=RNG_SEED,
        verbose=False,
    )
    results["kid"] = {
        "value": kid[KEY_METRIC_KID_MEAN],
        # Subsets that are the whole set are all the same and tell nothing of the spread.
        **({"std": kid[KEY_METRIC_KID_STD]} if subset < min(n, len(real)) else {}),
        "protocol": {
            **common,
            "estimator": f"MMD, cubic kernel, {KID_SUBSETS} subsets of {subset}",
            "rng_seed": RNG_SEED,
        },
    }
    if subset < KID_SUBSET_SIZE:
        results["kid"]["warning"] = f"subsets of {subset} for want of images, not of {KID_SUBSET_SIZE}"

    if fake.logits is not None:
        splits = min(IS_SPLITS, n)
        score = isc_features_to_metric(fake.logits, splits, True, RNG_SEED)
        results["inception_score"] = {
            "value": score[KEY_METRIC_ISC_MEAN],
            "std": score[KEY_METRIC_ISC_STD],
            "protocol": {**common, "estimator": f"mean over {splits} splits", "rng_seed": RNG_SEED},
        }
        if n < 100 * fake.logits.shape[1]:
            results["inception_score"]["warning"] = (
                f"{n} samples in {splits} splits for {fake.logits.shape[1]} classes: the score is biased downwards"
            )

    device = device or torch.device("cpu")
    manifold, num = real.features.features, len(real)
    if num > n:
        chosen = torch.randperm(num, generator=torch.Generator().manual_seed(RNG_SEED))[:n]
        manifold, num = manifold[chosen.sort().values], n
    points, manifold = fake.features.to(device), manifold.to(device)
    balls = {**common, "num_real": num}
    pr = prc_features_to_metric(
        points,
        manifold,
        prc_neighborhood=PR_NEIGHBOURS,
        prc_batch_size=10000,
        save_cpu_ram=True,
        verbose=False,
    )
    for name, key in (("precision", KEY_METRIC_PRECISION), ("recall", KEY_METRIC_RECALL)):
        results[name] = {"value": pr[key], "protocol": {**balls, "estimator": f"{PR_NEIGHBOURS} nearest neighbours"}}
    density, coverage = density_and_coverage(points, manifold, DC_NEIGHBOURS)
    for name, value in (("density", density), ("coverage", coverage)):
        results[name] = {
            "value": value,
            "protocol": {**balls, "backend": "genlab", "estimator": f"{DC_NEIGHBOURS} nearest neighbours"},
        }
    return results
