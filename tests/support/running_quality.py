"""Sample quality as it is measured during training, on one process or on one of several."""

import json
import os

import torch
import torch.distributed as dist
from torch import Tensor

from genlab.metrics.features import Features
from genlab.metrics.measures.base import Measure
from genlab.metrics.measures.fid import FID
from genlab.metrics.measures.inception_score import InceptionScore
from genlab.metrics.measures.kid import KID
from genlab.metrics.reference import Reference
from genlab.metrics.running import Share


def reference(features: Tensor, logits: Tensor | None = None) -> Reference:
    return Reference(Features(features, logits), {"features": "test", "num_real": len(features)})


class Running:
    """The measures as they are used during training, of features that are there already."""

    def __init__(self, real: Reference, num_samples: int, rank: int = 0, world_size: int = 1, splits: int = 10) -> None:
        self.measures: list[Measure] = [FID(), KID(), InceptionScore(splits)]
        self.real, self.num_samples, self.rank, self.world_size = real, num_samples, rank, world_size

    def __call__(self, fake: Features) -> dict[str, float]:
        share = Share(
            torch.empty(0),
            self.num_samples,
            extractor=None,
            real=self.real,
            device=torch.device("cpu"),
            rank=self.rank,
            world_size=self.world_size,
        )
        share.own = fake
        return {name: value for measure in self.measures for name, value in measure.running(share).items()}


def measure_a_share(rank: int, world_size: int, path: str) -> None:
    """One process of two; the figures go to a file."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "GENLAB_TEST": "1"}
    dist.init_process_group("gloo", init_method=f"file://{path}/store", rank=rank, world_size=world_size)
    fake, real, logits = torch.load(f"{path}/data.pt", weights_only=True)
    metric = Running(reference(real, logits), len(fake), rank, world_size)
    torch.manual_seed(0)
    figures = metric(Features(fake[rank::world_size], logits[rank::world_size]))
    with open(f"{path}/{rank}.json", "w") as file:
        json.dump(figures, file)
    dist.destroy_process_group()
