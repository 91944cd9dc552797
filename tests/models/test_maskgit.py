"""MaskGIT: a loss of masked tokens alone, and samples that are decided in steps."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.models.base import Completes
from genlab.models.transformer.maskgit import SCHEDULES, MaskGIT

SMALL = {"num_layers": 2, "num_heads": 2, "width": 16}


def perturbed(shape: tuple[int, int, int], levels: int, scale: float = 0.3, **options: object) -> MaskGIT:
    """A small model with random weights of a size at which every token matters to the others."""
    torch.manual_seed(0)
    model = MaskGIT(shape, levels, **{**SMALL, **options})  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(scale * torch.randn_like(parameter))
    return model.eval()


def some_images(num: int, shape: tuple[int, int, int], levels: int) -> Tensor:
    index = torch.randint(levels, (num, *shape), generator=torch.Generator().manual_seed(5))
    return index.float() / (levels - 1)


# -- the schedule ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_falls_from_one_to_zero(name: str) -> None:
    values = SCHEDULES[name](torch.linspace(0, 1, 101, dtype=torch.float64))
    torch.testing.assert_close(values[[0, -1]], torch.tensor([1.0, 0.0], dtype=torch.float64))
    assert (values.diff() < 0).all()


def test_tokens_left_by_each_step_are_those_of_the_schedule_and_none_in_the_end() -> None:
    model = MaskGIT((1, 10, 10), 4, **SMALL)
    expected = [*(math.floor(100 * math.cos(math.pi / 2 * t / 4)) for t in (1, 2, 3)), 0]
    assert model.left_masked(torch.tensor([100]), 4).tolist() == [expected]
    linear = MaskGIT((1, 3, 1), 4, schedule="linear", **SMALL)
    assert linear.left_masked(torch.tensor([3, 2, 1, 0]), 3).tolist() == [[2, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]]


@pytest.mark.parametrize("num_steps", [1, 3, 5, 20, 40])
def test_every_step_decides_at_least_a_token(num_steps: int) -> None:
    for schedule in SCHEDULES:
        model = MaskGIT((1, 4, 5), 4, schedule=schedule, **SMALL)
        left = model.left_masked(torch.tensor([20, 7]), num_steps)
        before = torch.cat([torch.tensor([[20], [7]]), left[:, :-1]], dim=1)
        assert ((left < before) | (before == 0)).all()
        assert (left[:, -1] == 0).all()


@pytest.mark.parametrize("known", [False, True])
def test_sampling_masks_what_the_schedule_says_and_never_touches_a_decided_token(
    monkeypatch: pytest.MonkeyPatch, known: bool
) -> None:
    model = perturbed((2, 3, 2), 5)
    seen: list[Tensor] = []
    logits = model.logits
    monkeypatch.setattr(model, "logits", lambda tokens, y=None: (seen.append(tokens), logits(tokens, y))[1])
    given = some_images(3, (2, 3, 2), 5)
    given[:, 1] = torch.nan
    sampling = model.Sampling(num_steps=5)
    x = model.sample(3, generator=generators(0, range(3)), sampling=sampling, known=given if known else None)
    num = 6 if known else 12
    masked = torch.stack([tokens == model.mask for tokens in seen])  # (steps, N, L)
    left = model.left_masked(torch.full((3,), num), 5).T
    assert torch.equal(masked.sum(2), torch.cat([torch.full((1, 3), num), left])[: len(seen)])
    assert left[len(seen) - 1].max() == 0
    assert not (masked[1:] & ~masked[:-1]).any()
    decided = torch.stack(seen)
    assert (decided[1:] == decided[:-1])[~masked[:-1]].all()
    if known:
        assert torch.equal(x[:, 0], given[:, 0])
    levels = x * 4
    assert torch.equal(levels, levels.round())


# -- the loss ----------------------------------------------------------------------------------------------------------


def test_the_mask_is_of_the_schedules_share_and_lies_anywhere() -> None:
    model = MaskGIT((1, 5, 4), 4, **SMALL)
    masked = model.draw_mask(20_000)
    counts = masked.sum(1)
    assert counts.min() == 1
    assert counts.max() == 20
    # The mean of ceil(20 cos(pi r / 2)): the sum over n of P(20 cos > n), which is 2 arccos(n / 20) / pi.
    expected = sum(2 / math.pi * math.acos(n / 20) for n in range(20))
    assert counts.double().mean().item() == pytest.approx(expected, abs=0.15)
    share = masked.double().mean(0)
    torch.testing.assert_close(share, torch.full_like(share, expected / 20), atol=0.02, rtol=0)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_the_loss_counts_masked_tokens_only(monkeypatch: pytest.MonkeyPatch, smoothing: float) -> None:
    model = perturbed((2, 2, 2), 5, label_smoothing=smoothing)
    x = some_images(4, (2, 2, 2), 5)
    tokens = (x.permute(0, 2, 3, 1).flatten(1) * 4).round().long()
    masked = torch.rand(4, 8, generator=torch.Generator().manual_seed(1)) < 0.5
    monkeypatch.setattr(model, "draw_mask", lambda num: masked)
    logits = model.logits(tokens.masked_fill(masked, 5))
    log_prob = logits.log_softmax(1)
    losses, right = [], []
    for b in range(4):
        for i in range(8):
            if masked[b, i]:
                target = (1 - smoothing) * F.one_hot(tokens[b, i], 5) + smoothing / 5
                losses.append(-(target * log_prob[b, :, i]).sum())
                right.append(float(logits[b, :, i].argmax() == tokens[b, i]))
    figures = model.loss(x)
    torch.testing.assert_close(figures["loss"], torch.stack(losses).mean())
    assert figures["accuracy"].item() == pytest.approx(sum(right) / len(right))
    assert (figures["loss"] == figures["cross_entropy"]) == (smoothing == 0)


def test_what_is_masked_is_not_seen_and_all_else_is() -> None:
    model = perturbed((1, 2, 3), 4).double()
    tokens = torch.tensor([[0, 1, 2, 3, 0, 1]])
    masked = torch.tensor([[True, False, True, False, False, False]])
    logits = model.logits(tokens.masked_fill(masked, model.mask))
    for i in range(6):
        changed = tokens.clone()
        changed[0, i] = (changed[0, i] + 1) % 4
        after = model.logits(changed.masked_fill(masked, model.mask))
        assert torch.equal(after, logits) == bool(masked[0, i])
        if not masked[0, i]:
            assert (after != logits).any(1).all()  # every other token's, before and after it


# -- samples -----------------------------------------------------------------------------------------------------------


def test_samples_a_token_a_step_have_the_frequencies_of_a_known_joint() -> None:
    joint = torch.tensor([[0.30, 0.02, 0.08], [0.02, 0.25, 0.03], [0.15, 0.05, 0.10]])
    # Choosing at random, for the surest first would prefer likely values; no smoothing, which would spread them.
    model = MaskGIT((1, 1, 2), 3, label_smoothing=0.0, **SMALL)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    for step in range(500):
        if step == 350:
            optimizer.param_groups[0]["lr"] = 3e-4
        pairs = torch.multinomial(joint.flatten(), 1024, replacement=True)
        x = torch.stack([pairs // 3, pairs % 3], 1).view(-1, 1, 1, 2) / 2
        optimizer.zero_grad()
        model.loss(x)["loss"].backward()
        optimizer.step()
    num = 20_000
    sampling = model.Sampling(num_steps=2, choice_temperature=1e6)
    x = model.eval().sample(num, generator=torch.Generator().manual_seed(1), sampling=sampling)
    index = (x * 2).round().long().flatten(1)
    found = (index[:, 0] * 3 + index[:, 1]).bincount(minlength=9).view(3, 3) / num
    # Four standard errors, and what training leaves.
    assert ((found - joint).abs() < 4 * (joint * (1 - joint) / num).sqrt() + 0.012).all(), found


@pytest.mark.parametrize("num_classes", [None, 3])
def test_a_sample_does_not_depend_on_the_batch(num_classes: int | None) -> None:
    model = perturbed((1, 4, 4), 6, num_classes=num_classes)
    y = None if num_classes is None else torch.arange(6) % 3
    together = model.sample(6, y, generator=generators(3, range(6)))
    apart = [model.sample(1, None if y is None else y[i : i + 1], generator=generators(3, [i])) for i in range(6)]
    assert torch.equal(together, torch.cat(apart))
    assert not torch.equal(together, model.sample(6, y, generator=generators(4, range(6))))


def test_classes_are_needed_and_heard() -> None:
    model = perturbed((1, 3, 3), 4, num_classes=3)
    x = some_images(4, (1, 3, 3), 4)
    with pytest.raises(InputError, match="class-conditional"):
        model.loss(x)
    tokens = torch.full((2, 9), model.mask)
    assert not torch.equal(*model.logits(tokens, torch.tensor([0, 2])))
    assert model.sample(5, generator=generators(0, range(5))).shape == (5, 1, 3, 3)


def test_low_temperature_and_no_choice_noise_leave_nothing_to_chance() -> None:
    model = perturbed((1, 3, 3), 4)
    sampling = model.Sampling(temperature=1e-4, choice_temperature=0)
    x = model.sample(4, generator=generators(0, range(4)), sampling=sampling)
    assert torch.equal(x, x[:1].expand_as(x))


def test_images_are_completed_and_all_that_is_drawn_heeds_all_that_is_known() -> None:
    model = perturbed((1, 2, 3), 4)
    assert isinstance(model, Completes)
    assert model.orders.shape == (1, 1, 2, 3)
    x = some_images(3, (1, 2, 3), 4)
    assert torch.equal(model.sample(3, generator=generators(0, range(3)), known=x), x)
    known = x.clone()
    known[:, :, 0] = torch.nan
    drawn = model.sample(3, generator=generators(0, range(3)), known=known)
    assert torch.equal(drawn[:, :, 1], x[:, :, 1])
    assert drawn.isfinite().all()
    with pytest.raises(InputError, match="known"):
        model.sample(2, known=known)
    with pytest.raises(InputError, match="known"):
        model.sample(3, known=known + 1)


def test_the_sampler_is_described_by_the_settings() -> None:
    model = MaskGIT((1, 2, 2), 4, schedule="linear", **SMALL)
    assert model.describe_sampler() == "parallel decoding in 12 steps, linear schedule, choice temperature 4.5"
    of_seven = model.describe_sampler(model.Sampling(num_steps=7, choice_temperature=0))
    assert of_seven == "parallel decoding in 7 steps, linear schedule, choice temperature 0"


def test_one_model_samples_in_any_number_of_steps(monkeypatch: pytest.MonkeyPatch) -> None:
    model = perturbed((1, 3, 4), 5)
    passes: list[Tensor] = []
    logits = model.logits
    monkeypatch.setattr(model, "logits", lambda tokens, y=None: (passes.append(tokens), logits(tokens, y))[1])
    drawn = {}
    for num_steps in (1, 4, 12):
        passes.clear()
        sampling = model.Sampling(num_steps=num_steps)
        drawn[num_steps] = model.sample(6, generator=generators(0, range(6)), sampling=sampling)
        assert len(passes) == num_steps
    assert not torch.equal(drawn[1], drawn[4])
    assert torch.equal(drawn[12], model.sample(6, generator=generators(0, range(6))))  # the default


def test_settings_stated_with_the_model_are_its_own_until_others_are_given() -> None:
    """As configs stated them before they were settings of sampling."""
    model = perturbed((1, 3, 4), 5, num_steps=3, choice_temperature=1.0)
    assert model.sampling == MaskGIT.Sampling(num_steps=3, choice_temperature=1.0)
    x = model.sample(6, generator=generators(0, range(6)))
    other = perturbed((1, 3, 4), 5)
    sampling = MaskGIT.Sampling(num_steps=3, choice_temperature=1.0)
    assert torch.equal(x, other.sample(6, generator=generators(0, range(6)), sampling=sampling))
    assert not torch.equal(x, other.sample(6, generator=generators(0, range(6))))


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"shape": (4,)}, "expected (C, H, W)"),
        ({"levels": 1}, "levels=1"),
        ({"schedule": "sine"}, "schedule=sine: there is cosine"),
        ({"label_smoothing": 1.0}, "label_smoothing=1.0"),
        ({"num_steps": 0}, "num_steps=0"),
        ({"choice_temperature": math.inf}, "choice_temperature=inf"),
        ({"width": 15}, "width=15"),
    ],
)
def test_bad_arguments_are_told_in_a_line(options: dict[str, object], line: str) -> None:
    with pytest.raises(InputError) as error:
        MaskGIT(**{"shape": (1, 2, 2), "levels": 4, **SMALL, **options})  # type: ignore[arg-type]
    assert line in str(error.value)
    assert "\n" not in str(error.value)
