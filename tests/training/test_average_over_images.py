"""The average whose half-life is a number of images: its decay, its ramp, what checkpoints hold of it, and training."""

import math
from functools import partial

import pytest
import pytorch_lightning as pl
import torch
from torch import Tensor, nn

from genlab.data.digits import Digits
from genlab.data.images import ImageDataModule
from genlab.errors import InputError
from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.losses import NonSaturating
from genlab.training.adversarial import AdversarialTraining
from genlab.training.ema_images import AverageOverImages


class Model(nn.Module):
    """A weight, a buffer, and a part of training alone that has the weight too."""

    def __init__(self) -> None:
        super().__init__()
        self.judge = nn.Linear(3, 3, bias=False)
        self.last = nn.Linear(3, 3)
        self.last.weight = self.judge.weight
        self.register_buffer("count", torch.zeros(()))


def test_weights_of_a_half_life_ago_count_half() -> None:
    model = Model()
    average = AverageOverImages(model, half_life=100)
    start = model.last.weight.detach().clone()
    nn.init.zeros_(model.last.weight)
    for images in (30, 60, 100):
        average.update_at(images, model)
    torch.testing.assert_close(average.model.last.weight.detach(), start / 2)
    average.update_at(300, model)
    torch.testing.assert_close(average.model.last.weight.detach(), start / 8)


@pytest.mark.parametrize(
    ("images", "half_life"),
    [(0, 0.0), (64, 3.2), (6400, 320), (10_000_000, 500_000), (90_000_000, 500_000)],
)
def test_a_ramp_limits_the_half_life_to_a_share_of_the_images_before(images: int, half_life: float) -> None:
    average = AverageOverImages(Model(), half_life=500_000, ramp=0.05)
    average.images = images
    expected = 0.5 ** (64 / half_life) if half_life else 0.0
    assert average.decay_at(images + 64) == pytest.approx(expected, abs=1e-12)


def test_the_first_update_with_a_ramp_forgets_the_initial_weights() -> None:
    model = Model()
    average = AverageOverImages(model, half_life=100, ramp=0.5, shared=["judge"])
    nn.init.normal_(model.last.weight)
    model.count.fill_(7.0)
    average.update_at(20, model)
    assert torch.equal(average.model.last.weight, model.last.weight)
    assert average.model.last.weight is not model.last.weight
    assert average.model.count == 7
    assert average.model.judge is model.judge


def test_a_loaded_average_goes_on_where_it_was() -> None:
    model = Model()
    averages = [AverageOverImages(model, half_life=50, ramp=0.3) for _ in range(2)]
    averages[0].update_at(40, model)
    averages[1].load_state_dict(averages[0].state_dict())
    assert averages[1].decay_at(60) == averages[0].decay_at(60) == 0.5 ** (20 / 12)
    assert averages[1].updates == 1


# -- in training -------------------------------------------------------------------------------------------------------


def game(**options: object) -> AdversarialTraining:
    torch.manual_seed(0)
    Adam = partial(torch.optim.Adam, lr=1e-3)
    return AdversarialTraining(DCGAN((1, 8, 8), channels=2), NonSaturating(), Adam, Adam, **options)


def fit(module: AdversarialTraining, batches: int) -> None:
    data = ImageDataModule(
        Digits(), "digits", (1, 8, 8), kind="image", levels=17, batch_size=20, val_size=100, test_size=100
    )
    pl.Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, use_distributed_sampler=False,
        num_sanity_val_steps=0, logger=False, enable_checkpointing=False, max_epochs=1, limit_train_batches=batches,
        limit_val_batches=0,
    ).fit(module, datamodule=data)  # fmt: skip


def test_training_updates_the_average_with_the_images_of_each_step() -> None:
    module = game(ema_images=500.0, ema_ramp=0.5, discriminator_steps=2)
    average = module.ema
    assert isinstance(average, AverageOverImages)
    seen: list[int] = []
    update = average.update_at
    average.update_at = lambda images, model: (seen.append(images), update(images, model))[1]  # type: ignore[method-assign]
    fit(module, 6)
    assert seen == [40, 80, 120]  # G takes a step after every second batch of 20
    assert average.images == module.images_seen == 120
    assert module.sampling_model is average.model


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"ema_images": 100.0, "ema_decay": 0.9}, "ema_images=100.0, ema_decay=0.9"),
        ({"ema_ramp": 0.05}, "ema_ramp=0.05: it limits ema_images, which is null"),
    ],
)
def test_one_way_to_average_at_a_time(options: dict[str, float], line: str) -> None:
    with pytest.raises(InputError, match=line):
        game(**options)


# -- noise of real examples --------------------------------------------------------------------------------------------


def test_noise_of_real_examples_is_uniform_and_for_d_alone() -> None:
    module = game(real_noise=1 / 16)
    seen: list[Tensor] = []
    module.model.discriminator.register_forward_pre_hook(lambda _, given: seen.append(given[0].detach()))
    batches: list[Tensor] = []
    step = module.training_step

    def watched(batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        batches.append(batch[0].clone())
        step(batch, batch_idx)

    module.training_step = watched  # type: ignore[method-assign]
    fit(module, 20)
    # Of each batch, D sees the real examples, the generated ones, and those of G's step.
    noise = torch.cat([real - batch for real, batch in zip(seen[::3], batches, strict=True)]) * 16
    assert 0 <= noise.min() < 0.01
    assert 0.99 < noise.max() <= 1 + 1e-5
    assert float(noise.mean()) == pytest.approx(0.5, abs=5 / math.sqrt(12 * noise.numel()))


def test_without_noise_nothing_is_drawn() -> None:
    module = game()
    x = torch.rand(2, 1, 8, 8)
    state = torch.get_rng_state()
    assert module._noisy(x) is x
    assert torch.equal(torch.get_rng_state(), state)
