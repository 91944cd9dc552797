"""What a step is said to cost is what it costs: operations by closed forms, memory by PyTorch's own profiler."""

import gc
import json
import tempfile
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
import torch.nn.functional as F
from torch import nn
from torch.profiler import profile, record_function
from torch.utils.flop_counter import FlopCounterMode

from genlab.composition.command_line import as_groups
from genlab.composition.configs import composed
from genlab.errors import InputError
from genlab.launching.options import TYPES
from genlab.speed.calls import OUTSIDE, Calls
from genlab.speed.cost import Cost, Line, count_cost
from genlab.speed.counting import Count, _Held, _Operations, _Saved
from genlab.speed.loops import GenlabLoop
from genlab.speed.scaling import Speeds, images_per_second, seconds_per_step
from genlab.speed.throwaway import throwaway
from genlab.training.parts import assemble
from support.command import Genlab

# The largest error of the predicted memory that is allowed; fixed before any was measured.
TOLERANCE = 0.25


def counted(what: Any) -> Count:
    count = Count()
    with Calls() as calls, _Operations(count, calls, _Held()):
        what()
    return count


@pytest.mark.parametrize("groups", [1, 4])
@pytest.mark.parametrize("transposed", [False, True])
def test_a_convolution_and_each_of_its_gradients_cost_the_same(groups: int, transposed: bool) -> None:
    B, C, D, side, k = 3, 8, 16, 6, 3
    x = torch.randn(B, C, side, side, requires_grad=True)
    shape = (C, D // groups, k, k) if transposed else (D, C // groups, k, k)
    weight = torch.randn(shape, requires_grad=True)
    convolve = F.conv_transpose2d if transposed else F.conv2d
    one = 2 * B * side**2 * k**2 * C * D // groups
    y = None

    def forward() -> None:
        nonlocal y
        y = convolve(x, weight, padding=1, groups=groups)

    assert counted(forward).flops == {"convolutions": one}
    assert y is not None
    assert counted(lambda: y.sum().backward()).flops == {"convolutions": 2 * one}
    if groups == 1:
        with FlopCounterMode(display=False) as counter:
            convolve(x, weight, padding=1).sum().backward()
        assert counter.get_total_flops() == 3 * one


def test_attention_on_a_processor_is_counted() -> None:
    B, H, L, D = 2, 3, 40, 16
    q, k, v = (torch.randn(B, H, L, D, requires_grad=True) for _ in range(3))
    product = 2 * B * H * L * L * D
    found = counted(lambda: F.scaled_dot_product_attention(q, k, v).sum().backward())
    assert found.flops == {"attention": 7 * product}


class _Twice(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.linear, self.conv = nn.Linear(6, 6), nn.Conv1d(1, 2, 3, padding=1)
        self.own = nn.Parameter(torch.randn(6, 6))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = self.linear(x)
        h = self.conv((h @ self.own)[:, None])
        return self.linear(h.tanh()).sum((1, 2))


def test_operations_belong_to_the_innermost_module_in_both_passes() -> None:
    net, x, w = _Twice(), torch.randn(5, 6), torch.randn(1, 1, requires_grad=True)
    found = counted(lambda: (net(x)[:, None] @ w).sum().backward())
    # The first linear layer needs no gradient of its input.
    linear, second, own, conv = 2 * 5 * 6 * 6, 2 * 5 * 2 * 6 * 6, 2 * 5 * 6 * 6, 2 * 5 * 6 * 3 * 2
    assert found.modules == {"Linear": 2 * linear + 3 * second, "_Twice": 3 * own, "Conv1d": 3 * conv, OUTSIDE: 3 * 10}
    assert sum(found.modules.values()) == sum(found.flops.values())


def test_gradients_of_gradients_are_counted() -> None:
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    x = torch.randn(3, 4, requires_grad=True)

    def penalty() -> None:
        (gradient,) = torch.autograd.grad(net(x).sum(), x, create_graph=True)
        gradient.square().sum().backward()

    with FlopCounterMode(display=False) as counter:
        try:
            penalty()
            expected = counter.get_total_flops()
        except RuntimeError:  # its tracker of modules cannot follow
            expected = None
    total = sum(counted(penalty).flops.values())
    assert total > 2 * 3 * (4 * 8 + 8) * 3
    assert expected in (None, total)


def test_what_is_kept_for_the_backward_pass_is_counted_once_and_until_then() -> None:
    weight = nn.Linear(100, 100)
    x = torch.randn(50, 100)
    saved = _Saved(weight)
    with saved:
        y = weight(x)  # keeps x; its weight is kept anyway
        z = y.exp()  # keeps its result, which the product keeps, too
        loss = (z * z).sum()
        assert saved.most == 2 * 50 * 100 * 4
        loss.backward()
        del y, z, loss
        assert saved._bytes == 0
        (weight(x).exp()).sum().backward()
    assert saved.most == 2 * 50 * 100 * 4


def test_what_a_step_holds_is_known_until_it_goes() -> None:
    held, before = _Held([gone := torch.zeros(1000)]), 4 * 1000
    with Calls() as calls, _Operations(Count(), calls, held):
        a = torch.ones(100)
        b = a.view(10, 10).exp()
        assert held.most == held._bytes == 800
        del a
        assert held._bytes == 400
        del gone
        c = b + 1
        assert (held.most, held._bytes) == (800, 800 - before)
        c += 1
        assert held._bytes == 800 - before


def test_bytes_are_those_of_what_is_read_and_written() -> None:
    a, b = torch.randn(10, 20), torch.randn(20, 5)
    assert counted(lambda: a @ b).bytes_moved == 4 * (200 + 100 + 50)
    assert counted(lambda: a.t()).bytes_moved == 0  # which moves nothing


SMALL = {
    "vae/vae": ("model.networks.hidden=[1024,1024]",),
    "autoregressive/pixel_cnn": ("model.channels=32", "dataset.batch_size=128"),
    "transformer/image_gpt": ("model.width=32", "model.num_layers=2", "dataset.batch_size=64"),
    "gan/dcgan": ("model.channels=32", "dataset.batch_size=128"),
    "diffusion/ddpm": ("dataset.batch_size=64",),
}


def config(*overrides: str) -> Any:
    given = ["dataset=digits", "trainer=cpu", "trainer.compile=false", "logger=csv", *overrides]
    return throwaway(composed("train", as_groups(given)), **TYPES)


class _Marked(pl.Callback):
    """Steps that the profiler can be asked for."""

    def on_train_batch_start(self, *_: Any) -> None:
        self.step = record_function("a step")
        self.step.__enter__()

    def on_train_batch_end(self, *_: Any) -> None:
        self.step.__exit__(None, None, None)


def measured_peak(of: dict[str, Any]) -> int:
    """The most bytes that PyTorch's allocator has handed out at a time in steps, of all since the model was built."""
    of["trainer"]["enable_checkpointing"] = False  # at the end of training, which is no step
    gc.collect()  # what earlier tests left would be freed in between, and counted as memory that the steps gave back
    with profile(profile_memory=True) as profiler:
        parts = assemble(of)
        GenlabLoop(of["trainer"], parts.training, parts.data, [_Marked()], []).seconds_per_step(2)
    with tempfile.TemporaryDirectory() as folder:
        profiler.export_chrome_trace(f"{folder}/trace.json")
        events = json.loads(Path(folder, "trace.json").read_text())["traceEvents"]
    steps = [(event["ts"], event["ts"] + event["dur"]) for event in events if event["name"] == "a step"]
    memory = sorted((event for event in events if event["name"] == "[memory]"), key=lambda event: event["ts"])
    # What was freed after an earlier profile had ended is still counted.
    before = memory[0]["args"]["Total Allocated"] - memory[0]["args"]["Bytes"]
    return max(
        event["args"]["Total Allocated"] - before
        for event in memory
        if any(first <= event["ts"] <= last for first, last in steps)
    )


@pytest.mark.parametrize("model", SMALL)
def test_the_predicted_memory_is_near_the_measured_peak(model: str) -> None:
    with config(f"model={model}", *SMALL[model]) as of:
        cost = count_cost(of)
        assert max(cost.counted) <= cost.batch_size / 4  # so that it is a prediction
    with config(f"model={model}", *SMALL[model]) as of:
        peak = measured_peak(of)
    assert cost.memory(cost.batch_size) == pytest.approx(peak, rel=TOLERANCE)


def test_a_larger_batch_costs_what_the_small_ones_say() -> None:
    overrides = ("model=gan/dcgan", "model.channels=8", "training.discriminator_steps=3")
    with config(*overrides, "dataset.batch_size=32") as of:
        small = count_cost(of)
    with config(*overrides, "dataset.batch_size=256") as of:
        large = count_cost(of)
    assert small.batches == large.batches == 3
    assert (small.counted, large.counted) == ((4, 8), (32, 64))
    assert small.total_flops(100) == pytest.approx(large.total_flops(100), rel=1e-3)
    assert small.saved.at(100) == pytest.approx(large.saved.at(100), rel=0.02)
    assert small.bytes_moved.at(100) == pytest.approx(large.bytes_moved.at(100), rel=0.02)
    assert small.weights == large.weights > small.gradients
    assert small.optimizer == pytest.approx(2 * small.gradients, rel=0.01)


def made_up(batch_size: int) -> Cost:
    return Cost(
        model="m", dataset="d", precision="32-true", batch_size=batch_size, counted=(4, 8), batches=1,
        flops={"matrix products": Line(0, 5e9), "convolutions": Line(1e9, 0)}, modules={}, bytes_moved=Line(0, 1e9),
        saved=Line(0, 0), grown=Line(0, 0), weights=0, averaged=0, gradients=4_000_000_000, optimizer=0, data=0,
    )  # fmt: skip


def test_images_a_second_are_by_the_formula() -> None:
    cost = made_up(16)
    speeds = Speeds(device_tflops=1.0, device_gb=100.0, link_gb=10.0)
    assert seconds_per_step(cost, speeds, 1, 16) == pytest.approx(max((80e9 + 1e9) / 1e12, 16e9 / 100e9))
    assert seconds_per_step(cost, Speeds(1.0), 1, 16) == pytest.approx(0.081)
    assert seconds_per_step(cost, speeds, 8, 16) == pytest.approx(0.16 + 2 * 7 / 8 * 4 / 10)
    assert images_per_second(cost, speeds, 8, each=True) == pytest.approx(8 * 16 / 0.86)
    assert images_per_second(cost, speeds, 8, each=False) == pytest.approx(16 / (0.02 + 0.7))
    assert images_per_second(cost, speeds, 64, each=False) is None
    with pytest.raises(InputError, match="link_gb: give the speed"):
        seconds_per_step(cost, Speeds(1.0), 8, 16)
    with pytest.raises(InputError, match=r"benchmark.device_tflops=0: a speed above 0"):
        Speeds(0)


def test_the_command_counts_without_timing(genlab: Genlab, tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    small = ("model=vae/vae", "model.networks.hidden=[16]", "trainer=cpu", "benchmark.rounds=0")
    result = genlab("benchmark", *small, "--flops", "--memory", "benchmark.device_tflops=1", "benchmark.link_gb=10",
                    f"benchmark.output={output}")  # fmt: skip
    assert result.code == 0, result.err
    assert "by module: Linear 100.0%" in result.out
    assert "an estimate from the stated speeds, not measured" in result.out
    numbers = json.loads(output.read_text())
    assert numbers["pairs"] == []
    (cost,) = numbers["costs"]
    parts = ("weights", "averaged", "gradients", "optimizer", "data", "saved", "else")
    assert cost["memory"]["predicted"] == pytest.approx(sum(cost["memory"][part] for part in parts))
    for wrong, line in (
        ((), "benchmark.rounds=0"),
        (("benchmark.link_gb=1", "--flops"), "benchmark.device_tflops: give the operations a second"),
        (("benchmark.device_tflops=-1",), "benchmark.device_tflops=-1.0: a speed above 0"),
        (("--flop",), "--flop"),
    ):
        assert line in (found := genlab("benchmark", *small, *wrong)).err
        assert found.code == 2
