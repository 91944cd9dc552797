"""The Fréchet distance of infinitely many samples."""

from typing import TYPE_CHECKING

from genlab.errors import InputError
from genlab.metrics.figure import SAMPLES, Figure
from genlab.metrics.measures.base import FeatureMeasure
from genlab.metrics.result import Result

if TYPE_CHECKING:
    from genlab.metrics.subject import Subject


class FIDInfinity(FeatureMeasure):
    """Fréchet distance extrapolated to infinitely many samples, FD-infinity.

    Effectively Unbiased FID and Inception Score and Where to Find Them (arXiv:1911.07023). The expected distance of N
    samples is linear in 1/N to first order. The distance is measured for subsets of several sizes, and the line that
    fits them by least squares is read at 1/N = 0. The value can be below 0 if the samples are as good as the real
    images, or far too few.

    The subsets are random, without replacement, of one set of samples drawn as for every measure; Sobol sequences in
    place of random noise, which the paper also proposes, are not used. The real images are always all of them, whose
    own number biases the value as it does the FID's.

    Args:
        points: number of subset sizes, from ``smallest`` to the number of samples at equal distances.
        smallest: size of the smallest subset; at most half of the samples.
        rng_seed: random seed of the subsets.

    Raises:
        InputError: if there are fewer than two sizes, or subsets of fewer than two samples.
    """

    figures = {"fid_infinity": Figure("FID infinity", "min", (*SAMPLES, "estimator"))}

    def __init__(self, points: int = 15, smallest: int = 5000, rng_seed: int = 2020) -> None:
        if points < 2 or smallest < 2:
            raise InputError(
                f"FID infinity: points={points}, smallest={smallest}: a line takes two sizes at least, and a size two "
                "samples"
            )
        self.points, self.smallest, self.rng_seed = points, smallest, rng_seed

    def __call__(self, subject: "Subject") -> dict[str, Result]:
        import torch

        from genlab.metrics.frechet import FrechetDistance

        fake, real = subject.compared
        features, d = fake.features.to(subject.device), fake.features.shape[1]
        smallest = min(self.smallest, len(fake) // 2)
        sizes = torch.linspace(smallest, len(fake), self.points, dtype=torch.float64).long().unique()
        distance = FrechetDistance(real.features.features.to(subject.device))
        generator = torch.Generator().manual_seed(self.rng_seed)
        values = []
        for size in sizes.tolist():
            chosen = torch.randperm(len(features), generator=generator)[:size].to(subject.device)
            values.append(distance(features[chosen]))
        line = torch.stack([torch.ones(len(sizes), dtype=torch.float64), 1 / sizes.double()], 1)
        found = torch.linalg.lstsq(line, torch.tensor(values, dtype=torch.float64).unsqueeze(1)).solution
        estimator = f"Fréchet distance of {len(sizes)} random subsets of {smallest} to {len(fake)}, read at 1/N = 0"
        protocol = self.protocol(subject, backend="genlab", estimator=estimator, rng_seed=self.rng_seed)
        biased = f"subsets of {smallest} samples for {d} features: the distance is not linear in 1/N there"
        return {"fid_infinity": Result(float(found[0]), protocol, warning=biased if smallest <= d else None)}
