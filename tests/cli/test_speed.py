"""The measurement compares what it says it compares, and says it clearly; how long anything takes is not tested."""

import itertools
import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils.data import DataLoader, TensorDataset

from genlab.composition.building import plain
from genlab.composition.configs import composed
from genlab.data.images import ImageDataModule
from genlab.launching.options import TYPES
from genlab.machine.devices import computes_in_bfloat16
from genlab.runs.folder import RunFolder
from genlab.speed.loops import PlainGame, PlainObjective, plain_loop
from genlab.speed.pair import measure_pair
from genlab.speed.rounds import Timing, interleaved
from genlab.training.parts import assemble
from support.command import Genlab

FAMILIES = {
    "gan/dcgan": ("model.channels=4", "training.discriminator_steps=2"),
    "vae/vae": ("model.networks.hidden=[16]", "training.gradient_clip=1.0"),
    "flow/real_nvp": ("model.width=8", "trainer.compile=false"),
    "autoregressive/pixel_cnn": ("model.channels=4", "model.num_layers=2"),
    "transformer/image_gpt": ("model.width=8", "model.num_heads=1", "model.num_layers=1"),
}
SHORT = ("benchmark.rounds=2", "benchmark.steps=2", "benchmark.num_samples=4", "dataset.batch_size=16", "trainer=cpu")


def test_contenders_take_turns_in_a_turning_order() -> None:
    calls: list[str] = []
    clock = itertools.count()

    def contender(name: str) -> float:
        calls.append(name)
        return float(next(clock))

    timings = interleaved({name: lambda name=name: contender(name) for name in "abc"}, rounds=3)
    assert "".join(calls) == "abcbcacab"
    assert timings["a"].seconds == (0.0, 5.0, 7.0)
    assert timings["a"].median == 5.0
    assert timings["a"].spread == (0.0, 7.0)
    # A round that was slow for everybody does not count for one of them.
    assert Timing((1.0, 10.0, 2.0)).times(Timing((2.0, 20.0, 4.0))) == 0.5


@pytest.mark.parametrize("model", FAMILIES)
def test_the_command_measures_every_family(genlab: Genlab, model: str, tmp_path: Path) -> None:
    output = tmp_path / "numbers.json"
    result = genlab("benchmark", f"model={model}", *FAMILIES[model], *SHORT, f"benchmark.output={output}")
    assert result.code == 0, result.err
    assert "plain loop, float32" in result.out
    assert "sampling: 4 in" in result.out
    assert not result.outputs.exists()
    numbers = json.loads(output.read_text())
    assert numbers["machine"]["cores"] >= 1
    (pair,) = numbers["pairs"]
    assert pair["model"] == model
    assert pair["precision"] == ("bf16-mixed" if computes_in_bfloat16("cpu") else "32-true")
    for timing in pair["seconds_per_step"].values():
        assert len(timing["rounds"]) == 2
        assert min(timing["rounds"]) > 0


def _built(*overrides: str, folder: Path) -> tuple[ImageDataModule, object]:
    cfg = composed("train", ["dataset=digits", "trainer=cpu", "logger=csv", *overrides])
    cfg.run_dir = str(RunFolder.claim(folder / "run").path)
    parts = assemble(plain(cfg, **TYPES))
    return parts.data, parts.training


def test_the_plain_loop_reads_windows_of_text(tmp_path: Path) -> None:
    small = ("model.width=8", "model.num_heads=1", "model.num_layers=1", "dataset.batch_size=3")
    data, training = _built("dataset=python_docs", "model=transformer/gpt", *small, folder=tmp_path)
    data.setup("fit")
    loop = plain_loop(training, data, torch.device("cpu"))  # type: ignore[arg-type]
    x, _ = loop.batch()
    assert x.shape == (3, 257)  # a window and the token before it
    assert x.dtype == torch.int64
    before = [parameter.clone() for parameter in training.model.parameters()]  # type: ignore[attr-defined]
    loop.seconds_per_step(1)
    after = training.model.parameters()  # type: ignore[attr-defined]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))


def test_the_plain_loop_takes_the_step_that_training_takes(tmp_path: Path) -> None:
    """One step of each on one batch ends in the same weights, so that their times can be compared."""
    import pytorch_lightning as pl

    overrides = (
        "model=autoregressive/pixel_cnn",
        "model.channels=4",
        "model.num_layers=2",
        "dataset.batch_size=16",
        "trainer.precision=32-true",
    )
    data, training = _built(*overrides, folder=tmp_path / "a")
    _, other = _built(*overrides, folder=tmp_path / "b")
    batch = next(iter(data.batches("train", batch_size=16)))
    plain_one = plain_loop(training, data, torch.device("cpu"))  # type: ignore[arg-type]
    assert isinstance(plain_one, PlainObjective)
    torch.manual_seed(1)
    plain_one.step(*batch)

    class OneBatch(pl.LightningDataModule):
        batch_size = 16

        def train_dataloader(self) -> DataLoader[object]:
            return DataLoader(TensorDataset(*batch), batch_size=16)

    trainer = pl.Trainer(
        max_epochs=1,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.datamodule = OneBatch()  # type: ignore[attr-defined]
    torch.manual_seed(1)
    trainer.fit(other, datamodule=trainer.datamodule)  # type: ignore[arg-type, attr-defined]
    for (name, a), b in zip(plain_one.model.named_parameters(), other.model.parameters(), strict=True):  # type: ignore[attr-defined]
        torch.testing.assert_close(a, b, msg=name, rtol=1e-4, atol=1e-6)


def test_the_plain_game_steps_both_players(tmp_path: Path) -> None:
    data, training = _built("model=gan/dcgan", "model.channels=4", "training.discriminator_steps=2", folder=tmp_path)
    loop = plain_loop(training, data, torch.device("cpu"))  # type: ignore[arg-type]
    assert isinstance(loop, PlainGame)
    G, D = (next(player.parameters()) for player in (loop.model.generator, loop.model.discriminator))
    before = G.detach().clone(), D.detach().clone()
    loop.step(*loop.batch())
    assert torch.equal(G, before[0])  # D has two turns first
    assert not torch.equal(D, before[1])
    loop.step(*loop.batch())
    assert not torch.equal(G, before[0])


def test_batches_of_the_plain_loop_are_the_data(tmp_path: Path) -> None:
    data, training = _built("model=vae/vae", "model.networks.hidden=[8]", folder=tmp_path)
    loop = plain_loop(training, data, torch.device("cpu"))  # type: ignore[arg-type]
    seen = torch.cat([loop.batch()[0] for _ in range(len(loop.images) // loop.batch_size)])
    assert ((seen * 16).round() / 16 - seen).abs().max() < 1e-6
    assert len({tuple(row) for row in seen.flatten(1).tolist()}) > 0.95 * len(seen)  # no image comes twice an epoch


@pytest.mark.parametrize(
    ("overrides", "line"),
    [
        (("dataset.train_size=40", "dataset.batch_size=32"), "are too few to time batches of 32"),
        (("benchmark.rounds=0",), "benchmark.rounds=0"),
        (("benchmark.round=3",), "did you mean benchmark.rounds?"),
        (("model=vae/va",), "model=vae/va: no such option"),
    ],
)
def test_what_cannot_be_measured_is_one_line(genlab: Genlab, overrides: tuple[str, ...], line: str) -> None:
    result = genlab("benchmark", "model=vae/vae", "model.networks.hidden=[8]", *overrides)
    assert result.code == 2
    assert line in result.err
    assert result.err.count("\n") == 1


def test_a_measurement_leaves_its_config_alone(tmp_path: Path) -> None:
    cfg = composed("train", ["model=vae/vae", "model.networks.hidden=[8]", "logger=csv", "trainer=cpu"])
    cfg.run_dir = str(RunFolder.claim(tmp_path / "run").path)
    config = plain(cfg, **TYPES)
    before = json.dumps(config)
    measure_pair(config, rounds=1, steps=1, num_samples=0)
    assert json.dumps(config) == before


def test_sampling_stands_beside_the_evaluations_that_it_consists_of(genlab: Genlab, tmp_path: Path) -> None:
    target = tmp_path / "speed.json"
    result = genlab(
        "benchmark", "model=diffusion/flow_matching", "model.networks.group_size=4", "dataset=ring2d", "logger=csv",
        "benchmark.rounds=1", "benchmark.steps=2", f"benchmark.output={target}", "trainer=cpu",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert "times its network evaluations alone" in result.out
    (pair,) = json.loads(target.read_text())["pairs"]
    assert pair["sampling"]["seconds"]["median"] > 0.5 * pair["evaluations"]["median"] > 0


@pytest.mark.slow
@pytest.mark.e2e
def test_the_benchmarks_run(tmp_path: Path) -> None:
    """In their short form, every part but the sweeps, which other tests launch."""
    parts = ("pairs", "growth", "sampling", "start", "figures")
    script = Path(__file__).parents[2] / "benchmarks" / "run.py"
    command = [sys.executable, str(script), "--short", "--output", str(tmp_path), *parts]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    assert results.keys() == {"machine", *parts}
    assert results["growth"].keys() == {"batch", "width", "side"}
    assert results["start"]["first step by imports"] > 0
    assert (tmp_path / "results.png").stat().st_size > 1000


def test_denormal_numbers_are_0_on_every_thread() -> None:
    """In a fresh process, whose threads have not started."""
    program = """
import torch
from genlab.machine.devices import tune_processor
torch.set_num_threads(2)
tune_processor()
x = torch.full((1_000_000,), 2e-38)
w = torch.full((1_000_000,), 0.1, requires_grad=True)
(x * w).sum().backward()
w.grad *= 0.1
print(int((x * 0.1).count_nonzero()), int(w.grad.count_nonzero()))
"""
    found = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert found.stdout.split() == ["0", "0"]
