"""Statistics of batch normalization computed anew: what they are, what they leave alone, and where they are named."""

import json
from types import SimpleNamespace

import pytest
import torch

from genlab.distributions.noise import generators, mix
from genlab.errors import InputError
from genlab.metrics.evaluation import Evaluation
from genlab.metrics.norm_statistics import batch_norms, with_own_statistics
from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.r3gan import R3GAN
from genlab.models.gan.sngan import SNGAN
from support.command import Genlab


def test_the_statistics_are_the_mean_over_batches_of_samples() -> None:
    torch.manual_seed(0)
    model = DCGAN((1, 8, 8), latent_dim=6, channels=4)
    copied = with_own_statistics(model, 40, seed=5, batch_size=10)
    first = copied.generator.project[2]
    means, variances = [], []
    for start in range(0, 40, 10):
        z = model.draw_latents(10, generators(mix(5, 1), range(start, start + 10)))
        h = model.generator.project[1](model.generator.project[0](z))
        means.append(h.mean((0, 2, 3)))
        variances.append(h.var((0, 2, 3)))
    torch.testing.assert_close(first.running_mean, torch.stack(means).mean(0))
    torch.testing.assert_close(first.running_var, torch.stack(variances).mean(0))
    assert int(first.num_batches_tracked) == 4


def test_the_model_and_the_random_numbers_are_left_alone() -> None:
    model = DCGAN((1, 8, 8), latent_dim=6, channels=4).train()
    before = {name: value.clone() for name, value in model.state_dict().items()}
    state = torch.get_rng_state()
    copied = with_own_statistics(model, 16, seed=0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(module.training for module in model.modules())
    assert not any(module.training for module in copied.modules())
    # Only the generator's buffers differ; the discriminator is of training alone.
    differing = {name for name, value in copied.state_dict().items() if not torch.equal(value, before[name])}
    assert {name.partition(".")[0] for name in differing} == {"generator"}
    assert all("running" in name or "num_batches" in name for name in differing)


def test_a_layer_that_no_sample_passes_keeps_its_statistics() -> None:
    model = DCGAN((1, 8, 8), latent_dim=6, channels=4)
    model.encoder = torch.nn.BatchNorm2d(3)
    model.encoder.running_mean.fill_(2.0)
    assert model.encoder in batch_norms(model)
    assert (with_own_statistics(model, 16, seed=0).encoder.running_mean == 2).all()


def test_samples_are_normalized_by_the_weights_that_are_measured() -> None:
    """Weights that have moved since the running statistics were taken, as averaged ones have."""
    torch.manual_seed(0)
    model = SNGAN((1, 8, 8), num_classes=2, latent_dim=6, channels=8, discriminator_channels=4)
    for _ in range(50):
        model.generator(torch.randn(32, 6), torch.randint(2, (32,)))
    with torch.no_grad():
        model.generator.first[0].weight.mul_(5)
    stale = model.eval().sample(64, generator=generators(0, range(64)))
    fresh = with_own_statistics(model, 512, 0).sample(64, generator=generators(0, range(64)))
    z, y = model.draw_latents(512, generators(9, range(512))), torch.arange(512) % 2
    truth = model.train().generator(z, y).std()
    assert abs(fresh.std() - truth) < abs(stale.std() - truth) / 3


class Tiles:
    """Stands for image data: nothing is decoded."""

    modality = SimpleNamespace(is_measured=True)

    @staticmethod
    def decode(samples: torch.Tensor) -> torch.Tensor:
        return samples


def test_an_evaluation_draws_with_them_and_names_them() -> None:
    torch.manual_seed(0)
    model = DCGAN((1, 8, 8), latent_dim=6, channels=4).eval()
    plain = Evaluation(num_samples=20, num_shown=4)
    ours = Evaluation(num_samples=20, num_shown=4, norm_statistics=500)
    data: object = Tiles()
    assert torch.equal(ours.draw(with_own_statistics(model, 500, 0), data), ours.draw(model, data))  # type: ignore
    assert (ours.draw(model, data) - plain.draw(model, data)).abs().max() > 1e-3  # type: ignore[arg-type]
    assert "norm_statistics" not in plain.settings
    assert ours.settings == {**plain.settings, "norm_statistics": 500}


def test_a_model_without_batch_normalization_refuses_them() -> None:
    model = R3GAN((1, 8, 8), channels=16)
    with pytest.raises(InputError, match=r"metrics\.norm_statistics=10: R3GAN is sampled without batch normalization"):
        Evaluation(norm_statistics=10).check_memory(model, Tiles())  # type: ignore[arg-type]


def test_the_protocol_of_figures_of_samples_names_them(genlab: Genlab) -> None:
    small = ("model=gan/dcgan", "model.channels=2", "trainer.max_epochs=1", "dataset.train_size=128", "logger=csv")
    result = genlab("train", *small, "metrics.num_samples=40", "metrics.norm_statistics=30", "callbacks=minimal")
    assert result.code == 0, result.err
    figures = json.loads((result.run / "summary.json").read_text(encoding="utf-8"))["metrics"]
    assert figures["test/fid"]["protocol"]["norm_statistics"] == 30
    refused = genlab("train", "model=vae/vae", "metrics.norm_statistics=30", "logger=csv")
    assert refused.code == 2
    assert "metrics.norm_statistics=30: VAE is sampled without batch normalization" in refused.err
