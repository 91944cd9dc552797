"""The command line: help, config, completion, and a run from training to comparison."""

import json
import os
import signal
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from genlab.composition.configs import composed
from genlab.data.static_mnist import StaticMNIST
from genlab.data.text_sources import Shakespeare
from genlab.data.uci_binary import UCIBinary
from support.cifar10_files import write_cifar10
from support.command import FAST, Genlab
from support.image_folders import write_images
from support.paths import CONF

EXPERIMENTS = sorted(
    str(p.relative_to(CONF / "experiment").with_suffix("")) for p in (CONF / "experiment").rglob("*.yaml")
)


def python(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, env={**os.environ, **environment}, timeout=120
    )


@pytest.mark.e2e
def test_help_imports_no_torch() -> None:
    script = (
        "import sys; from genlab.cli import main; main(['--help'])\n"
        "assert not {'torch', 'hydra', 'pytorch_lightning', 'wandb'} & set(sys.modules), 'heavy import'"
    )
    result = python("-c", script)
    assert result.returncode == 0, result.stderr
    for command in ("train", "evaluate", "sample", "export", "play", "compare", "reproduce", "benchmark", "dashboard"):
        assert command in result.stdout


@pytest.mark.e2e
def test_python_m_genlab_is_the_command() -> None:
    assert python("-m", "genlab", "--help").stdout == python("-c", "from genlab.cli import main; main(['-h'])").stdout
    assert python("-m", "genlab", "nonsense").returncode == 2


def test_train_help_lists_the_groups(genlab: Genlab) -> None:
    result = genlab("train", "--help")
    assert result.code == 0
    for group in ("model", "dataset", "trainer", "logger", "callbacks", "metrics", "experiment", "debug"):
        assert f"\n{group}" in result.out
    assert "\ngan/loss: hinge, " in result.out
    assert "\nvae/posterior: gaussian, " in result.out
    assert "max_epochs: 20" in result.out


def test_cfg_and_info_run_nothing(genlab: Genlab) -> None:
    result = genlab("train", "model=gan/dcgan", "--cfg", "job")
    assert "_target_: genlab.models.gan.dcgan.DCGAN" in result.out
    assert genlab("train", "--info", "defaults").code == 0
    assert not list(result.outputs.rglob("*"))


@pytest.mark.e2e
def test_the_shell_completes_commands_groups_and_keys() -> None:
    def complete(line: str) -> list[str]:
        result = python("-m", "genlab", "-sc", "query=bash", COMP_LINE=line, COMP_POINT=str(len(line)))
        assert result.returncode == 0, result.stderr
        return result.stdout.split()

    assert complete("genlab tr") == ["train"]
    verbs = ["train", "evaluate", "sample", "export", "play", "compare", "runs", "models", "datasets"]
    verbs += ["reproduce", "benchmark", "dashboard"]
    assert complete("genlab ") == verbs
    assert "dataset=binarized_mnist" in complete("genlab train dataset=")
    assert "trainer.max_epochs=" in complete("genlab train trainer.max_ep")
    # Groups of a family, and keys that come with what was chosen before, also by a group's old name.
    assert {"gan/loss=", "gan/regularizer="} <= set(complete("genlab train gan/"))
    assert complete("genlab train gan/loss=hi") == complete("genlab train loss=hi") == ["gan/loss=hinge"]
    for name in ("vae/objective", "objective"):
        assert complete(f"genlab train {name}=beta_tc model.objective.al") == ["model.objective.alpha="]


@pytest.mark.e2e
def test_a_run_from_training_to_comparison(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    trained = genlab(
        "train",
        "model=vae/vae",
        "model.networks.hidden=[32]",
        "training.ema_decay=0.9",
        "callbacks.progress.line_every=0",
        *FAST,
    )
    assert trained.code == 0, trained.err
    assert "1,347 train" not in trained.err
    for shown in ("vae/vae", "parameters", "256 train, 150 val, 300 test", "cpu", "run folder", "images/s", "ETA"):
        assert shown in trained.err
    run = trained.run
    assert run.parent.name == "vae-digits"
    for shown in ("bits/dim", "FID", "digits features, 80 samples, 256 train images", "final.png", "checkpoints"):
        assert shown in trained.out

    # What the folder holds.
    summary = json.loads((run / "summary.json").read_text())
    assert json.loads((run / "status.json").read_text())["status"] == "done"
    assert summary["images_seen"] == 512
    assert summary["parameters"] > 0
    assert torch.__version__.startswith(summary["environment"]["versions"]["torch"])
    bits = summary["metrics"]["test/bits_per_dim"]
    assert bits["protocol"]["likelihood"] == "lower_bound"
    assert bits["protocol"]["num"] == 300
    assert bits["protocol"]["weights"] == "ema"
    assert 0 < bits["value"] < 4.2
    assert summary["metrics"]["test/fid"]["protocol"]["num_samples"] == 80
    grids = sorted(p.name for p in (run / "samples").glob("0*.png"))
    assert grids == ["0000000256.png", "0000000512.png"]
    header, *rows = (run / "metrics.csv").read_text().splitlines()
    assert header.startswith("images_seen,")
    assert {"train/loss", "val/bits_per_dim", "train/lr", "test/bits_per_dim"} <= set(header.split(","))
    assert rows
    torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)

    # A new process, with nothing but the folder, gives the same numbers.
    moved = run.parents[2] / "elsewhere"
    run.rename(moved)
    monkeypatch.chdir(moved.parent)
    result = python("-m", "genlab", "evaluate", f"run={moved}", "metrics.num_samples=80")
    assert result.returncode == 0, result.stderr
    evaluation = json.loads((moved / "evaluation.json").read_text())
    for name, figure in summary["metrics"].items():
        assert evaluation["metrics"][name]["value"] == pytest.approx(figure["value"], rel=1e-6)
        assert evaluation["metrics"][name]["protocol"] == figure["protocol"]
    result = python("-m", "genlab", "sample", f"run={moved}", "n=64")
    assert result.returncode == 0, result.stderr
    picture, array = result.stdout.split()
    assert Path(picture).is_file()
    samples = np.load(array)
    assert samples.shape == (64, 1, 8, 8)
    # The samples of training's end are the same stream.
    assert np.array_equal(samples, np.load(moved / "samples" / "final.npy"))

    # A changed protocol shows in the result.
    assert genlab("evaluate", f"run={moved}", "+dataset.test_size=50", "metrics.num_samples=80").code == 0
    assert json.loads((moved / "evaluation.json").read_text())["metrics"]["test/nll"]["protocol"]["num"] == 50

    # Raw and averaged weights are different models; a damaged or foreign checkpoint is named.
    raw = genlab("evaluate", f"run={moved}", "weights=raw", "metrics.num_samples=80")
    assert raw.code == 0
    assert json.loads((moved / "evaluation.json").read_text())["metrics"]["test/nll"]["protocol"]["weights"] == "raw"
    assert "device=nonsense" in genlab("sample", f"run={moved}", "device=nonsense").err
    assert "there is no checkpoint" in genlab("sample", f"run={moved}", "checkpoint=none.ckpt").err
    config = (moved / "config.yaml").read_text()
    (moved / "config.yaml").write_text(config.replace("latent_dim: 32", "latent_dim: 16"))
    result = genlab("sample", f"run={moved}")
    assert result.code == 2
    assert "does not match the run's config" in result.err
    (moved / "config.yaml").write_text(config)
    (moved / "checkpoints" / "best.ckpt").unlink()  # it may be the same file as last.ckpt
    (moved / "checkpoints" / "best.ckpt").write_bytes(b"not a checkpoint")
    result = genlab("sample", f"run={moved}")
    assert result.code == 2
    assert "best.ckpt cannot be read as a checkpoint" in result.err
    assert genlab("sample", f"run={moved}", "checkpoint=last", "n=4").code == 0


def test_loggers(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    """W&B is offline without a key, and a second run of one process is a run of its own; TensorBoard is an option."""
    monkeypatch.delenv("WANDB_MODE")
    monkeypatch.delenv("WANDB_API_KEY", raising=False)
    monkeypatch.setenv("HOME", os.environ["GENLAB_OUTPUTS"])
    swept = genlab("train", "-m", "seed=1,2", "model.networks.hidden=[8]", "debug=limit")
    assert swept.code == 0, swept.err
    files = sorted(swept.outputs.rglob("offline-run-*/*.wandb"))
    assert len(files) == 2
    assert len({file.name for file in files}) == 2
    assert len(list(swept.outputs.rglob("media/images/samples*.png"))) == 4  # two runs, two validations
    result = genlab("train", "logger=tensorboard", "model.networks.hidden=[8]", "debug=limit")
    assert result.code == 0, result.err
    assert list(result.outputs.rglob("tensorboard/events*"))


def test_samples_of_chosen_classes(genlab: Genlab) -> None:
    run = genlab("train", "model=vae/vae", "model.networks.hidden=[8]", "model.num_classes=10", *FAST).run
    assert genlab("sample", f"run={run}", "n=6", "classes=[0,3]").code == 0
    assert "expected 64 classes in 0..9" in genlab("sample", f"run={run}", "classes=10").err
    other = genlab("sample", f"run={run}", "n=0")
    assert other.code == 2
    assert "n=0" in other.err


def test_a_failed_run_says_so(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    def breaks(*_: object) -> None:
        raise RuntimeError("out of luck")

    monkeypatch.setattr("genlab.models.vae.vae.VAE.loss", breaks)
    with pytest.raises(RuntimeError):
        genlab("train", *FAST)
    (status,) = Path(os.environ["GENLAB_OUTPUTS"]).rglob("status.json")
    content = json.loads(status.read_text())
    assert content["status"] == "failed"
    assert content["reason"] == "RuntimeError: out of luck"


# One of each family, made small where a whole one would take minutes here.
SMALL = {
    "gan/dcgan": ["model.channels=8"],
    "vae/vae": ["model.networks.hidden=[32]"],
    "flow/real_nvp": ["model.width=8"],
    "autoregressive/pixel_cnn": ["model.channels=6", "model.num_layers=2"],
    "transformer/image_gpt": ["model.width=8", "model.num_heads=1", "model.num_layers=1"],
}


@pytest.mark.parametrize("dataset", ["digits", "mnist", "binarized_mnist", "image_folder"])
@pytest.mark.parametrize("model", SMALL)
def test_every_family_on_every_dataset(
    genlab: Genlab, colour_folder: Path, mnist_root: str, model: str, dataset: str
) -> None:
    shape = {"digits": (1, 8, 8), "image_folder": (3, 32, 32)}.get(dataset, (1, 28, 28))
    more = [f"dataset.source.path={colour_folder}"] if dataset == "image_folder" else [f"paths.data_dir={mnist_root}"]
    if "mnist" in dataset:  # or most of the time goes into the features of 65,000 images
        more += ["dataset.train_size=200", "metrics.memorization=false"]
    result = genlab(
        "train", f"model={model}", f"dataset={dataset}", *SMALL[model], *more, "dataset.batch_size=8",
        "debug=fast_dev_run", "metrics.num_samples=8", "metrics.num_test=4", "metrics.num_shown=2", "logger=csv",
    )  # fmt: skip
    assert result.code == 0, result.err
    assert np.load(result.run / "samples" / "final.npy").shape == (2, *shape)
    figures = json.loads((result.run / "summary.json").read_text())["metrics"]
    assert ("test/bits_per_dim" in figures) == (not model.startswith("gan"))
    assert all(np.isfinite(figure["value"]) for figure in figures.values())


@pytest.mark.parametrize("times", [1, 2])
def test_an_interrupted_run_keeps_its_weights(genlab: Genlab, monkeypatch: pytest.MonkeyPatch, times: int) -> None:
    """Ctrl-C once is answered at once, lets the batch end and saves; twice, it ends at once."""
    from genlab.models.vae.vae import VAE

    said, write = [], os.write

    def writing(file: int, content: bytes) -> int:
        return said.append(content.decode()) or len(content) if file == 2 else write(file, content)

    monkeypatch.setattr(os, "write", writing)

    calls = iter(range(100))
    loss = VAE.loss

    def interrupted(self: VAE, *batch: torch.Tensor) -> dict[str, torch.Tensor]:
        if next(calls) == 3:
            for _ in range(times):
                signal.raise_signal(signal.SIGINT)
        return loss(self, *batch)

    monkeypatch.setattr(VAE, "loss", interrupted)
    result = genlab("train", "model.networks.hidden=[8]", *FAST)
    assert result.code == 130
    status = json.loads((result.run / "status.json").read_text())
    assert (status["status"], status["reason"]) == ("interrupted", ["SIGINT", "Ctrl-C"][times - 1])
    assert ["ends after this batch" in line and "another Ctrl-C" in line for line in said] == [True]
    assert (f"to go on: genlab train resume={result.run}\n" in result.err) == (times == 1)
    if times == 2:
        assert not (result.run / "checkpoints" / "last.ckpt").exists()
        return
    checkpoint = torch.load(result.run / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["progress"]["images_seen"] == 4 * 64
    assert genlab("sample", f"run={result.run}", "checkpoint=last", "n=4").code == 0


def test_an_experiment_may_set_what_a_callback_that_is_left_out_would_do(genlab: Genlab) -> None:
    result = genlab("train", "experiment=toy/gan", "callbacks=minimal", "debug=fast_dev_run", "logger=csv")
    assert result.code == 0, result.err
    assert not list((result.run / "samples").glob("*.gif"))


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_experiment_runs_one_batch(genlab: Genlab, experiment: str, mnist_root: str, tmp_path: Path) -> None:
    if experiment.startswith("search/") and not find_spec("optuna"):
        pytest.skip("genlab[optuna] is missing")
    if "shakespeare" in experiment and not Shakespeare(mnist_root).path.is_file():
        pytest.skip(f"tiny-shakespeare is not in {mnist_root}")
    if "uci" in experiment and not UCIBinary("dna", mnist_root).path.is_file():
        pytest.skip(f"the UCI sets are not in {mnist_root}")
    if experiment == "photos/latents":
        pytest.skip("it needs a run: tests/runs/test_latents_data.py has one")
    if "/static_" in experiment and not StaticMNIST(mnist_root).folder.is_dir():
        pytest.skip(f"the static binarized MNIST is not in {mnist_root}")
    few = ["metrics.num_samples=6", "metrics.num_test=4", "metrics.num_shown=2", "callbacks.sample_grid.num_samples=4"]
    few += ["callbacks.likelihood_histogram.num_images=4"]
    overrides = [f"paths.data_dir={mnist_root}", "dataset.train_size=200", "dataset.batch_size=8"]
    overrides += ["++dataset.eval_batch_size=8"]
    callbacks = composed("train", [f"experiment={experiment}"]).callbacks
    few = [o for o in few if not o.startswith("callbacks.") or callbacks.get(o.split(".")[1])]
    if experiment.startswith("search/"):
        overrides.append("hydra.sweeper.n_trials=2")
    if experiment.startswith("stacked_mnist/"):
        overrides.append("callbacks.sample_metrics.num_samples=20")
    if experiment.startswith("paper/cifar10"):  # on data of that shape, few at a time, for the networks are large
        write_cifar10(tmp_path)
        overrides = [f"paths.data_dir={tmp_path}", "dataset.batch_size=8", "dataset.val_size=8", "dataset.train_size=8"]
        overrides += ["metrics/features=pixels", "metrics.reference=train"]
        flows, fields = ("real_nvp", "glow", "flow_plus_plus"), ("ddpm", "cfm", "edm", "mean_flow")
        narrow = "width" if experiment.endswith(flows) else "channels"
        narrow = "networks.width" if experiment.endswith(fields) else narrow
        overrides += [f"model.{narrow}=16", "callbacks.latent_grid.num_images=4"]
        overrides += ["sampling.num_steps=2", "sampling.solver=ddim"] if experiment.endswith(("ddpm", "cfm")) else []
    if experiment.startswith("photos/"):
        write_images(tmp_path / "photos", 24, (20, 16))
        overrides = [f"dataset.source.path={tmp_path / 'photos'}", "dataset.shape=[3,16,16]", "dataset.batch_size=4"]
        overrides += ["metrics/features=pixels", "metrics.reference=train", "callbacks.latent_grid.num_images=4"]
        narrow = {"stylegan2": "channels", "flow_matching": "networks.width", "autoencoder": "networks.channels"}
        overrides.append(f"model.{narrow[experiment.partition('/')[2]]}=16")
    result = genlab("train", f"experiment={experiment}", "debug=fast_dev_run", *few, *overrides)
    assert result.code == 0, result.err
    if experiment.startswith("paper/"):
        assert "published" in result.out
    statuses = [json.loads(p.read_text())["status"] for p in result.outputs.rglob("status.json")]
    assert statuses
    assert set(statuses) == {"done"}


def test_a_sweep_is_compared(genlab: Genlab) -> None:
    swept = genlab("train", "-m", "model=vae/vae,gan/dcgan", "seed=1", "debug=limit", "logger=csv", "callbacks=minimal")
    assert swept.code == 0, swept.err
    runs = sorted(p.parent for p in swept.outputs.rglob("config.yaml"))
    assert [run.name for run in runs] == ["0", "1"]
    assert runs[0].parent == runs[1].parent
    result = genlab("compare", runs[0].parent)
    assert result.code == 0, result.err
    for shown in ("vae/vae", "gan/dcgan", "parameters", "bits/dim", "FID", "≤", "done"):
        assert shown in result.out
    assert (runs[0].parent / "comparison.png").is_file()

    # A figure of another protocol is not ranked; a damaged or half-written run is shown as that.
    summary = json.loads((runs[1] / "summary.json").read_text())
    summary["metrics"]["test/fid"] |= {"value": 0.0}
    summary["metrics"]["test/fid"]["protocol"]["num_samples"] = 7
    (runs[1] / "summary.json").write_text(json.dumps(summary))
    result = genlab("compare", *runs)
    assert "measured under unlike protocols" in result.out
    (runs[1] / "summary.json").write_text("{")
    assert "damaged" in genlab("compare", *runs).out
    (runs[1] / "summary.json").unlink()
    (runs[1] / "status.json").write_text('{"status": "running"}')
    assert "running" in genlab("compare", *runs).out
