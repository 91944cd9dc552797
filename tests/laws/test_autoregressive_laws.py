"""What holds for every autoregressive model of images: normalised, causal, and sampled as it scores."""

import math

import pytest
import torch

from genlab.distributions.noise import generators
from genlab.distributions.pixel import Bernoulli, Categorical, DiscretizedLogisticMixture, PixelDistribution
from genlab.errors import InputError
from genlab.models.autoregressive.made import MADE
from support.autoregressive_models import MODELS, make, naive_sample, params_of, ranks_of
from support.small_images import all_images, random_images

every_model = pytest.mark.parametrize("name", MODELS)


def refuses(name: str, shape: tuple[int, ...], distribution: PixelDistribution) -> bool:
    """Channels that are told jointly need a mixture."""
    return MODELS[name].joint and shape[0] > 1 and not isinstance(distribution, DiscretizedLogisticMixture)


@pytest.mark.parametrize("num_classes", [None, 2])
@pytest.mark.parametrize(
    ("shape", "distribution"),
    [
        ((1, 3, 3), Bernoulli(2)),
        ((1, 2, 2), Categorical(4)),
        ((1, 2, 2), DiscretizedLogisticMixture(4, 2)),
        ((3, 1, 2), DiscretizedLogisticMixture(3, 2)),
        ((2, 2, 1), DiscretizedLogisticMixture(4, 3)),
        ((3, 1, 2), Categorical(3)),
        ((3, 2, 1), Bernoulli(2)),
        ((1, 1, 1), Bernoulli(2)),
    ],
)
@every_model
def test_probabilities_of_all_images_sum_to_one(
    name: str, shape: tuple[int, ...], distribution: PixelDistribution, num_classes: int | None
) -> None:
    if refuses(name, shape, distribution):
        with pytest.raises(InputError, match="distribution=logistic_mixture"):
            make(name, shape, distribution, num_classes)
        return
    model = make(name, shape, distribution, num_classes).double()
    x = all_images(shape, distribution.levels)
    log_probs = []
    for label in range(num_classes or 1):
        y = None if num_classes is None else torch.full((len(x),), label)
        with torch.no_grad():
            log_probs.append(model.log_prob(x, y).double())
        assert log_probs[-1].exp().sum().item() == pytest.approx(1, abs=1e-5)
        if len(x) > 2:
            assert log_probs[-1].exp().max() > 1.2 / len(x)  # not by being uniform
    if num_classes:
        assert (log_probs[0] - log_probs[1]).abs().max() > 1e-3


@pytest.mark.parametrize("shape", [(1, 3, 4), (2, 4, 3), (3, 2, 2), (1, 5, 1), (2, 1, 5), (1, 5, 7)])
@every_model
def test_params_depend_on_all_earlier_values_and_no_other(name: str, shape: tuple[int, ...]) -> None:
    """In images so small, the first convolution's 7x7 leave no blind spot; in the widest, some see less than all."""
    model = make(name, shape, MODELS[name].distribution(shape[0], 3)).double()
    x = random_images(24, shape, 3).double()
    if name == "image gpt":  # values are looked up: what a change of one does, in place of a slope
        return check_by_changes(model, x)
    for mask in range(model.num_masks if isinstance(model, MADE) else 1):
        # (C, H, W) of params by (C, H, W) of the image; in one of the images at least, as a ReLU may be off in another.
        slopes = torch.autograd.functional.jacobian(
            lambda x, mask=mask: params_of(model, x, mask=mask).abs().sum((0, 1)), x
        )
        seen = slopes.abs().sum(3) != 0
        earlier = ranks_of(model, mask) < ranks_of(model, mask)[:, :, :, None, None, None]
        assert not (seen & ~earlier).any()
        assert torch.equal(seen, earlier) or (shape == (1, 5, 7) and not MODELS[name].joint)


def check_by_changes(model: torch.nn.Module, x: torch.Tensor) -> None:
    ranks = ranks_of(model)
    with torch.no_grad():
        before = model(x)
        for place in range(ranks.numel()):
            changed = x.flatten(1).clone()
            changed[:, place] = (changed[:, place] + 0.5) % 1.5  # another of three levels
            differs = (model(changed.view_as(x)) != before).any(0).any(0)
            assert torch.equal(differs, ranks > ranks.flatten()[place])


@pytest.mark.parametrize("num_classes", [None, 3])
@every_model
def test_an_example_does_not_depend_on_its_batch(name: str, num_classes: int | None) -> None:
    model = make(name, (3, 4, 5), DiscretizedLogisticMixture(17, 3), num_classes).double()
    x = random_images(6, model.shape, 17)
    y = None if num_classes is None else torch.arange(6) % num_classes
    together = model.log_prob(x, y)
    alone = torch.cat([model.log_prob(x[i : i + 1], None if y is None else y[i : i + 1]) for i in range(6)])
    torch.testing.assert_close(together, alone)


@pytest.mark.parametrize(
    ("shape", "distribution", "num_classes"),
    [
        ((1, 6, 5), Bernoulli(2), None),
        ((1, 5, 6), Categorical(5), 3),
        ((3, 4, 3), DiscretizedLogisticMixture(17, 3), 2),
        ((2, 4, 1), DiscretizedLogisticMixture(5, 3), None),
        ((1, 1, 6), Bernoulli(2), 2),
    ],
)
@every_model
def test_sampling_with_work_done_once_equals_naive_sampling(
    name: str, shape: tuple[int, ...], distribution: PixelDistribution, num_classes: int | None
) -> None:
    model = make(name, shape, distribution, num_classes).double()
    for temperature in (1.0, 0.6):
        sampling = model.Sampling(temperature=temperature)
        quick = model.sample(6, generator=torch.Generator().manual_seed(1), sampling=sampling)
        naive = naive_sample(model, 6, generator=torch.Generator().manual_seed(1), temperature=temperature)
        assert torch.equal(quick, naive)
        assert len(quick.unique(dim=0)) > 1
    together = model.sample(5, generator=generators(0, range(5)))
    alone = torch.cat([model.sample(1, generator=generators(0, [i])) for i in range(5)])
    assert torch.equal(together, alone)


@every_model
def test_sampling_keeps_the_classes_given(name: str) -> None:
    model = make(name, (1, 4, 5), Categorical(3), 3).double()
    y = torch.tensor([2, 0, 1, 2])
    quick = model.sample(4, y, generator=torch.Generator().manual_seed(1))
    assert torch.equal(quick, naive_sample(model, 4, y, torch.Generator().manual_seed(1)))


@every_model
def test_sampling_frequencies_are_the_probabilities(name: str) -> None:
    num = 10000
    model = make(name, (2, 1, 2), DiscretizedLogisticMixture(2, 3), 2)
    x = all_images(model.shape, 2)
    for label in range(2):
        samples = model.sample(num, torch.full((num,), label), generator=torch.Generator().manual_seed(label))
        counts = (samples.flatten(1) @ torch.tensor([8.0, 4.0, 2.0, 1.0])).long().bincount(minlength=16)
        with torch.no_grad():
            expected = num * model.log_prob(x, torch.full((16,), label)).exp()
        likely = expected > 5
        counts = torch.cat([counts[likely], counts[~likely].sum(0, keepdim=True)])
        expected = torch.cat([expected[likely], expected[~likely].sum(0, keepdim=True)]).clamp_min(1e-9)
        chi_square = ((counts - expected) ** 2 / expected).sum().item()
        assert len(counts) > 6
        assert chi_square < len(counts) + 4 * math.sqrt(2 * len(counts))


@every_model
def test_overfits_a_tiny_batch(name: str) -> None:
    torch.manual_seed(0)
    model = MODELS[name].build((1, 5, 5), Categorical(5), None)
    x = random_images(4, model.shape, 5)
    model.initialize(x)
    optimizer = torch.optim.Adam(model.parameters(), MODELS[name].lr)
    for step in range(150):
        model.prepare(4 * step)
        optimizer.zero_grad()
        model.loss(x)["loss"].backward()
        optimizer.step()
    model.eval()
    # At best log(4) nats an example: which of the four it is. Uniform values cost 40.
    with torch.no_grad():
        assert math.log(4) - 1e-3 < model.loss(x)["nll"] < 12


@pytest.mark.parametrize("shape", [(1, 5, 5), (3, 4, 4)])
@every_model
def test_bf16_autocast_stays_close(name: str, shape: tuple[int, ...]) -> None:
    model = make(name, shape, DiscretizedLogisticMixture(17, 2), 2)
    x, y = random_images(4, model.shape, 17), torch.tensor([0, 1, 1, 0])
    expected = model.log_prob(x, y)
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = model.log_prob(x, y)
        samples = model.sample(2)
        model.loss(x, y)["loss"].backward()
    assert log_prob.dtype == samples.dtype == torch.float32
    torch.testing.assert_close(log_prob, expected, rtol=0.05, atol=0)
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())


@every_model
def test_a_class_conditional_model_asks_for_the_classes(name: str) -> None:
    with pytest.raises(InputError, match="give the classes y"):
        make(name, (1, 2, 2), Bernoulli(2), 3).log_prob(torch.zeros(1, 1, 2, 2))


@every_model
def test_a_shape_that_is_no_images_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=r"\(C, H, W\)"):
        MODELS[name].build((4,), Bernoulli(2), None)
