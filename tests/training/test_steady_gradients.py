"""Four processes add gradients in one order in every step, as a run that is resumed to the bit needs."""

import os
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.multiprocessing import start_processes  # type: ignore[attr-defined]
from torch.nn.parallel import DistributedDataParallel

from genlab.training.parallel import settle

if sys.platform == "win32":
    pytest.skip("processes are forked", allow_module_level=True)

STEPS = 3


def gradients(module: nn.Module, rank: int) -> list[Tensor]:
    module.zero_grad()
    x = torch.randn(8, 5, generator=torch.Generator().manual_seed(rank))
    module(x).square().sum().backward()
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


def work(rank: int, folder: str) -> None:
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    torch.distributed.init_process_group("gloo", f"file://{folder}/meeting", rank=rank, world_size=4)
    found = {}
    for name, before in (("as it is", lambda _: None), ("settled", settle)):
        torch.manual_seed(0)
        model = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 3), nn.Linear(3, 40))
        model[2].requires_grad_(False)
        wrapper = DistributedDataParallel(model)
        before(wrapper)
        assert all(parameter.grad is None for parameter in model.parameters())
        found[name] = [gradients(wrapper, rank) for _ in range(STEPS)]
    if rank == 0:
        torch.save(found, f"{folder}/found.pt")
    torch.distributed.destroy_process_group()


@pytest.mark.skipif(not torch.distributed.is_available(), reason="PyTorch is built without torch.distributed")
def test_the_first_step_adds_gradients_as_every_step_does(tmp_path: Path) -> None:
    start_processes(work, (str(tmp_path),), nprocs=4, start_method="fork")
    found = torch.load(tmp_path / "found.pt", weights_only=True)
    first, *later = found["settled"]
    assert len(first) == 4  # those of the frozen layer are left out
    for step in later:
        assert all(torch.equal(a, b) for a, b in zip(first, step, strict=True))
    # What the wrapper does by itself: the same gradients, rounded otherwise in the first step.
    first, *later = found["as it is"]
    assert all(torch.equal(a, b) for a, b in zip(*later, strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(first, later[0], strict=True))
    for a, b in zip(first, found["settled"][0], strict=True):
        torch.testing.assert_close(a, b)
