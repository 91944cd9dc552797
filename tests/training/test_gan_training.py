"""The game with all that can be put together: every loss with every regularizer, on two processes, in bfloat16."""

import itertools
import json
import math
import os
import signal
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import pytorch_lightning as pl
import torch

from genlab.callbacks.game_watch import GameWatch
from genlab.data.examples import Examples
from genlab.data.images import ImageDataModule
from genlab.errors import InputError
from genlab.models.gan.augment_pipe import AdaptiveAugmentation, ScheduledAugmentation
from genlab.models.gan.augmentation import DiffAugment
from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.losses import (
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticPairing,
    Wasserstein,
)
from genlab.models.gan.mlp import MLP
from genlab.models.gan.regularizers import DRAGAN, R1, R2, Consistency, GradientPenalty, WeightClipping
from genlab.training.adversarial import AdversarialTraining
from genlab.training.compilation import Compilation
from support.forks import in_child
from support.kills import kill_at
from support.small_runs import COMMON, assert_identical, only_run, outputs

LOSSES = {
    "minimax": Minimax(),
    "non_saturating": NonSaturating(),
    "least_squares": LeastSquares(),
    "hinge": Hinge(),
    "wasserstein": Wasserstein(),
    "relativistic": RelativisticPairing(),
}
REGULARIZERS: dict[str, Any] = {
    "none": dict,
    "spectral": dict,
    "r1 r2": lambda: {"r1": R1(0.1), "r2": R2(0.1, every=2)},
    "gradient_penalty": lambda: {"gradient_penalty": GradientPenalty()},
    "one_sided": lambda: {"gradient_penalty": GradientPenalty(one_sided=True)},
    "dragan": lambda: {"dragan": DRAGAN()},
    "consistency": lambda: {"consistency": Consistency(generated=5.0)},
    "weight_clipping": lambda: {"weight_clipping": WeightClipping(0.05)},
}
# A critic without any bound on its slope has no distance to tell, and clipped weights are the Wasserstein critic's.
PAIRS = [
    (loss, regularizer)
    for loss, regularizer in itertools.product(LOSSES, REGULARIZERS)
    if not (loss == "wasserstein" and regularizer in ("none", "consistency"))
    and not (loss != "wasserstein" and regularizer == "weight_clipping")
]
Adam = partial(torch.optim.Adam, lr=2e-4, betas=(0.5, 0.999))


class Blobs:
    """Colour images of one bright blob each."""

    def load(self) -> dict[Any, Examples]:
        generator = torch.Generator().manual_seed(0)
        place = torch.rand(400, 2, 1, 1, generator=generator) * 10 + 3
        at = torch.arange(16.0)
        far = (at.view(1, 16, 1) - place[:, 0]) ** 2 + (at.view(1, 1, 16) - place[:, 1]) ** 2
        colour = torch.rand(400, 3, 1, 1, generator=generator)
        images = (255 * colour * torch.exp(-far / 8).unsqueeze(1)).byte()
        return {"train": Examples(images, torch.zeros(400, dtype=torch.long))}


def blobs(batch_size: int = 8) -> ImageDataModule:
    return ImageDataModule(Blobs(), "blobs", (3, 16, 16), batch_size=batch_size, eval_batch_size=20)


def fit(module: AdversarialTraining, steps: int, batch_size: int = 8, **options: Any) -> None:
    trainer = pl.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, logger=False, enable_checkpointing=False, barebones=False, limit_val_batches=0,
        max_epochs=-1, max_steps=2 * steps, **options,
    )  # fmt: skip
    trainer.fit(module, datamodule=blobs(batch_size))


def train_pair(loss: str, regularizer: str, steps: int, **options: Any) -> str | None:
    """Some steps of both; what went wrong, if anything did."""
    torch.manual_seed(0)
    normalization = "spectral" if regularizer == "spectral" else "none"
    model = DCGAN((3, 16, 16), latent_dim=8, channels=4, normalization=normalization)
    module = AdversarialTraining(model, LOSSES[loss], Adam, Adam, regularizers=REGULARIZERS[regularizer]())
    before = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
    fit(module, steps, **options)
    figures = {name: float(value) for name, value in module.latest.items()}
    if module.batches_seen != steps:
        return f"{module.batches_seen} steps"
    if not module.is_finite() or not all(torch.tensor(value).isfinite() for value in figures.values()):
        return f"no numbers: {figures}"
    if (torch.cat([p.detach().flatten() for p in model.parameters()]) - before).abs().mean() < 1e-4:
        return "the weights have not moved"
    if regularizer == "weight_clipping":
        largest = max(float(p.abs().max()) for p in model.discriminator.parameters())
        return None if largest < 0.0501 else f"a weight of {largest}"
    return None


@pytest.mark.parametrize("steps", [8, pytest.param(200, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])])
def test_every_loss_with_every_regularizer_on_two_processes_in_bfloat16(steps: int, tmp_path: Path) -> None:
    children = []
    for rank in range(2):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                os.environ |= {
                    "RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2",
                    "GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(20000 + os.getppid() % 20000),
                    "TORCHELASTIC_RUN_ID": "test",
                }  # fmt: skip
                torch.set_num_threads(1)
                found = {}
                for pair in PAIRS:
                    options = {"precision": "bf16-mixed", "devices": 2, "strategy": "ddp_find_unused_parameters_true"}
                    found[" x ".join(pair)] = train_pair(*pair, steps, **options)
                (tmp_path / f"{rank}.json").write_text(json.dumps(found))
                code = 0
            finally:
                if code:
                    import traceback

                    traceback.print_exc()
                os._exit(code)
        children.append(pid)
    assert [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in children] == [0, 0]
    for rank in range(2):
        found = json.loads((tmp_path / f"{rank}.json").read_text())
        assert len(found) == len(PAIRS)
        assert {pair: wrong for pair, wrong in found.items() if wrong} == {}


@pytest.mark.skipif(not hasattr(torch._dynamo.config, "trace_autograd_ops"), reason="an older PyTorch")
@pytest.mark.parametrize(
    ("name", "augment"),
    [
        *((name, None) for name in REGULARIZERS),
        *(pytest.param(name, AdaptiveAugmentation, marks=pytest.mark.slow) for name in ("r1 r2", "consistency")),
    ],
)
def test_a_compiled_game_is_the_plain_one(
    name: str, augment: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """A turn is one graph, with penalties and their gradients, which come and go, and change."""
    compile_ = torch.compile
    monkeypatch.setattr("torch.compile", lambda function, **_: compile_(function, backend="aot_eager"))
    regularizers = REGULARIZERS[name]
    if name == "r1 r2":
        regularizers = lambda: {"r1": R1(1.0, final_gamma=0.1, decay_images=80), "r2": R2(0.1, every=2)}  # noqa: E731
    ends = []
    for when in (False, True):
        torch._dynamo.reset()
        torch._dynamo.utils.counters.clear()  # of other tests
        torch.manual_seed(0)
        loss = LOSSES["wasserstein" if name == "weight_clipping" else "relativistic"]
        normalization = "spectral" if name == "spectral" else "none"
        model = MLP((3, 16, 16), latent_dim=8, width=16, discriminator_width=8, normalization=normalization, std=None)
        # An optimizer of signs would make much of the last digit of a gradient near 0.
        SGD = partial(torch.optim.SGD, lr=1e-2)
        options = {"augment": augment and augment(), "gradient_clip": 1.0}
        module = AdversarialTraining(model, loss, SGD, SGD, regularizers=regularizers(), **options)
        fit(module, 8, callbacks=[Compilation(when)])
        ends.append(torch.cat([p.detach().flatten() for p in model.parameters()]))
        for turn in (module.discriminator_loss, module.generator_loss):
            assert (turn.__name__ == "call") is when
    torch.testing.assert_close(*ends, rtol=1e-4, atol=1e-6)
    assert "could not be compiled" not in capsys.readouterr().err
    assert not torch._dynamo.utils.counters["graph_break"]


@pytest.mark.parametrize("augment", [None, DiffAugment, AdaptiveAugmentation])
def test_generator_steps_see_the_weights_of_their_time_in_bfloat16(augment: Any, monkeypatch: Any) -> None:
    """Autocast keeps the weights it has cast: a second step must not compute with those of before the first.

    Compared with a loop in which every pass casts for itself.
    """
    big = partial(torch.optim.SGD, lr=0.5)  # steps that bfloat16 can see

    def train(fresh: bool) -> torch.Tensor:
        torch.manual_seed(0)
        model = DCGAN((3, 16, 16), latent_dim=8, channels=4, normalization="none")
        module = AdversarialTraining(
            model, NonSaturating(), big, big, augment=augment() if augment else None, generator_steps=3
        )
        if fresh:
            for player in (model.generator, model.discriminator):
                player.register_forward_pre_hook(lambda *_: torch.clear_autocast_cache())
        fit(module, 6, precision="bf16-mixed")
        return torch.cat([p.detach().flatten() for p in model.parameters()])

    torch.testing.assert_close(train(False), train(True), rtol=0, atol=0)


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
def test_an_augmentation_hears_how_sure_d_is(loss: str) -> None:
    """Where a logit's sign means nothing, of real images against generated ones."""
    heard: list[torch.Tensor] = []

    class Listening(DiffAugment):
        def update(self, certainty: torch.Tensor) -> None:
            heard.append(certainty.mean())

    model = DCGAN((3, 16, 16), latent_dim=8, channels=4, normalization="none")
    module = AdversarialTraining(model, LOSSES[loss], Adam, Adam, augment=Listening())
    seen: list[torch.Tensor] = []
    step = module.training_step

    def watched(*batch: Any) -> None:
        step(*batch)
        real, fake = (module.latest[f"train/logit_{which}"] for which in ("real", "fake"))
        seen.append(real if loss == "hinge" else real - fake)

    module.training_step = watched  # type: ignore[method-assign, assignment]
    fit(module, 3)
    assert len(heard) == 3
    torch.testing.assert_close(torch.stack(heard), torch.stack(seen))


def test_a_scheduled_augmentation_follows_the_images_seen() -> None:
    augment = ScheduledAugmentation(final_p=0.5, ramp_images=10**6)
    model = DCGAN((3, 16, 16), latent_dim=8, channels=4, normalization="none")
    module = AdversarialTraining(model, Hinge(), Adam, Adam, augment=augment)
    fit(module, 3)
    before = module.images_seen * 2 // 3  # the last step's
    p = torch.tensor(0.25 * (1 - math.cos(math.pi * before / 10**6)))
    torch.testing.assert_close(module.latest["train/augment_p"], p)


@pytest.mark.parametrize("loss", ["hinge", "relativistic"])
def test_gs_batch_may_be_a_multiple_of_ds(loss: str) -> None:
    """Each class as often as in D's; real examples, where the loss pairs them, likewise."""
    model = DCGAN((3, 16, 16), num_classes=4, latent_dim=8, channels=4, normalization="none")
    made: list[tuple[int, torch.Tensor]] = []
    play = model.discriminator.forward
    model.discriminator.forward = lambda x, y: (made.append((len(x), y)), play(x, y))[1]  # type: ignore[method-assign]
    module = AdversarialTraining(model, LOSSES[loss], Adam, Adam, generator_batch=3)
    fit(module, 1)
    (real, y), (fake, _), *of_g = made
    assert real == fake
    assert [num for num, _ in of_g] == [3 * real] * (2 if loss == "relativistic" else 1)
    for _, classes in of_g:
        assert torch.equal(classes.bincount(minlength=4), 3 * y.bincount(minlength=4))
    with pytest.raises(InputError, match="generator_batch=0"):
        AdversarialTraining(model, LOSSES[loss], Adam, Adam, generator_batch=0)


def test_a_lazy_penalty_comes_every_fourth_step_and_four_times_as_strong() -> None:
    class Constant(R1):
        """Whose gradient is 1 in D's last bias."""

        def penalty(self, critic: Any, *examples: torch.Tensor) -> torch.Tensor:
            return module.model.discriminator.to_logit.bias.sum()  # type: ignore[union-attr]

    sgd = partial(torch.optim.SGD, lr=1.0)
    seen = []

    class Silent(Wasserstein):
        def discriminator(self, real: torch.Tensor, fake: torch.Tensor) -> torch.Tensor:
            return 0 * (real.mean() + fake.mean())

    model = DCGAN((3, 16, 16), latent_dim=8, channels=4, normalization="none")
    module = AdversarialTraining(model, Silent(), sgd, sgd, regularizers={"r1": Constant(every=4)})
    step = module.training_step
    bias = model.discriminator.to_logit.bias
    module.training_step = lambda *batch: (step(*batch), seen.append(float(bias.detach())))[0]  # type: ignore[method-assign]
    fit(module, 9)
    assert seen == [-4.0] * 4 + [-8.0] * 4 + [-12.0]


RESUMED = {
    "path length and ADA": (
        "model=gan/stylegan2", "model.channels=4", "model.latent_dim=4", "model.style_dim=4", "gan/augment=ada",
        "training.augment.images_to_full=200", "training.augment.every=3", "training.augment.target=-2",
        "training.regularizers.r1.every=2", "training.generator_regularizers.path_length.every=2",
    ),
    "spectral norms, attention and a falling gamma": (
        "model=gan/sngan", "model.channels=4", "model.discriminator_channels=4", "model.attention=4",
        "training.discriminator_steps=1", "gan/regularizer=[r1,consistency]",
        "training.regularizers.r1.final_gamma=0.1", "training.regularizers.r1.decay_images=1000",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", RESUMED)
def test_the_state_of_a_game_is_resumed_to_the_bit(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["train", *RESUMED[name], *COMMON]
    whole = outputs(monkeypatch, tmp_path / "whole")
    assert in_child(arguments) == 0
    cut = outputs(monkeypatch, tmp_path / "cut")
    trap = kill_at("genlab.training.adversarial.AdversarialTraining.training_step", 20)
    assert in_child(arguments, trap) == -signal.SIGKILL
    run = only_run(cut)
    assert in_child(["train", f"resume={run}"]) == 0
    assert_identical(only_run(whole), run)
    if name.startswith("path"):
        state = torch.load(run / "checkpoints" / "last.ckpt", weights_only=True)["state_dict"]
        assert 0 < state["augment.p"] <= 1
        assert state["generator_regularizers.path_length.mean"] > 0
        assert state["model.generator.mapping.mean_w"].abs().sum() > 0


class _Trainer:
    log_every_n_steps, is_global_zero, sanity_checking = 1, True, False


def test_a_line_says_once_that_the_discriminator_wins_and_again_after_it_did_not(capsys: Any) -> None:
    module = AdversarialTraining(DCGAN((1, 8, 8), channels=2), NonSaturating(), Adam, Adam)
    module.trainer = trainer = _Trainer()  # type: ignore[assignment]
    watch = GameWatch(window=3)

    def lines(*accuracies: tuple[float, float]) -> int:
        for real, fake in accuracies:
            module.latest = {"train/accuracy_real": torch.tensor(real), "train/accuracy_fake": torch.tensor(fake)}
            watch.on_train_batch_end(trainer, module)  # type: ignore[arg-type]
        return capsys.readouterr().err.count("genlab: warning: the discriminator tells")

    assert lines((1, 1), (1, 1)) == 0
    assert lines((1, 0.99), (1, 1)) == 1
    assert lines((1, 1), (1, 1)) == 0
    assert lines((1, 0.5), (1, 1), (1, 1), (1, 1)) == 1
    resumed = GameWatch(window=3)
    resumed.load_state_dict(watch.state_dict())
    watch = resumed
    assert lines((1, 1)) == 0


def test_a_line_says_that_modes_are_lost(capsys: Any) -> None:
    module = AdversarialTraining(DCGAN((1, 8, 8), channels=2), NonSaturating(), Adam, Adam)
    watch = GameWatch()
    said = []
    for modes in (3, 10, 9, 8, 7, 10, 5):
        module.reported["val/modes"] = (float(modes), 0)
        watch.on_validation_end(_Trainer(), module)  # type: ignore[arg-type]
        said.append("modes are being lost" in capsys.readouterr().err)
    assert said == [False, False, False, True, False, False, True]
