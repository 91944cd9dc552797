"""What the processes of a run exchange: means of gradients, the buffers of rank 0, rows in the order of the ranks."""

from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from torch import Tensor, nn

from genlab.training.module import TrainingModule
from genlab.training.processes import all_gathered, average_gradients, share_buffers
from support.together import together

CPU = torch.device("cpu")


def parameters() -> list[nn.Parameter]:
    """Of two dtypes in turn and of several shapes; the third has no gradient."""
    shapes = [(2, 3), (4,), (5,), (), (1, 2, 2)]
    dtypes = [torch.float32, torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    made = [nn.Parameter(torch.zeros(shape, dtype=dtype)) for shape, dtype in zip(shapes, dtypes, strict=True)]
    return made


def give_gradients(parameters: list[nn.Parameter], rank: int) -> None:
    """Whole numbers, which bfloat16 adds exactly; every element and every rank has its own."""
    for i, parameter in enumerate(parameters):
        if i != 2:
            own = torch.arange(parameter.numel()).view(parameter.shape) + 10 * i
            parameter.grad = ((rank + 1) ** 2 * own).to(parameter.dtype)


@pytest.mark.parametrize("world_size", [2, 3])
def test_a_gradient_becomes_its_mean_over_the_processes(world_size: int, tmp_path: Path) -> None:
    def averaged(rank: int) -> list[Tensor | None]:
        mine = parameters()
        give_gradients(mine, rank)
        where = [None if p.grad is None else p.grad.data_ptr() for p in mine]
        average_gradients(iter(mine))
        assert where == [None if p.grad is None else p.grad.data_ptr() for p in mine]  # optimizers may hold them
        return [p.grad for p in mine]

    factor = {2: (1 + 4) / 2, 3: (1 + 4 + 9) / 3}[world_size]
    expected = parameters()
    give_gradients(expected, 0)
    for found in together(world_size, averaged, tmp_path):
        for gradient, parameter in zip(found, expected, strict=True):
            if parameter.grad is None:
                assert gradient is None
            else:
                exact = (parameter.grad.double() * factor).to(parameter.dtype)
                torch.testing.assert_close(
                    gradient, exact, rtol=1e-2 if gradient.dtype == torch.bfloat16 else 1e-6, atol=0
                )


def test_the_gradients_of_one_dtype_are_exchanged_at_once(tmp_path: Path) -> None:
    def exchanges(rank: int) -> int:
        calls, plain = [], dist.all_reduce

        def counted(tensor: Tensor, *args: object, **options: object) -> object:
            calls.append(tensor.dtype)
            return plain(tensor, *args, **options)

        mine = parameters()
        give_gradients(mine, rank)
        dist.all_reduce = counted  # this process ends with the function
        average_gradients(mine)
        return sorted(map(str, calls))

    assert together(2, exchanges, tmp_path) == [["torch.bfloat16", "torch.float32"]] * 2


class Normalized(nn.Module):
    def __init__(self, value: float) -> None:
        super().__init__()
        self.norm = nn.BatchNorm1d(3)
        self.register_buffer("seen", torch.full((2,), value), persistent=False)
        with torch.no_grad():
            for tensor in (self.norm.weight, self.norm.running_mean, self.norm.running_var):
                tensor.fill_(value)
            self.norm.num_batches_tracked.fill_(int(value))


@pytest.mark.parametrize("world_size", [2, 3])
def test_buffers_become_those_of_rank_0_and_weights_stay(world_size: int, tmp_path: Path) -> None:
    def shared(rank: int) -> list[Tensor]:
        module = Normalized(7.0 + rank)
        share_buffers(module)
        return [*module.buffers(), module.norm.weight.detach()]

    for rank, (*buffers, weight) in enumerate(together(world_size, shared, tmp_path)):
        assert len(buffers) == 4
        assert all((buffer == 7).all() for buffer in buffers)
        assert (weight == 7 + rank).all()


@pytest.mark.parametrize("sizes", [(2, 2), (3, 1), (0, 2), (1, 0, 4), (0, 0)])
@pytest.mark.parametrize("shape", [(), (3,), (2, 1, 2)])
def test_rows_come_in_the_order_of_the_ranks_however_many_each_has(
    sizes: tuple[int, ...], shape: tuple[int, ...], tmp_path: Path
) -> None:
    def rows(rank: int) -> Tensor:
        num = torch.Size(shape).numel() * sizes[rank]
        return 100.0 * rank + 1 + torch.arange(num).view(sizes[rank], *shape)

    expected = torch.cat([rows(rank) for rank in range(len(sizes))])
    for found in together(len(sizes), lambda rank: all_gathered(rows(rank), CPU), tmp_path):
        assert torch.equal(found, expected)


@pytest.mark.parametrize("dtype", [torch.int64, torch.float64, torch.uint8])
def test_gathered_rows_keep_their_type(dtype: torch.dtype, tmp_path: Path) -> None:
    def rows(rank: int) -> Tensor:
        return torch.tensor([[2**24 + 1 + rank]]).to(dtype)  # beyond float32's whole numbers

    expected = torch.cat([rows(0), rows(1)])
    for found in together(2, lambda rank: all_gathered(rows(rank), CPU), tmp_path):
        assert found.dtype == dtype
        assert torch.equal(found, expected)


def alone(rank: int = 0) -> list[Tensor]:
    """All three in one process: nothing is sent, nothing is changed, rows are the same object."""

    def never(*_: object, **__: object) -> None:
        raise AssertionError("one process has nobody to exchange anything with")

    names = ("all_reduce", "broadcast", "all_gather")
    plain = {name: getattr(dist, name) for name in names}
    try:
        for name in names:
            setattr(dist, name, never)
        mine, module, rows = parameters(), Normalized(7.0), torch.rand(3, 2)
        give_gradients(mine, 1)
        average_gradients(mine)
        share_buffers(module)
        assert all_gathered(rows, CPU) is rows
        return [p.grad for p in mine if p.grad is not None]
    finally:
        for name, function in plain.items():
            setattr(dist, name, function)


def test_a_single_process_is_left_alone_in_a_group_and_without_one(tmp_path: Path) -> None:
    expected = parameters()
    give_gradients(expected, 1)
    for found in (alone(), *together(1, alone, tmp_path)):
        for gradient, parameter in zip(found, [p for p in expected if p.grad is not None], strict=True):
            assert torch.equal(gradient, parameter.grad)


def test_the_figures_of_the_first_process_count_for_all(tmp_path: Path) -> None:
    """Else processes on unlike machines would not agree on which weights are the best, and wait for each other."""

    def reported(rank: int) -> dict[str, tuple[float, int]]:
        nothing = SimpleNamespace(log=lambda *_, **__: None, log_now=lambda _: None, trainer=SimpleNamespace())
        nothing.trainer.strategy = DDPStrategy()
        nothing.images_seen, nothing.reported, nothing._on_their_own = 5, {}, set()
        TrainingModule.report(nothing, {"val/fid": 1.0 + rank * 1e-12})  # type: ignore[arg-type]
        return nothing.reported

    assert together(2, reported, tmp_path) == [{"val/fid": (1.0, 5)}] * 2
