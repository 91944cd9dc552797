"""MeanFlow over several processes: gradients are averaged although a derivative along a tangent is taken on the way."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing import start_processes  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from genlab.models.diffusion.mean_flow import MeanFlow
from genlab.networks.dit import DiT

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)


class Loss(nn.Module):
    """A model whose forward pass is its loss, as a training step's is under Lightning."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.model = MeanFlow((1, 4, 4), lambda **options: DiT(**options, patch=2, width=8, num_heads=2, num_layers=1))
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter += 0.1 * torch.randn_like(parameter)

    def forward(self, x: Tensor) -> Tensor:
        return self.model.loss(x)["loss"]


def batch(rank: int) -> Tensor:
    return torch.rand(6, 1, 4, 4, generator=torch.Generator().manual_seed(rank))


def gradients(module: nn.Module, rank: int) -> list[Tensor]:
    torch.manual_seed(10 + rank)
    module(batch(rank)).backward()
    return [parameter.grad for parameter in module.parameters() if parameter.grad is not None]


def work(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=2)
    torch.save(gradients(DistributedDataParallel(Loss()), rank), f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch is built without torch.distributed")
def test_processes_average_their_gradients(tmp_path: Path) -> None:
    start_processes(work, (str(tmp_path),), nprocs=2, start_method="fork")
    ours, theirs = (torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1))
    alone = [gradients(Loss(), rank) for rank in (0, 1)]
    assert len(ours) == len(alone[0])
    for a, b, first, second in zip(ours, theirs, *alone, strict=True):
        torch.testing.assert_close(a, (first + second) / 2)
        assert torch.equal(a, b)
    assert any(not torch.allclose(first, second) for first, second in zip(*alone, strict=True))
