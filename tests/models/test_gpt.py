"""GPT: its probabilities, its cache, and what it writes."""

import copy
import itertools
import math
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from genlab.errors import InputError
from genlab.models.transformer.gpt import GPT, sample_token
from genlab.training.optimizers import MuonWithAdamW, adamw

VARIANTS: list[dict[str, Any]] = [
    {},
    {"positions": "sinusoidal", "norm": "rms"},
    {"positions": "rotary", "mlp": "swiglu", "num_kv_heads": 1},
    {"tie_weights": False, "num_kv_heads": 2},
]


def gpt(length: int = 6, vocab_size: int = 5, **options: Any) -> GPT:
    """A small float64 model whose weights are large enough for every input to matter."""
    torch.manual_seed(0)
    model = GPT((length,), vocab_size, num_layers=2, num_heads=4, width=16, **options).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return model


def after(before: int, texts: Tensor) -> Tensor:
    """Windows ``(B, 1 + L)`` of texts ``(B, L)``, each after the same token."""
    return F.pad(texts, (1, 0), value=before)


@pytest.mark.parametrize("options", VARIANTS)
def test_probabilities_of_all_texts_sum_to_one_after_every_token(options: dict[str, Any]) -> None:
    model = gpt(length=3, vocab_size=4, **options)
    texts = torch.tensor(list(itertools.product(range(4), repeat=3)))
    for before in range(4):
        log_prob = model.log_prob(after(before, texts))
        assert log_prob.exp().sum().item() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("options", VARIANTS)
def test_a_token_depends_on_those_before_it_and_on_each_of_them(options: dict[str, Any]) -> None:
    model = gpt(**options)
    h = torch.randn(1, 6, 16, dtype=torch.float64)
    jacobian = torch.autograd.functional.jacobian(lambda h: model.head(model.transformer(h)).sum(dim=(0, 2)), h)
    assert torch.equal(jacobian.squeeze(1).abs().amax(-1) > 1e-12, torch.ones(6, 6).tril().bool())


@pytest.mark.parametrize("options", VARIANTS)
def test_the_cache_gives_the_tokens_of_the_uncached_loop_beyond_the_context_too(options: dict[str, Any]) -> None:
    model = gpt(**options)
    u = torch.rand(3, 20, generator=torch.Generator().manual_seed(1))
    sampling = GPT.Sampling(temperature=0.9, top_k=4, top_p=0.95)
    for length in (1, 4, 6, 9):
        prompt = torch.randint(5, (3, length))
        texts = [
            torch.stack(list(model.generate(prompt, u, sampling, use_cache=cached)), 1) for cached in (True, False)
        ]
        assert torch.equal(*texts)
        assert len(texts[0].unique()) > 1


def test_samples_have_the_models_frequencies() -> None:
    model = gpt(length=2, vocab_size=3, start=2)
    texts = torch.tensor(list(itertools.product(range(3), repeat=2)))
    p = model.log_prob(after(2, texts)).exp()
    num = 20_000
    x = model.sample(num, generator=torch.Generator().manual_seed(0))
    found = (x[:, 0] * 3 + x[:, 1]).bincount(minlength=9) / num
    assert torch.all((found - p).abs() < 5 * (p * (1 - p) / num).sqrt())


def test_a_sample_does_not_depend_on_its_batch() -> None:
    model = gpt()
    streams = lambda *i: [torch.Generator().manual_seed(k) for k in i]  # noqa: E731
    together = model.sample(3, generator=streams(0, 1, 2))
    assert torch.equal(model.sample(1, generator=streams(1))[0], together[1])


def test_the_loss_at_initialisation_is_that_of_equally_likely_tokens() -> None:
    torch.manual_seed(0)
    model = GPT((64,), 65)
    x = torch.randint(65, (32, 1 + 64))
    assert model.loss(x)["loss"].item() == pytest.approx(math.log(65), abs=0.06)


def rotated(x: Tensor, position: int) -> Tensor:
    """By complex numbers: RoFormer's own form, of pairs (i, i + d / 2)."""
    d = x.shape[-1]
    z = torch.complex(x[..., : d // 2], x[..., d // 2 :])
    theta = 10000.0 ** (-2 * torch.arange(d // 2, dtype=torch.float64) / d)
    z = z * torch.polar(torch.ones_like(theta), position * theta)
    return torch.cat([z.real, z.imag], -1)


def test_rotary_positions_are_rotations_by_complex_numbers() -> None:
    from genlab.layers.positions import Rotary

    rotary = Rotary(50, 8).double()
    x = torch.randn(2, 3, 7, 8, dtype=torch.float64)
    turned = rotary(x, start=11)
    for t in range(7):
        torch.testing.assert_close(turned[:, :, t], rotated(x[:, :, t], 11 + t), atol=1e-5, rtol=1e-5)
    # A product depends on the distance alone.
    q, k = torch.randn(2, 1, 1, 1, 8, dtype=torch.float64)
    products = [float((rotary(q, i) * rotary(k, i + 4)).sum()) for i in (0, 9, 40)]
    assert products[1:] == pytest.approx([products[0]] * 2, abs=1e-5)


def test_top_k_and_top_p_leave_the_unlikely_out() -> None:
    logits = torch.tensor([0.5, 0.3, 0.15, 0.05]).log().repeat(1000, 1)
    u = torch.linspace(0, 1 - 1e-7, 1000)

    def frequencies(**options: Any) -> list[float]:
        return (sample_token(logits, u, **options).bincount(minlength=4) / 1000).tolist()

    assert frequencies() == pytest.approx([0.5, 0.3, 0.15, 0.05], abs=2e-3)
    assert frequencies(top_k=2) == pytest.approx([0.625, 0.375, 0, 0], abs=2e-3)
    assert frequencies(top_p=0.79) == pytest.approx([0.625, 0.375, 0, 0], abs=2e-3)
    assert frequencies(top_p=0.81) == pytest.approx([0.5 / 0.95, 0.3 / 0.95, 0.15 / 0.95, 0], abs=2e-3)
    assert frequencies(top_p=0.01) == frequencies(top_k=1) == [1, 0, 0, 0]
    assert frequencies(temperature=1e-3) == [1, 0, 0, 0]


def test_gradient_checkpointing_changes_no_gradient() -> None:
    gradients = []
    for checkpointed in (False, True):
        model = gpt(checkpoint_gradients=checkpointed).train()
        x = torch.arange(14).view(2, 1 + 6) % 5
        model.loss(x)["loss"].backward()
        gradients.append([p.grad for p in model.parameters()])
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        ({"num_kv_heads": 3}, "do not share num_kv_heads=3"),
        ({"norm": "batch"}, "norm=batch: choose one of layer, rms"),
        ({"positions": "none"}, "positions=none: choose one of learned, sinusoidal, rotary"),
        ({"start": 5}, "start=5: expected a token in 0..4"),
    ],
)
def test_what_is_refused(options: dict[str, Any], line: str) -> None:
    with pytest.raises(InputError, match=line):
        gpt(**options)


# -- optimizers --------------------------------------------------------------------------------------------------------


def test_adamw_decays_matrices_only() -> None:
    model = gpt()
    decayed, others = adamw(model.parameters(), weight_decay=0.1, lr=1e-3).param_groups
    assert (decayed["weight_decay"], others["weight_decay"]) == (0.1, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2}
    assert {p.ndim for p in others["params"]} == {1}
    assert len(decayed["params"]) + len(others["params"]) == len(list(model.parameters()))


def test_muon_moves_hidden_matrices_and_resumes_to_the_bit() -> None:
    def steps(optimizer: MuonWithAdamW, model: GPT, num: int, first: int) -> None:
        for i in range(num):
            generator = torch.Generator().manual_seed(first + i)
            x = torch.randint(5, (4, 1 + 6), generator=generator)
            optimizer.zero_grad()
            model.loss(x)["loss"].backward()
            optimizer.param_groups[0]["lr"] = 1e-3 / (first + i + 1)  # as a schedule would
            optimizer.step()

    model = gpt().float()
    optimizer = MuonWithAdamW(model.parameters())
    muon, _ = optimizer.parts
    names = {id(p): name for name, p in model.named_parameters()}
    moved = {names[id(p)] for group in muon.param_groups for p in group["params"]}
    assert "tokens.weight" not in moved
    assert "transformer.positions.embedding.weight" not in moved
    assert "transformer.blocks.0.mlp.hidden.weight" in moved
    steps(optimizer, model, 2, 0)
    weights, state = copy.deepcopy((model.state_dict(), optimizer.state_dict()))
    steps(optimizer, model, 2, 2)
    again = gpt().float()
    again.load_state_dict(weights)
    other = MuonWithAdamW(again.parameters())
    other.load_state_dict(state)
    steps(other, again, 2, 2)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), again.parameters(), strict=True))
