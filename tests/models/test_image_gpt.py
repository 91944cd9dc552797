"""ImageGPT: an exact likelihood, and samples drawn from it."""

import itertools
import math

import pytest
import torch
from torch import Tensor

from genlab.distributions.noise import generators, uniform
from genlab.distributions.pixel import Bernoulli, Categorical, DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError
from genlab.models.transformer.image_gpt import ImageGPT

Shape = tuple[int, int, int]

ANY = [
    pytest.param((1, 5, 7), Bernoulli(), id="odd"),
    pytest.param((2, 3, 4), Categorical(5), id="two-channels"),
    pytest.param((3, 2, 2), DiscretizedLogisticMixture(256, 2), id="rgb"),
    pytest.param((1, 1, 1), Categorical(2), id="one-value"),
]
CONDITIONAL = pytest.mark.parametrize("num_classes", [None, 3], ids=["unconditional", "conditional"])


def perturbed(shape: Shape, distribution: PixelDistribution, num_classes: int | None = None, scale=0.3) -> ImageGPT:
    """A small model with random weights of a size at which every value matters to those after it."""
    torch.manual_seed(0)
    model = ImageGPT(shape, distribution, num_classes, num_layers=2, num_heads=2, width=8)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return model.eval()


def some_images(num: int, shape: Shape, levels: int) -> Tensor:
    index = torch.randint(levels, (num, *shape), generator=torch.Generator().manual_seed(5))
    return index.float() / (levels - 1)


def some_classes(num: int, num_classes: int | None) -> Tensor | None:
    return None if num_classes is None else torch.arange(num) % num_classes


# --- the likelihood --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("num_components", [None, 2])
def test_log_prob_is_the_sum_over_values_of_what_the_params_say(num_components: int | None) -> None:
    distribution = Categorical(4) if num_components is None else DiscretizedLogisticMixture(4, num_components)
    model = perturbed((2, 2, 3), distribution)
    x = some_images(3, (2, 2, 3), 4)
    params = model.likelihood_params(x)
    assert params.shape == (3, distribution.num_params, 12)
    total = torch.zeros(3)
    for h, w, c in itertools.product(range(2), range(3), range(2)):
        i = (h * 3 + w) * 2 + c
        total += distribution.log_prob(params[:, :, i], x[:, c, h, w])
    torch.testing.assert_close(model.log_prob(x), total)


def test_params_see_exactly_the_values_before_in_raster_order_channels_within_a_pixel() -> None:
    C, H, W = shape = (2, 3, 2)
    model = perturbed(shape, Categorical(4)).double()
    x = some_images(2, shape, 4)
    before = model.likelihood_params(x)
    for h, w, c in itertools.product(range(H), range(W), range(C)):
        i = (h * W + w) * C + c
        changed = x.clone()
        changed[:, c, h, w] = (changed[:, c, h, w] + 1 / 3) % (4 / 3)
        after = model.likelihood_params(changed)
        assert torch.equal(after[..., : i + 1], before[..., : i + 1])
        assert (after[..., i + 1 :] != before[..., i + 1 :]).flatten(0, 1).any(0).all()


def test_the_gradient_of_position_i_reaches_the_embeddings_before_it_and_no_other() -> None:
    shape, L = (3, 2, 2), 12
    model = perturbed(shape, Categorical(3)).double()
    embedded: list[Tensor] = []
    model.values.register_forward_hook(lambda module, inputs, output: embedded.append(output))
    params = model.likelihood_params(some_images(1, shape, 3))
    depends = torch.zeros(L, L - 1, dtype=torch.bool)
    for i in range(L):
        (gradient,) = torch.autograd.grad(params[0, 0, i], embedded[0], retain_graph=True)
        depends[i] = (gradient[0] != 0).any(dim=-1)
    assert torch.equal(depends, torch.ones(L, L - 1).tril(-1).bool())


@pytest.mark.parametrize("levels", [2, 17, 256])
def test_an_untrained_model_is_close_to_uniform(levels: int) -> None:
    torch.manual_seed(0)
    model = ImageGPT((1, 8, 8), Categorical(levels))
    loss = model.loss(some_images(8, (1, 8, 8), levels))
    assert loss["loss"].item() == pytest.approx(math.log2(levels), abs=0.1)
    assert loss["nll"].item() / 64 == pytest.approx(math.log(levels), abs=0.07)


def test_the_class_matters_and_is_asked_for() -> None:
    model = perturbed((1, 3, 3), Bernoulli(), num_classes=3)
    x = some_images(4, (1, 3, 3), 2)
    log_probs = torch.stack([model.log_prob(x, torch.full((4,), label)) for label in range(3)])
    assert (log_probs.std(dim=0) > 1e-3).all()
    model.log_prob(x, torch.tensor([0, 2, 2, 0])).sum().backward()
    gradient = model.start.weight.grad
    assert gradient is not None
    assert torch.equal(gradient.abs().sum(1) > 0, torch.tensor([True, False, True]))
    with pytest.raises(InputError, match="give the classes y"):
        model.log_prob(x)


def test_the_class_reaches_every_position() -> None:
    model = perturbed((1, 3, 3), Categorical(4), num_classes=2)
    x = some_images(1, (1, 3, 3), 4)
    first, second = (model.likelihood_params(x, torch.tensor([label])) for label in range(2))
    assert (first != second).any(dim=1).all()


def test_dropout_acts_in_training_only() -> None:
    model = ImageGPT((1, 3, 3), Bernoulli(), num_layers=2, num_heads=2, width=8, dropout=0.5)
    x = some_images(4, (1, 3, 3), 2)
    assert not torch.equal(model.log_prob(x), model.log_prob(x))
    model.eval()
    assert torch.equal(model.log_prob(x), model.log_prob(x))


def test_bfloat16_autocast_keeps_the_likelihood_in_float32() -> None:
    model = perturbed((1, 4, 4), DiscretizedLogisticMixture(256, 3), scale=0.1)
    x = some_images(4, (1, 4, 4), 256)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        params, log_prob = model.likelihood_params(x), model.log_prob(x)
        sample = model.sample(3)
    assert params.dtype == log_prob.dtype == sample.dtype == torch.float32
    torch.testing.assert_close(log_prob, model.log_prob(x), rtol=0.02, atol=0)


# --- sampling --------------------------------------------------------------------------------------------------------


@torch.no_grad()
def sample_without_cache(model: ImageGPT, y: Tensor | None, u: Tensor) -> tuple[Tensor, Tensor]:
    """The whole image through the network for every value; also the params that each value was drawn from."""
    C, H, W = model.shape
    x, params = torch.zeros(len(u), C, H, W), []
    for i, (h, w, c) in enumerate(itertools.product(range(H), range(W), range(C))):
        params.append(model.likelihood_params(x, y)[:, :, i])
        x[:, c, h, w] = model.distribution.sample(params[-1], u[:, i])
    return x, torch.stack(params, dim=-1)


@CONDITIONAL
@pytest.mark.parametrize(("shape", "distribution"), ANY)
def test_the_cache_changes_neither_params_nor_samples(
    shape: Shape, distribution: PixelDistribution, num_classes: int | None
) -> None:
    model = perturbed(shape, distribution, num_classes).double()
    y = some_classes(5, num_classes)
    steps: list[Tensor] = []
    hook = model.head.register_forward_hook(lambda module, inputs, output: steps.append(output))
    x = model.sample(5, y, generator=generators(0, range(5)))
    hook.remove()
    u = uniform((5, math.prod(shape)), generators(0, range(5)), torch.device("cpu"))
    expected, expected_params = sample_without_cache(model, y, u)
    assert torch.equal(x, expected)
    assert [step.shape for step in steps] == [(5, 1, distribution.num_params)] * math.prod(shape)
    params = torch.cat(steps, dim=1).transpose(1, 2)
    torch.testing.assert_close(params, expected_params, rtol=0, atol=1e-12)
    torch.testing.assert_close(params, model.likelihood_params(x, y), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("shape", "distribution"), ANY)
def test_samples_are_images_of_the_models_levels(shape: Shape, distribution: PixelDistribution) -> None:
    x = perturbed(shape, distribution).sample(3)
    assert x.shape == (3, *shape)
    index = x * (distribution.levels - 1)
    torch.testing.assert_close(index, index.round())
    assert index.min() >= 0
    assert index.max() <= distribution.levels - 1


def test_a_low_temperature_picks_the_likeliest_value_at_every_step() -> None:
    model = perturbed((1, 3, 3), Categorical(4))
    x = model.sample(4, sampling=model.Sampling(temperature=1e-4))
    assert (x == x[0]).all()
    assert torch.equal(model.likelihood_params(x).argmax(1), model.distribution.index(x.flatten(1)))


def test_the_classes_are_drawn_first_where_none_are_given() -> None:
    model = perturbed((1, 2, 3), Categorical(8), num_classes=3)
    streams = generators(3, range(8))
    y = model.classes(8, None, streams)
    assert y is not None
    assert len(y.unique()) > 1
    assert torch.equal(model.sample(8, generator=generators(3, range(8))), model.sample(8, y, generator=streams))


@pytest.mark.parametrize("training", [True, False])
def test_sampling_leaves_the_mode_as_it_is_and_builds_no_graph(training: bool) -> None:
    model = perturbed((1, 2, 2), Bernoulli()).train(training)
    with_graph: list[bool] = []
    model.head.register_forward_hook(lambda module, inputs, output: with_graph.append(output.requires_grad))
    model.sample(2)
    assert with_graph == [False] * 4
    assert model.training is training


# --- what is refused -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 10, "num_heads": 4}, "width=10 does not split into num_heads=4"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"num_layers": 0}, "num_layers=0"),
        ({"dropout": 1.5}, "dropout=1.5"),
        ({"shape": (64,)}, r"shape \(64,\): ImageGPT models images, expected \(C, H, W\)"),
        ({"shape": (1, 0, 8)}, r"shape \(1, 0, 8\)"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        ImageGPT(**({"shape": (1, 8, 8), "distribution": Bernoulli()} | changes))
