"""The two training procedures: steps, accumulation, clipping, averaging, schedules and what is counted."""

import copy
from contextlib import nullcontext
from functools import partial
from typing import Any

import pytest
import pytorch_lightning as pl
import torch
from pytorch_lightning.plugins.precision import MixedPrecision
from torch import Tensor, nn

from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.distributions.pixel import Categorical
from genlab.errors import InputError
from genlab.models.adversarial import AdversarialModel
from genlab.models.gan.losses import NonSaturating
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.vae import VAE
from genlab.training import schedules
from genlab.training.adversarial import AdversarialTraining
from genlab.training.ema import ExponentialMovingAverage
from genlab.training.module import TrainingModule
from genlab.training.objective import ObjectiveTraining

SGD = partial(torch.optim.SGD, lr=0.1)


class Mean(VAE):
    """A VAE without randomness, so that batches can be added up exactly."""

    def elbo_terms(self, x: Tensor, y: Tensor | None = None) -> tuple[Tensor, Tensor]:
        q = self.gaussian(x, y)
        return self.log_likelihood(x, q.mean, y), q.mean.square() + q.std.square()


class PointGAN(AdversarialModel):
    """Two linear players without batch normalisation; z is fixed by the test."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__((1, 8, 8))
        self.generator = WithClass(nn.Sequential(nn.Linear(3, 64), nn.Sigmoid(), nn.Unflatten(1, (1, 8, 8))))
        self.discriminator = WithClass(nn.Sequential(nn.Flatten(), nn.Linear(64, 1), nn.Flatten(0)))

    def sample(
        self, num_samples: int, y: Tensor | None = None, *, generator: Any = None, sampling: Any = None
    ) -> Tensor:
        return self.generator(torch.zeros(num_samples, 3))


class WithClass(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self.net = net

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.net(x)


def data(batch_size: int, train_size: int | None = 256) -> ImageDataModule:
    return ImageDataModule(
        Digits(),
        "digits",
        (1, 8, 8),
        levels=17,
        batch_size=batch_size,
        train_size=train_size,
        val_size=50,
        test_size=50,
    )


def fit(module: TrainingModule, batch_size: int, **options: Any) -> pl.Trainer:
    options = {"max_epochs": 1, "logger": False, "enable_checkpointing": False, **options}
    trainer = pl.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, **options,
    )  # fmt: skip
    torch.manual_seed(0)
    trainer.fit(module, datamodule=data(batch_size))
    return trainer


def vae(cls: type[VAE] = VAE) -> VAE:
    torch.manual_seed(1)
    return cls((1, 8, 8), Categorical(17), FullyConnected((16,)), ELBO(), latent_dim=4)


def weights(module: nn.Module) -> Tensor:
    return torch.cat([p.detach().flatten() for p in module.parameters()])


@pytest.mark.parametrize("clip", [None, 0.05])
def test_accumulated_objective_batches_make_the_big_batch_step(clip: float | None) -> None:
    # One epoch of 256 examples in one order: 8 batches of 32 by four, or 2 of 128.
    small = ObjectiveTraining(vae(Mean), SGD, accumulate=4, gradient_clip=clip)
    big = ObjectiveTraining(vae(Mean), SGD, gradient_clip=clip)
    fit(small, 32)
    fit(big, 128)
    torch.testing.assert_close(weights(small.model), weights(big.model), rtol=1e-4, atol=1e-6)
    assert not torch.allclose(weights(small.model), weights(vae(Mean)), atol=1e-4)


def test_clipping_bounds_the_step() -> None:
    module = ObjectiveTraining(vae(), SGD, gradient_clip=1e-3)
    before = weights(module.model)
    fit(module, 256)
    moved = (weights(module.model) - before).norm()
    assert 0 < moved <= 0.1 * 1e-3 * 1.001


class Spiking(VAE):
    """A VAE whose gradient is multiplied in one of its steps, counted from 1."""

    spike: tuple[int, float] = (0, 1.0)
    seen = 0

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        self.seen += 1
        at, factor = self.spike
        figures = super().loss(x, y)
        if self.seen == at:
            figures["loss"].register_hook(lambda gradient: gradient * factor)
        return figures


@pytest.mark.parametrize("factor", [1e6, float("nan")])
@pytest.mark.parametrize("clip", [None, 1.0])
def test_a_step_of_too_large_a_gradient_is_left_out(factor: float, clip: float | None) -> None:
    """The second of two steps moves neither weights, nor moments, nor averaged weights, and it is counted."""
    ends, states = [], []
    for batches, spike in ((1, 0), (2, 2), (2, 0)):
        model = vae(Spiking)
        assert isinstance(model, Spiking)
        model.spike = (spike, factor)
        adam = partial(torch.optim.AdamW, lr=1e-2, weight_decay=0.1)
        module = ObjectiveTraining(model, adam, gradient_clip=clip, skip_above=1e4, ema_decay=0.5)
        trainer = fit(module, 128, limit_train_batches=batches, limit_val_batches=0)
        assert module.skipped_steps == (1 if spike else 0)
        assert module.ema is not None
        ends.append(torch.cat([weights(module.model), weights(module.sampling_model)]))
        states.append([float(state["step"]) for state in trainer.optimizers[0].state.values()])
    assert torch.equal(ends[0], ends[1])
    assert not torch.allclose(ends[1], ends[2])
    assert states[0] == states[1]


def test_steps_of_usual_gradients_are_taken_under_a_bound() -> None:
    ends = []
    for bound in (None, 1e4):
        module = ObjectiveTraining(vae(), SGD, skip_above=bound)
        fit(module, 64)
        ends.append(weights(module.model))
    assert torch.equal(*ends)


@pytest.mark.parametrize("skip", [1e-6, 1e6])
def test_scaled_gradients_are_left_out_by_their_own_norm(skip: float) -> None:
    module = ObjectiveTraining(vae(), SGD, skip_above=skip)
    before = weights(module.model)
    fit(module, 128, plugins=[Scaled()])
    assert module.skipped_steps == (2 if skip < 1 else 0)
    assert torch.equal(before, weights(module.model)) == (skip < 1)


class Scaled(MixedPrecision):
    """float16's scaling of gradients, by a power of two, without float16's rounding."""

    def __init__(self) -> None:
        super().__init__("16-mixed", "cpu", scaler=torch.amp.GradScaler("cpu", init_scale=1024.0))

    def autocast_context_manager(self) -> Any:  # type: ignore[override]
        return nullcontext()


@pytest.mark.parametrize("clip", [None, 0.01])
@pytest.mark.parametrize("adversarial", [False, True])
def test_scaled_gradients_are_clipped_at_their_own_norm(adversarial: bool, clip: float | None) -> None:
    """As on a GPU under trainer.precision=16-mixed."""
    adam, ends = partial(torch.optim.Adam, lr=1e-2), []
    for plugins in ([Scaled()], []):
        torch.manual_seed(1)
        module: TrainingModule = (
            AdversarialTraining(PointGAN(), NonSaturating(), SGD, adam, gradient_clip=clip)
            if adversarial
            else ObjectiveTraining(vae(Mean), adam, gradient_clip=clip)
        )
        fit(module, 64, plugins=plugins)
        ends.append(weights(module.model))
    torch.testing.assert_close(*ends, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("clip", [None, 0.01])
def test_accumulated_adversarial_batches_make_the_big_batch_step(
    clip: float | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = []
    for batch_size, accumulate in ((32, 4), (128, 1)):
        torch.manual_seed(1)
        module = AdversarialTraining(PointGAN(), NonSaturating(), SGD, SGD, accumulate=accumulate, gradient_clip=clip)
        # The same z for every image, so that only the split into batches differs.
        monkeypatch.setattr(torch, "randn", lambda *shape, device=None: torch.linspace(-1, 1, 3).expand(*shape))
        fit(module, batch_size)
        models.append(weights(module.model))
    torch.testing.assert_close(*models, rtol=1e-4, atol=1e-6)


def test_the_adversarial_step_is_the_plain_loops() -> None:
    """Two batches by hand, with the same randomness."""
    torch.manual_seed(1)
    module = AdversarialTraining(PointGAN(), NonSaturating(), SGD, SGD)
    model = copy.deepcopy(module.model)
    fit(module, 128)

    loader = data(128)
    loader.setup()
    torch.manual_seed(0)
    loss = NonSaturating()
    d, g = SGD(model.discriminator.parameters()), SGD(model.generator.parameters())
    for x, _ in loader.train_dataloader():
        fake = model.generator(torch.randn(len(x), 3)).detach()
        d.zero_grad()
        loss.discriminator(model.discriminator(x), model.discriminator(fake)).backward()
        d.step()
        g.zero_grad()
        loss.generator(model.discriminator(model.generator(torch.randn(len(x), 3)))).backward()
        g.step()
    torch.testing.assert_close(weights(module.model), weights(model))


def test_discriminator_steps_and_images_are_counted() -> None:
    module = AdversarialTraining(PointGAN(), NonSaturating(), SGD, SGD, discriminator_steps=4)
    steps = {"G": 0, "D": 0}
    for name, player in (("G", "generator_optimizer"), ("D", "discriminator_optimizer")):
        factory = getattr(module, player)

        def counted(parameters: Any, name: str = name, factory: Any = factory) -> torch.optim.Optimizer:
            optimizer = factory(parameters)
            optimizer.register_step_post_hook(lambda *_: steps.__setitem__(name, steps[name] + 1))
            return optimizer

        setattr(module, player, counted)
    trainer = fit(module, 32)
    assert steps == {"G": 2, "D": 8}
    assert module.images_seen == 256
    assert trainer.global_step == 10  # which is why images are counted


def test_the_budget_ends_training() -> None:
    module = ObjectiveTraining(vae(), SGD, images=100)
    fit(module, 32, max_epochs=50)
    assert module.images_seen == 128  # the batch that reaches it is finished


def test_validation_does_not_touch_the_training() -> None:
    runs = []
    for every in (1, 2):
        module = ObjectiveTraining(vae(), partial(torch.optim.Adam, lr=1e-2))
        fit(module, 32, max_epochs=2, check_val_every_n_epoch=every)
        runs.append(weights(module.model))
    assert torch.equal(*runs)


def test_the_average_follows_and_is_what_samples() -> None:
    model = nn.Linear(2, 2)
    average = ExponentialMovingAverage(model, 0.5)
    expected = model.weight.detach().clone()
    for t in range(20):
        with torch.no_grad():
            model.weight.add_(1.0)
        average.update(model)
        decay = min(0.5, (1 + t) / (10 + t))
        expected = decay * expected + (1 - decay) * model.weight.detach()
    torch.testing.assert_close(average.model.weight, expected)
    resumed = ExponentialMovingAverage(nn.Linear(2, 2), 0.5)
    resumed.load_state_dict(average.state_dict())
    assert resumed.updates == 20

    module = ObjectiveTraining(vae(), SGD, ema_decay=0.99)
    fit(module, 32)
    assert module.sampling_model is module.ema.model
    assert not torch.allclose(weights(module.sampling_model), weights(module.model))
    assert not module.sampling_model.training


def test_buffers_are_copied_to_the_average() -> None:
    model = nn.BatchNorm1d(3)
    average = ExponentialMovingAverage(model, 0.9)
    model(torch.randn(50, 3) + 4)
    average.update(model)
    assert torch.equal(average.model.running_mean, model.running_mean)


@pytest.mark.parametrize(
    ("schedule", "expected"),
    [
        (partial(schedules.constant, warmup_steps=2), [0.5, 1, 1, 1, 1, 1]),
        (partial(schedules.linear, warmup_steps=2, final=0.2), [0.5, 1, 1, 0.8, 0.6, 0.4]),
        (partial(schedules.cosine, warmup_steps=2), [0.5, 1, 1, 0.8536, 0.5, 0.1464]),
        (partial(schedules.cosine, final=0.2, until=2 / 3), [1, 0.8828, 0.6, 0.3172, 0.2, 0.2]),
    ],
)
def test_schedules_over_six_steps(schedule: Any, expected: list[float]) -> None:
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=1.0)
    scheduler = schedule(optimizer, total_steps=6)
    rates = []
    for _ in expected:
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        scheduler.step()
    assert rates == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("kind", ["objective", "adversarial"])
@pytest.mark.parametrize("interval", ["step", "epoch"])
def test_a_schedule_ends_with_the_run(kind: str, interval: Any) -> None:
    options = {"schedule": schedules.linear, "schedule_interval": interval, "accumulate": 2}
    if kind == "objective":
        module: TrainingModule = ObjectiveTraining(vae(), SGD, **options)
    else:
        module = AdversarialTraining(PointGAN(), NonSaturating(), SGD, SGD, **options)
    trainer = fit(module, 32, max_epochs=3)
    for optimizer in trainer.optimizers:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)


@pytest.mark.parametrize(("discriminator_steps", "max_steps"), [(1, 16), (4, 10)])
def test_a_schedule_ends_with_max_steps(discriminator_steps: int, max_steps: int) -> None:
    """8 batches: 8 steps of D, and 8 or 2 of G, all of which Lightning's ``max_steps`` counts."""
    module = AdversarialTraining(
        PointGAN(), NonSaturating(), SGD, SGD, discriminator_steps=discriminator_steps, schedule=schedules.linear
    )
    trainer = fit(module, 32, max_epochs=5, max_steps=max_steps)
    assert module.images_seen == 256
    assert module.total_batches() == 8  # nor do the rates reach 0 before the end
    for optimizer in trainer.optimizers:
        assert optimizer.param_groups[0]["lr"] == pytest.approx(0, abs=1e-6)


def test_a_schedule_without_an_end_is_refused() -> None:
    with pytest.raises(InputError, match="needs the run's length"):
        fit(ObjectiveTraining(vae(), SGD, schedule=schedules.cosine), 32, max_epochs=-1, max_time="00:00:00:05")
