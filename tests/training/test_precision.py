"""bfloat16 training ends where float32 training does, and torch.compile fails softly."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from genlab.models.gan.losses import NonSaturating
from genlab.training.adversarial import AdversarialTraining
from genlab.training.compilation import compile_functions
from genlab.training.objective import ObjectiveTraining
from support.catalogue import batch, make
from support.command import Genlab
from support.forks import in_child
from support.small_runs import outputs

OPTIONS = (
    "trainer.max_epochs=8", "metrics.num_samples=16", "metrics.memorization=false", "callbacks=minimal", "logger=csv",
    "lr_schedule=cosine",
)  # fmt: skip


@pytest.mark.parametrize(
    ("model", "options", "distance"),
    [
        ("vae/vae", ("model.networks.hidden=[128]",), 0.02),
        pytest.param("flow/real_nvp", ("model.width=32",), 0.05, marks=pytest.mark.slow),
        ("autoregressive/pixel_cnn", ("model.channels=8", "model.num_layers=3"), 0.02),
        pytest.param(
            "transformer/image_gpt",
            ("model.width=16", "model.num_heads=2", "model.num_layers=1"),
            0.02,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_bfloat16_ends_within_a_small_distance_of_float32(
    model: str, options: tuple[str, ...], distance: float, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In bits/dim of the test set, after eight epochs of digits."""
    bits = []
    for precision in ("32-true", "bf16-mixed"):
        folder = outputs(monkeypatch, tmp_path / precision)
        assert in_child(["train", f"model={model}", *options, *OPTIONS, f"trainer.precision={precision}"]) == 0
        (path,) = folder.rglob("summary.json")
        bits.append(json.loads(path.read_text())["metrics"]["test/bits_per_dim"]["value"])
    assert bits[1] == pytest.approx(bits[0], abs=distance)
    assert max(bits) < 3.5  # of log2(17) = 4.09: something was learned


def test_what_cannot_be_compiled_goes_on_without(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(function: object, **_: object) -> object:
        def compiled(*_: object, **__: object) -> None:
            raise torch._dynamo.exc.TorchDynamoException("no compiler here")

        return compiled

    monkeypatch.setattr("torch.compile", broken)
    for model, name in (("vae/vae", "loss"), ("gan/dcgan", "generator"), ("gan/mlp", "generator_loss")):
        result = genlab("train", f"model={model}", "trainer.compile=true", "debug=fast_dev_run", "logger=csv")
        assert result.code == 0, result.err
        assert f"{name} could not be compiled and runs uncompiled (no compiler here)" in result.err


@pytest.mark.parametrize(("long_run", "compiled"), [(8, True), (9, False)])
def test_long_runs_compile_by_themselves(
    genlab: Genlab, monkeypatch: pytest.MonkeyPatch, long_run: int, compiled: bool
) -> None:
    found: list[object] = []
    monkeypatch.setattr("genlab.training.compilation.LONG_RUN", long_run)
    monkeypatch.setattr("genlab.training.compilation.compile_functions", lambda *call: found.append(call))
    options = ("model.width=4", "dataset.train_size=256", "dataset.batch_size=64", "trainer.max_epochs=2")
    result = genlab("train", "model=flow/real_nvp", *options, "callbacks=minimal", "logger=csv")
    assert result.code == 0, result.err
    assert len(found) == compiled


compiler = pytest.mark.skipif(
    shutil.which("gcc") is None and shutil.which("c++") is None, reason="torch.compile needs a C++ compiler"
)


@compiler
def test_compiled_training_is_the_plain_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a model that draws: its random numbers are PyTorch's either way."""
    model = ("model=vae/iwae", "model.networks.hidden=[32]", "model.objective.backward_draws=2")
    bits = []
    for compiled in ("false", "true"):
        folder = outputs(monkeypatch, tmp_path / compiled)
        monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / f"{compiled}.log"))
        options = [*model, *OPTIONS, f"trainer.compile={compiled}", "trainer.max_epochs=2"]
        assert in_child(["train", *options]) == 0
        assert "could not be compiled" not in (tmp_path / f"{compiled}.log").read_text()
        (path,) = folder.rglob("summary.json")
        bits.append(json.loads(path.read_text())["metrics"]["test/bits_per_dim"]["value"])
    assert bits[1] == pytest.approx(bits[0], abs=1e-3)


def test_a_player_with_spectral_normalization_is_not_compiled(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled = []
    monkeypatch.setattr("torch.compile", lambda function, **_: compiled.append(function) or function)
    options = ("model=gan/dcgan", "model.normalization=spectral", "debug=fast_dev_run", "logger=csv")
    result = genlab("train", *options, "trainer.compile=true")
    assert result.code == 0
    assert "discriminator is not compiled" in result.err
    assert len(compiled) == 1  # the generator


def test_what_a_graph_gives_is_kept_or_not_asked_of_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """It writes its next results over the last ones: figures are copied, and samples come from the plain player."""
    calls: list[dict[str, bool]] = []
    buffer = torch.zeros(())

    def graphed(function: Callable[..., Any], options: dict[str, bool]) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            calls.append(options)
            found = function(*arguments)
            return {"loss": buffer.fill_(float(len(calls)))} if isinstance(found, dict) else found

        return call

    monkeypatch.setattr("torch.compile", graphed)
    vae, gan = make("vae/vae", (1, 8, 8), 2), make("gan/dcgan", (1, 8, 8), 17)
    cpu = torch.device("cpu")
    compile_functions(ObjectiveTraining(vae, torch.optim.SGD).compilable(graphs=True), cpu, graphs=True)
    losses = [vae.loss(batch((1, 8, 8), 2))["loss"] for _ in range(2)]
    assert [float(loss) for loss in losses] == [1, 2]
    assert all(options["triton.cudagraphs"] for options in calls)
    game = AdversarialTraining(gan, NonSaturating(), torch.optim.SGD, torch.optim.SGD)
    compile_functions(game.compilable(graphs=True), cpu, graphs=True)
    gan.eval().sample(2, generator=torch.Generator().manual_seed(0))
    assert len(calls) == 2
    gan.train().generator(torch.zeros(2, gan.latent_dim), None)
    assert len(calls) == 3


@compiler
def test_compiled_players_may_have_penalties_on_their_gradients(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Which need second derivatives, every other step here."""
    options = (
        "model=gan/mlp", "model.width=8", "model.discriminator_width=8", "model.batch_norm=false",
        "gan/regularizer=[gradient_penalty]", "training.regularizers.gradient_penalty.every=2", "dataset=ring2d",
        "dataset.batch_size=50", "budget.images=500", "metrics.num_samples=50", "callbacks=minimal", "logger=csv",
        "trainer.precision=32-true",
        # Or the last digit of a gradient near 0 would make a whole step.
        *(f"+training.{player}_optimizer.eps=1e-3" for player in ("generator", "discriminator")),
    )  # fmt: skip
    weights = []
    for compiled in ("false", "true"):
        folder = outputs(monkeypatch, tmp_path / compiled)
        monkeypatch.setenv("GENLAB_TEST_LOG", str(tmp_path / f"{compiled}.log"))
        assert in_child(["train", *options, f"trainer.compile={compiled}"]) == 0
        assert "could not be compiled" not in (tmp_path / f"{compiled}.log").read_text()
        (path,) = folder.rglob("last.ckpt")
        weights.append(torch.load(path, weights_only=False)["state_dict"])
    plain, compiled_ones = weights
    assert plain.keys() == compiled_ones.keys()
    for name, value in plain.items():
        torch.testing.assert_close(compiled_ones[name], value, rtol=1e-3, atol=1e-5)
