"""Several processes train one model: the same weights as one process, whatever the family, and none left hanging."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from genlab.models.adversarial import AdversarialModel
from genlab.runs.checkpoints import read_checkpoint
from genlab.runs.lock import held
from support.command import Genlab
from support.forks import TWO, forked, in_child
from support.kills import kill_at
from support.small_runs import COMMON, FAMILIES, history, only_run, outputs

# In the slow tests: they train as pixel_cnn and vae do.
LONGEST = ("flow/real_nvp", "transformer/image_gpt", "diffusion/flow_matching")
# One of each procedure; the others in the slow tests.
IN_BFLOAT16 = ("gan/dcgan", "autoregressive/pixel_cnn")


def figures(run: Path) -> dict[str, float]:
    return {k: v["value"] for k, v in json.loads((run / "summary.json").read_text())["metrics"].items()}


@pytest.mark.parametrize(
    ("model", "precision"),
    [
        *(pytest.param(model, "32-true", marks=[pytest.mark.slow] * (model in LONGEST)) for model in FAMILIES),
        *((model, "bf16-mixed") for model in IN_BFLOAT16),
        *(pytest.param(model, "bf16-mixed", marks=pytest.mark.slow) for model in FAMILIES if model not in IN_BFLOAT16),
    ],
)
def test_every_family_on_one_and_two_processes_in_both_precisions(
    model: str, precision: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab
) -> None:
    """Trained, asked to stop in the middle, resumed, evaluated."""
    procedure = "adversarial.AdversarialTraining" if model.startswith("gan") else "objective.ObjectiveTraining"
    stop = kill_at(f"genlab.training.{procedure}.training_step", 14, signal.SIGTERM)
    runs = []
    for name, more in (("one", ()), ("two", TWO)):
        folder = outputs(monkeypatch, tmp_path / name)
        noise = ("trainer.precision", "model.dropout", "model.restart_below")
        options = [o for o in FAMILIES[model] if not o.startswith(noise)]
        options += ["model.restart_below=0"] * (model == "vae/vq_vae")

        def trap() -> None:
            forked()
            stop()

        arguments = ["train", *more, f"model={model}", *COMMON, *options, f"trainer.precision={precision}"]
        assert in_child(arguments, trap) == 143
        run = only_run(folder)
        assert json.loads((run / "status.json").read_text())["status"] == "interrupted"
        assert in_child(["train", f"resume={run}"], forked) == 0
        summary = json.loads((run / "summary.json").read_text())
        assert summary["environment"]["devices"] == (2 if more else 1)
        assert summary["images_seen"] == 3 * 12 * 32
        assert genlab("evaluate", run, "metrics.num_samples=16", "metrics.num_test=20").code == 0
        runs.append(run)
    one, two = map(figures, runs)
    # Those without noise of their own take the same steps.
    if model in ("vae/vq_vae", "autoregressive/pixel_cnn", "transformer/image_gpt"):
        tolerance = 1e-4 if precision == "32-true" else 2e-2
        assert two["test/nll"] == pytest.approx(one["test/nll"], rel=tolerance)
        weights = [read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in runs]
        if precision == "32-true":
            validation = [[row["val/nll"] for row in history(run) if "val/nll" in row] for run in runs]
            assert len(validation[0]) == 3
            assert [float(v) for v in validation[1]] == pytest.approx([float(v) for v in validation[0]], rel=1e-4)
            for key, value in weights[0].items():
                if isinstance(value, Tensor):
                    torch.testing.assert_close(value, weights[1][key], atol=1e-4, rtol=1e-3)


def linear_gan() -> None:
    """A trap: a GAN of two linear maps and one latent takes DCGAN's place.

    It has no normalization, whose statistics are of each process's share, and no noise, of which each has its own.
    """
    import genlab.models.gan.dcgan as dcgan

    class LinearGAN(AdversarialModel):
        latent_dim = 2

        def __init__(self, shape: Any, num_classes: Any = None, **_: Any) -> None:
            super().__init__(shape, num_classes)
            self.generator = Part(nn.Linear(2, self.num_dims), self.shape)
            self.discriminator = Part(nn.Linear(self.num_dims, 1), None)

        def sample(self, num_samples: int, y: Any = None, **_: Any) -> Tensor:
            return self.generator(torch.ones(num_samples, 2))

    class Part(nn.Module):
        def __init__(self, linear: nn.Linear, shape: Any) -> None:
            super().__init__()
            self.linear, self.to_shape = linear, shape

        def forward(self, x: Tensor, y: Any = None) -> Tensor:
            if self.to_shape is None:
                return self.linear(x.flatten(1)).squeeze(1)
            return self.linear(torch.ones_like(x)).sigmoid().view(len(x), *self.to_shape)

    dcgan.DCGAN = LinearGAN  # type: ignore[misc, assignment]


# Plain SGD and no clipping: a factor in the gradients, such as that of a sum instead of a mean, is one in every step.
# Adam and a clipped norm would hide it.
BY_SGD = (
    *(
        option
        for player in ("discriminator", "generator")  # the betas of D refer to those of G
        for option in (
            f"training.{player}_optimizer._target_=torch.optim.SGD",
            f"training.{player}_optimizer.lr=0.01",
            f"~training.{player}_optimizer.betas",
        )
    ),
    "lr_schedule=constant",
    "training.gradient_clip=null",
    "trainer.precision=32-true",
)


@pytest.mark.parametrize(
    "options",
    [
        pytest.param(("training.discriminator_steps=2", *BY_SGD), id="sgd"),
        pytest.param(("training.discriminator_steps=2", "training.gradient_clip=0.5"), id="adam-clipped"),
    ],
)
def test_a_game_on_two_processes_has_the_weights_of_one(
    options: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = []
    for name, more in (("one", ()), ("two", TWO)):
        folder = outputs(monkeypatch, tmp_path / name)

        def trap() -> None:
            forked()
            linear_gan()

        assert in_child(["train", *more, "model=gan/dcgan", *COMMON, *options], trap) == 0
        runs.append(only_run(folder))
    one, two = (read_checkpoint(run / "checkpoints" / "last.ckpt")["state_dict"] for run in runs)
    for key, value in one.items():
        if isinstance(value, Tensor):
            torch.testing.assert_close(value, two[key], atol=1e-5, rtol=1e-4)


# -- as torchrun starts them -------------------------------------------------------------------------------------------

LONG = ("model=vae/vae", "model.networks.hidden=[16]", "trainer.max_epochs=2000", "trainer.max_time='00:00:03:00'",
        "trainer.check_val_every_n_epoch=1000", "logger=csv", "metrics.num_samples=16", *TWO)  # fmt: skip


def started(tmp_path: Path) -> tuple[subprocess.Popen[bytes], Path]:
    """The command in a process of its own, once it is training; and its run folder."""
    process = subprocess.Popen(
        [sys.executable, "-m", "genlab", "train", *LONG], env={**os.environ, "GENLAB_OUTPUTS": str(tmp_path)}
    )
    until = time.monotonic() + 120
    while time.monotonic() < until and process.poll() is None:
        if list(tmp_path.rglob("last.ckpt")):
            return process, only_run(tmp_path)
        time.sleep(0.2)
    process.kill()
    raise AssertionError("the run did not begin")


@pytest.mark.e2e
def test_two_processes_of_torchrun_stop_when_asked_and_resume(tmp_path: Path, genlab: Genlab) -> None:
    process, run = started(tmp_path)
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 128 + signal.SIGTERM
    assert json.loads((run / "status.json").read_text())["status"] == "interrupted"
    seen = read_checkpoint(run / "checkpoints" / "last.ckpt")["progress"]["images_seen"]
    # On another number of devices, and with a budget that is spent soon.
    result = genlab("train", f"resume={run}", "trainer.devices=1", f"budget.images={seen + 640}")
    assert result.code == 0, result.err
    assert json.loads((run / "summary.json").read_text())["images_seen"] == seen + 640


@pytest.mark.e2e
def test_a_process_that_dies_ends_the_run(tmp_path: Path) -> None:
    process, run = started(tmp_path)
    workers = subprocess.run(
        ["pgrep", "-f", f"^{sys.executable} .*-m genlab.launching.job {run}$"], capture_output=True, text=True
    ).stdout.split()
    first = json.loads((run / "status.json").read_text())["pid"]
    others = [int(pid) for pid in workers if int(pid) != first and _parent(int(pid)) == _parent(first)]
    assert len(others) == 1
    os.kill(others[0], signal.SIGKILL)
    assert process.wait(90) == 2
    assert json.loads((run / "status.json").read_text())["status"] == "failed"


@pytest.mark.slow
@pytest.mark.e2e
@pytest.mark.skipif(sys.platform != "linux", reason="the kernel ends the processes")
def test_processes_end_with_the_one_that_started_them(tmp_path: Path) -> None:
    """Else they would go on in a folder that nobody holds."""
    process, run = started(tmp_path)
    first = json.loads((run / "status.json").read_text())["pid"]
    agent = _parent(first)
    process.kill()
    process.wait()
    for _ in range(100):
        if not any(Path(f"/proc/{pid}").exists() for pid in (first, agent)):
            break
        time.sleep(0.05)
    else:
        raise AssertionError("a process goes on")
    with held(run):
        pass


def _parent(pid: int) -> int:
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
