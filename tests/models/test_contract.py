"""The contract of ``models/base.py``, over every model in ``conf/model``."""

import math
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf

from genlab.composition.building import build
from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.models.abilities import Diagnosable, ImportanceWeighted, LatentModel, Pointwise, Writes
from genlab.models.adversarial import AdversarialModel
from genlab.models.base import LikelihoodModel, ObjectiveModel
from support.catalogue import IMAGE_MODELS, MODELS, POINT_MODELS, TEXT_MODELS, batch, composed, example, make
from support.paths import CONF

# Shape and levels: digits', grey, colour, not square, odd, binary.
DATA = [((1, 8, 8), 17), ((1, 12, 12), 256), ((3, 8, 8), 256), ((1, 5, 7), 4), ((2, 6, 4), 256), ((1, 8, 8), 2)]


@pytest.mark.parametrize("name", TEXT_MODELS)
def test_a_model_of_text_keeps_the_contract(name: str) -> None:
    with initialize_config_dir(str(CONF), version_base="1.3"):
        cfg = compose("train", [f"model={name}", "dataset=text", "dataset.source.path=none", "dataset.shape=[12]"])
    torch.manual_seed(0)
    model = build(OmegaConf.to_container(cfg.model, resolve=True), "model")
    assert model.shape == (12,)
    assert model.num_classes is None
    x = torch.randint(256, (4, 1 + 12))  # the token before a window, and the window
    figures = model.loss(x)
    assert all(value.ndim == 0 and value.isfinite() for value in figures.values())
    figures["loss"].backward()
    assert all(p.grad is not None for p in model.parameters())
    model.eval()
    assert model.log_prob(x).shape == (4,)
    assert (model.log_prob(x) < 0).all()
    other = torch.cat([(x[:, :1] + 1) % 256, x[:, 1:]], 1)
    assert model.log_prob(x).ne(model.log_prob(other)).any()
    assert torch.equal(model.log_prob(x), model.log_prob(x, torch.arange(4)))
    together = model.sample(4, generator=generators(7, range(4)))
    assert together.shape == (4, 12)
    assert together.dtype == torch.int64
    assert 0 <= together.min() <= together.max() < 256
    apart = [model.sample(1, generator=generators(7, [i])) for i in range(4)]
    assert torch.equal(together, torch.cat(apart))
    assert isinstance(model, Writes)


@pytest.mark.parametrize(("shape", "levels"), DATA)
@pytest.mark.parametrize("name", IMAGE_MODELS)
def test_model_keeps_the_contract(name: str, shape: tuple[int, ...], levels: int) -> None:
    model = make(name, shape, levels)
    assert model.shape == shape
    x = batch(shape, levels)
    if isinstance(model, ObjectiveModel):
        figures = model.loss(x)
        assert all(value.ndim == 0 and value.isfinite() for value in figures.values())
        figures["loss"].backward()
        without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
        assert not without, f"no gradient reaches {without}"
    if isinstance(model, LikelihoodModel):
        if composed(name).monitor.metric in ("val/bits_per_dim", "val/nll"):  # it is trained by its likelihood
            assert "nll" in figures
        log_prob = model.log_prob(x)
        assert log_prob.shape == (4,)
        assert log_prob.isfinite().all()
        # A probability of discrete data: never above 1, and near uniform before training.
        assert (log_prob < 0).all()
    if isinstance(model, AdversarialModel):
        assert model.discriminator(x, None).shape == (4,)
        fake = model.generator(torch.randn(4, model.latent_dim), None)
        assert fake.shape == x.shape
        model.discriminator(fake, None).sum().backward()
        assert all(p.grad is not None for p in model.parameters())
    model.eval()
    samples = model.sample(3, generator=torch.Generator().manual_seed(0))
    assert samples.shape == (3, *shape)
    assert samples.dtype == torch.float32
    assert samples.min() >= 0
    assert samples.max() <= 1
    if isinstance(model, LatentModel):
        z = model.encode(x)
        assert model.decode(z).shape == x.shape


@pytest.mark.parametrize("name", POINT_MODELS)
def test_a_model_of_points_keeps_the_contract(name: str) -> None:
    for num_classes in (None, 3):
        model = make(name, (2,), 0, num_classes)
        y = None if num_classes is None else torch.tensor([0, 1, 2, 0])
        x = torch.randn(4, 2)
        if isinstance(model, AdversarialModel):
            assert model.generator(torch.randn(4, model.latent_dim), y).shape == (4, 2)
            assert model.discriminator(x, y).shape == (4,)
        if isinstance(model, ObjectiveModel):
            figures = model.loss(x, y)
            assert all(value.ndim == 0 and value.isfinite() for value in figures.values())
            figures["loss"].backward()
            without = [n for n, p in model.named_parameters() if p.requires_grad and p.grad is None]
            assert not without, f"no gradient reaches {without}"
        model.eval()
        if isinstance(model, LikelihoodModel):
            log_prob = model.log_prob(x, y)
            assert log_prob.shape == (4,)
            assert log_prob.isfinite().all()
        if isinstance(model, LatentModel):
            torch.testing.assert_close(model.decode(model.encode(x, y), y), x, atol=1e-3, rtol=1e-3)
        samples = model.sample(6, generator=generators(7, range(6)))
        assert samples.shape == (6, 2)
        assert samples.dtype == torch.float32
        together = model.sample(4, y, generator=generators(7, range(4)))
        apart = [model.sample(1, None if y is None else y[i : i + 1], generator=generators(7, [i])) for i in range(4)]
        # Solving an ODE sums up how a batch and four single points are rounded, which depends on the processor.
        torch.testing.assert_close(together, torch.cat(apart), atol=1e-4, rtol=1e-3)


@pytest.mark.parametrize("name", MODELS)
def test_classes_change_the_samples_and_the_likelihood(name: str) -> None:
    shape, levels = example(name)
    model = make(name, shape, levels, num_classes=3)
    for parameter in model.parameters():  # away from zero-initialised last layers
        parameter.data += 0.05 * torch.randn_like(parameter)
    model.eval()
    zeros, ones = torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.long)
    a, b = (model.sample(4, y, generator=generators(0, range(4))) for y in (zeros, ones))
    assert not torch.equal(a, b)
    assert model.sample(5, generator=generators(0, range(5))).shape == (5, *shape)  # classes are drawn
    with pytest.raises(InputError):
        model.sample(2, torch.tensor([0, 3]))
    if isinstance(model, LikelihoodModel):
        x = batch(shape, levels)
        torch.manual_seed(0)
        first = model.log_prob(x, zeros)
        torch.manual_seed(0)
        assert not torch.allclose(first, model.log_prob(x, ones))
        with pytest.raises(InputError):
            model.log_prob(x)


@pytest.mark.parametrize(("shape", "levels"), [(shape, levels) for shape, levels in DATA if levels <= 17])
@pytest.mark.parametrize(
    ("name", "last"), [("autoregressive/pixel_cnn", "last"), ("transformer/image_gpt", "head"), ("vae/vae", "decoder")]
)
def test_uniform_data_cost_a_uniform_model_log2_levels(
    name: str, last: str, shape: tuple[int, ...], levels: int
) -> None:
    """Of up to 17 levels; of more, see test_pixel_distributions.py, and of flows test_dequantization.py."""
    model = make(name, shape, levels)
    assert isinstance(model, LikelihoodModel)
    for parameter in model.get_submodule(last).parameters():
        parameter.data.zero_()
    if name == "vae/vae":  # the posterior is the prior, and the bound has no gap
        for parameter in model.get_submodule("encoder").parameters():
            parameter.data.zero_()
    bits = model.bits_per_dim(-model.log_prob(batch(shape, levels)))
    torch.testing.assert_close(bits, torch.full((4,), math.log2(levels)))


@pytest.mark.parametrize("name", MODELS)
def test_a_model_without_classes_ignores_those_it_is_given(name: str) -> None:
    shape, levels = example(name)
    model = make(name, shape, levels).eval()
    x, y = batch(shape, levels), torch.tensor([3, 0, 7, 1])

    def found(y: torch.Tensor | None) -> list[torch.Tensor]:
        torch.manual_seed(0)
        figures: list[torch.Tensor] = []
        if isinstance(model, ObjectiveModel):
            figures += model.loss(x, y).values()
        if isinstance(model, LikelihoodModel):
            figures.append(model.log_prob(x, y))
        if isinstance(model, ImportanceWeighted):
            figures.append(model.importance_weighted(x, y, num_samples=2))
        if isinstance(model, Pointwise):
            figures.append(model.log_prob_map(x, y))
        if isinstance(model, Diagnosable):
            figures += map(torch.as_tensor, model.diagnose(x, y).values())
        if isinstance(model, LatentModel):
            figures.append(model.decode(model.encode(x, y), y))
        if isinstance(model, AdversarialModel):
            figures += [model.play(x, y).fake, model.discriminator(x, y)]
        return [*figures, model.sample(4, y, generator=generators(0, range(4)))]

    without = found(None)
    assert without
    assert all(torch.equal(a, b) for a, b in zip(without, found(y), strict=True))


@pytest.mark.parametrize("name", MODELS)
def test_a_sample_depends_on_its_seed_and_index_alone(name: str) -> None:
    model = make(name, *example(name)).eval()
    together = model.sample(6, generator=generators(7, range(6)))
    apart = torch.cat([model.sample(2, generator=generators(7, range(i, i + 2))) for i in (0, 2, 4)])
    torch.testing.assert_close(together, apart, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(together, model.sample(6, generator=generators(8, range(6))))


@pytest.mark.parametrize("name", MODELS)
def test_sampling_leaves_the_global_randomness_alone(name: str) -> None:
    model = make(name, *example(name)).eval()
    before = torch.get_rng_state()
    model.sample(2, generator=generators(0, range(2)))
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("name", MODELS)
def test_weights_survive_a_checkpoint_that_runs_no_code(name: str, tmp_path: Path) -> None:
    model = make(name, *example(name)).eval()
    torch.save(model.state_dict(), tmp_path / "weights.pt")
    other = make(name, *example(name)).eval()
    for parameter in other.parameters():
        parameter.data.zero_()
    other.load_state_dict(torch.load(tmp_path / "weights.pt", weights_only=True))
    draws = [m.sample(2, generator=generators(0, range(2))) for m in (model, other)]
    assert torch.equal(*draws)
