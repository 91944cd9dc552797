"""On a GPU: what the CPU computes, without a wait at any step, and resumed to the bit: make test-cuda."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.distributions.noise import generators
from genlab.models.adversarial import AdversarialModel
from genlab.models.base import LikelihoodModel, ObjectiveModel
from genlab.runs.checkpoints import read_checkpoint
from genlab.training.module import TrainingModule
from support.catalogue import MODELS, batch, example, make
from support.command import Genlab

if not torch.cuda.is_available():
    pytest.skip("needs a CUDA GPU, and make test-cuda or -m cuda", allow_module_level=True)

pytestmark = pytest.mark.cuda

QUICK = (
    "dataset.train_size=640", "dataset.batch_size=32", "metrics.num_samples=32", "metrics.num_test=64",
    "metrics.memorization=false", "callbacks=minimal", "callbacks.sample_metrics.num_samples=32", "logger=csv",
)  # fmt: skip
# One of each way to train, small.
WAYS = {
    "vae/vae": ("model.networks.hidden=[16]", "lr_schedule=cosine"),
    "vae/hierarchical_vae": ("model.channels=8", "model.latent_channels=2"),
    "vae/vq_vae": ("model.channels=8", "model.num_codes=8", "model.restart_below=0.5"),
    "flow/real_nvp": ("model.width=8",),
    "autoregressive/pixel_cnn": ("model.channels=4", "model.num_layers=2"),
    "transformer/image_gpt": ("model.width=8", "model.num_heads=1", "model.num_layers=1"),
    "diffusion/flow_matching": ("diffusion/networks=unet", "model.networks.width=8"),
    "diffusion/mean_flow": ("diffusion/networks=dit", "model.networks.width=8", "model.networks.num_heads=1"),
    "gan/dcgan": ("model.channels=4", "model.normalization=none", "gan/regularizer=[r1]", "training.gradient_clip=1.0"),
    "gan/stylegan2": ("model.channels=8", "gan/augment=ada"),
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_on_the_gpu_what_it_is_on_the_cpu(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its likelihood and its samples; under bfloat16 its loss is a number and has gradients."""
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    shape, levels = example(name)
    cpu, gpu = make(name, shape, levels), make(name, shape, levels).cuda()
    x = batch(shape, levels)
    if isinstance(gpu, ObjectiveModel):
        with torch.autocast("cuda", torch.bfloat16):
            loss = gpu.loss(x.cuda())["loss"]
        loss.backward()
        assert loss.isfinite()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in gpu.parameters() if p.requires_grad)
    if isinstance(gpu, AdversarialModel):
        with torch.autocast("cuda", torch.bfloat16):
            gpu.discriminator(gpu.generator(torch.randn(4, gpu.latent_dim, device="cuda"), None), None).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in gpu.parameters())
    gpu.load_state_dict(cpu.state_dict())
    cpu.eval(), gpu.eval()
    if name.startswith(("autoregressive/", "transformer/")):  # one value that falls otherwise changes all that follow
        cpu, gpu, x = cpu.double(), gpu.double(), x.double()
    if isinstance(gpu, LikelihoodModel) and gpu.likelihood == "exact":
        torch.testing.assert_close(gpu.log_prob(x.cuda()).cpu(), cpu.log_prob(x), atol=1e-2, rtol=1e-3)
    samples = [model.sample(4, generator=generators(0, range(4))).cpu() for model in (cpu, gpu)]
    torch.testing.assert_close(samples[1], samples[0], atol=1e-3, rtol=1e-3)


compiler = pytest.mark.skipif(shutil.which("gcc") is None, reason="torch.compile needs a C compiler")
GRAPHS = [pytest.param(name, "reduce-overhead", marks=compiler) for name in ("vae/vae", "gan/dcgan")]


@pytest.mark.parametrize(("model", "compiled"), [*((name, "false") for name in WAYS), *GRAPHS])
def test_no_step_waits_for_the_gpu(model: str, compiled: str, genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    """With what lies between two steps; graphs are made in the first few."""
    first = 3 if compiled == "false" else 11
    seen: list[int] = []
    end = TrainingModule.on_train_batch_end

    def watched(self: TrainingModule, *arguments: Any) -> None:
        end(self, *arguments)
        seen.append(torch.cuda.get_sync_debug_mode())
        torch.cuda.set_sync_debug_mode("error" if first <= len(seen) < first + 6 else "default")

    monkeypatch.setattr(TrainingModule, "on_train_batch_end", watched)
    try:
        result = genlab(
            "train", f"model={model}", *WAYS[model], *QUICK, "trainer.max_epochs=1", f"trainer.compile={compiled}"
        )
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert result.code == 0, result.err
    assert seen.count(2) == 6


@pytest.mark.e2e
@pytest.mark.parametrize(("model", "compiled"), [("vae/vae", "false"), ("gan/dcgan", "false"), *GRAPHS])
def test_a_run_that_was_killed_resumes_to_the_bit(model: str, compiled: str, tmp_path: Path) -> None:
    """In processes of their own: a GPU that this one has met is lost to its forks."""
    train = ["train", f"model={model}", *WAYS[model], *QUICK, "trainer.max_epochs=3", "+trainer.deterministic=true"]
    train += [f"trainer.compile={compiled}"]
    killed_in_second_epoch = "from support.kills import kill_at; kill_at('torch.save', 2, after=True)()"

    def command(outputs: Path, arguments: list[str], before: str = "") -> subprocess.CompletedProcess[str]:
        code = f"import sys; {before}\nfrom genlab.cli import main; main(sys.argv[1:])"
        added = {"GENLAB_OUTPUTS": str(outputs), "CUBLAS_WORKSPACE_CONFIG": ":4096:8"}
        path = os.pathsep.join(p for p in [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")] if p)
        return subprocess.run(
            [sys.executable, "-c", code, *arguments],
            env={**os.environ, **added, "PYTHONPATH": path}, text=True, capture_output=True, check=False,
        )  # fmt: skip

    done = command(tmp_path / "whole", train)
    assert done.returncode == 0, done.stderr
    cut = command(tmp_path / "cut", train, killed_in_second_epoch)
    assert cut.returncode == -9, cut.stderr
    (config,) = (tmp_path / "cut").rglob("config.yaml")
    done = command(tmp_path / "cut", ["train", f"resume={config.parent}"])
    assert done.returncode == 0, done.stderr
    whole, resumed = (
        read_checkpoint(next((tmp_path / name).rglob("last.ckpt")))["state_dict"] for name in ("whole", "cut")
    )
    assert whole.keys() == resumed.keys()
    for key, value in whole.items():
        assert not isinstance(value, torch.Tensor) or torch.equal(value, resumed[key]), key


@compiler
@pytest.mark.parametrize("compiled", ["true", "reduce-overhead"])
@pytest.mark.parametrize("model", WAYS)
def test_a_compiled_model_trains(model: str, compiled: str, genlab: Genlab) -> None:
    """And is validated, sampled and measured."""
    options = (*WAYS[model], *QUICK, "trainer.max_epochs=2", f"trainer.compile={compiled}")
    result = genlab("train", f"model={model}", *options)
    assert result.code == 0, result.err
    assert "could not be compiled" not in result.err


@pytest.mark.parametrize("strategy", ["ddp", "fsdp"])
def test_one_gpu_of_a_strategy_for_many(strategy: str, genlab: Genlab) -> None:
    model = "autoregressive/pixel_cnn"
    result = genlab(
        "train",
        f"model={model}",
        *WAYS[model],
        *QUICK,
        "trainer.max_epochs=1",
        f"trainer={strategy}",
        "trainer.devices=1",
    )
    assert result.code == 0, result.err


def test_an_evaluation_finds_the_same_on_both(genlab: Genlab) -> None:
    model = "autoregressive/pixel_cnn"
    result = genlab(
        "train", f"model={model}", *WAYS[model], *QUICK, "trainer.max_epochs=2", "trainer.precision=32-true"
    )
    assert result.code == 0, result.err
    found = []
    for device in ("cuda", "cpu"):
        assert genlab("evaluate", f"run={result.run}", f"device={device}").code == 0
        figures = json.loads((result.run / "evaluation.json").read_text())["metrics"]
        found.append(figures["test/bits_per_dim"]["value"])
    assert found[0] == pytest.approx(found[1], abs=1e-3)
