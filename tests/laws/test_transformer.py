"""The causal attention layer, its cache, and the transformer backbone."""

import math
from functools import partial
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.layers.attention import BlockedCausalAttention, KeyValueCache, SelfAttention
from genlab.layers.sparse_attention import Pattern, allowed, attend
from genlab.networks.transformer import Transformer

LENGTH = 7
CHUNKS = [(1,) * LENGTH, (3, 1, 1, 1, 1), (1, 4, 2), (LENGTH,)]


def transformer(**changes: float) -> Transformer:
    """A small float64 backbone whose weights are large enough for every input to matter."""
    torch.manual_seed(0)
    arguments = {"num_layers": 3, "num_heads": 2, "width": 8, "dropout": 0.0} | changes
    model = Transformer(max_length=LENGTH, **arguments).double().eval()  # type: ignore[arg-type]
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model


def features(batch: int = 2, width: int = 8) -> Tensor:
    return torch.randn(batch, LENGTH, width, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("num_heads", [1, 2, 4])
def test_attention_is_softmax_of_scaled_scores_below_the_diagonal(num_heads: int) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8, num_heads).double()
    h = features()
    d = 8 // num_heads
    q, k, v = (h @ attention.qkv.weight.T + attention.qkv.bias).split(8, dim=-1)
    expected = torch.empty_like(h)
    for head in range(num_heads):
        of_head = slice(head * d, (head + 1) * d)
        for i in range(LENGTH):
            scores = torch.einsum("bd,bjd->bj", q[:, i, of_head], k[:, : i + 1, of_head]) / math.sqrt(d)
            weights = scores.exp() / scores.exp().sum(1, keepdim=True)
            expected[:, i, of_head] = torch.einsum("bj,bjd->bd", weights, v[:, : i + 1, of_head])
    expected = expected @ attention.projection.weight.T + attention.projection.bias
    torch.testing.assert_close(attention(h), expected, rtol=0, atol=1e-13)


def _attended(attend: Any, q: Tensor, k: Tensor, v: Tensor, out_grad: Tensor) -> list[Tensor]:
    """The output and the three gradients."""
    leaves = [t.detach().clone().requires_grad_() for t in (q, k, v)]
    out = attend(*leaves)
    return [out.detach(), *torch.autograd.grad(out, leaves, out_grad.to(out.dtype))]


@pytest.mark.parametrize("length", [2, 111, 112, 113, 300])
def test_attention_in_blocks_is_pytorchs(length: int) -> None:
    torch.manual_seed(0)
    of_pytorch = partial(F.scaled_dot_product_attention, is_causal=True)
    inputs = [torch.randn(2, 3, length, 8, dtype=torch.float64) for _ in range(4)]
    exact = _attended(of_pytorch, *inputs)
    for found, expected in zip(_attended(BlockedCausalAttention.apply, *inputs), exact, strict=True):
        # Sums of gradients are in float32.
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)
    half = [t.bfloat16() for t in inputs]
    assert BlockedCausalAttention.suits(half[0], half[1], dropout=0.0)
    errors = [
        [float((a.double() - b).norm() / b.norm()) for a, b in zip(_attended(attend, *half), exact, strict=True)]
        for attend in (BlockedCausalAttention.apply, of_pytorch)
    ]
    assert all(own < 1.5 * pytorchs + 1e-3 for own, pytorchs in zip(*errors, strict=True))


@pytest.mark.parametrize("chunks", CHUNKS)
def test_cached_attention_is_the_uncached_one_however_the_positions_come(chunks: tuple[int, ...]) -> None:
    torch.manual_seed(0)
    attention = SelfAttention(8, 2).double()
    cache = KeyValueCache(LENGTH + 2)
    h = features()
    out = torch.cat([attention(part, cache) for part in h.split(list(chunks), dim=1)], dim=1)
    torch.testing.assert_close(out, attention(h), rtol=0, atol=1e-13)
    assert cache.length == LENGTH


def test_the_cache_writes_into_memory_reserved_once() -> None:
    cache = KeyValueCache(3)
    k, v = torch.randn(2, 4, 3, 5), torch.randn(2, 4, 3, 5)
    addresses = set()
    for i in range(3):
        keys, values = cache.append(k[:, :, i : i + 1], v[:, :, i : i + 1])
        assert torch.equal(keys, k[:, :, : i + 1])
        assert torch.equal(values, v[:, :, : i + 1])
        addresses.add((keys.data_ptr(), values.data_ptr()))
    assert len(addresses) == 1
    with pytest.raises(ValueError, match="4 positions for a cache of 3"):
        cache.append(k[:, :, :1], v[:, :, :1])


def test_position_i_depends_on_the_inputs_up_to_i_and_on_each_of_them() -> None:
    model = transformer()
    h = features(batch=1)
    jacobian = torch.autograd.functional.jacobian(lambda h: model(h).sum(dim=(0, 2)), h).squeeze(1)
    # A sum over normalised features would have no gradient, but the last norm has a weight for each.
    depends = jacobian.abs().amax(dim=-1)  # (L, L)
    assert torch.equal(depends > 0, torch.ones(LENGTH, LENGTH).tril().bool())


@pytest.mark.parametrize("chunks", CHUNKS)
def test_cached_transformer_is_the_uncached_one(chunks: tuple[int, ...]) -> None:
    model, h = transformer(), features()
    caches = model.caches(LENGTH)
    out = torch.cat([model(part, caches) for part in h.split(list(chunks), dim=1)], dim=1)
    torch.testing.assert_close(out, model(h), rtol=0, atol=1e-12)


def test_the_cache_has_the_precision_of_autocast() -> None:
    model, h = transformer().float(), features().float()
    caches = model.caches(LENGTH)
    with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
        whole = model(h)
        steps = torch.cat([model(h[:, i : i + 1], caches) for i in range(LENGTH)], dim=1)
    assert caches[0].keys.dtype == torch.bfloat16
    torch.testing.assert_close(steps, whole, rtol=0.05, atol=0.05)
    torch.testing.assert_close(whole, model(h), rtol=0.1, atol=0.1, check_dtype=False)


def test_one_sequence_does_not_see_the_others_of_its_batch() -> None:
    model, h = transformer(), features(batch=3)
    together = model(h)
    for b in range(3):
        torch.testing.assert_close(model(h[b : b + 1])[0], together[b], rtol=0, atol=1e-12)


def test_initialisation_is_gpt2s() -> None:
    torch.manual_seed(0)
    model = Transformer(num_layers=8, num_heads=4, width=64, max_length=LENGTH)
    residual = 0
    for name, module in model.named_modules():
        if isinstance(module, nn.Linear):
            into_stream = name.endswith(("attention.projection", "mlp.projection"))
            residual += into_stream
            std = 0.02 / math.sqrt(2 * 8) if into_stream else 0.02
            assert module.weight.std().item() == pytest.approx(std, rel=0.06)
            assert not module.bias.any()
    assert residual == 2 * 8
    # At the start every block is close to the identity, so the output is the normalised input.
    h = torch.randn(2, LENGTH, 64)
    torch.testing.assert_close(model(h), nn.functional.layer_norm(model.positions(h), (64,)), rtol=0, atol=0.1)


def test_dropout_acts_in_training_only() -> None:
    model, plain, h = transformer(dropout=0.5), transformer(), features()
    plain.load_state_dict(model.state_dict())
    assert torch.equal(model(h), plain(h))
    model.train()
    assert not torch.equal(model(h), model(h))
    # Each place drops: with the others' rate at 0 it still changes the output.
    places = [model.dropout, model.blocks[0].attention.dropout, model.blocks[0].mlp.dropout]
    for place in places:
        for module in model.modules():
            if isinstance(module, nn.Dropout):
                module.p = 0.5 if module is place else 0.0
        assert not torch.equal(model(h), plain(h))


def test_dropout_acts_on_the_attention_weights_too() -> None:
    attention, h = SelfAttention(8, 2, dropout=0.5).double(), features()
    attention.dropout.register_forward_hook(lambda module, inputs, output: inputs[0])  # not on the output
    assert not torch.equal(attention(h), attention(h))
    attention.eval()
    assert torch.equal(attention(h), attention(h))


def test_gradients_reach_every_parameter() -> None:
    model = transformer()
    model(features()).square().sum().backward()
    # A shift of every key moves all scores of a query alike, which the softmax does not see: no gradient there.
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None
        used = parameter.grad.view(3, -1)[[0, 2]] if name.endswith("qkv.bias") else parameter.grad
        assert (used != 0).all(), name


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"width": 9}, "width=9 does not split into num_heads=2"),
        ({"num_heads": 0}, "num_heads=0"),
        ({"width": 0}, "width=0"),
        ({"num_layers": 0}, "at least 1 layer"),
        ({"dropout": 1.0}, r"dropout=1.0: expected a probability in \[0, 1\)"),
        ({"dropout": -0.1}, "dropout=-0.1"),
    ],
)
def test_what_cannot_be_built_is_refused(changes: dict[str, float], message: str) -> None:
    with pytest.raises(InputError, match=message):
        transformer(**changes)


# -- sparse attention --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("stride", [1, 2, 3, 7, 9])
@pytest.mark.parametrize("pattern", ["local", "column"])
def test_sparse_attention_is_full_attention_with_a_mask(stride: int, pattern: Pattern) -> None:
    torch.manual_seed(0)
    q, k, v = torch.randn(3, 2, 2, LENGTH, 4, dtype=torch.float64)
    positions = torch.arange(LENGTH)
    mask = torch.zeros(LENGTH, LENGTH, dtype=torch.bool)
    for i in range(LENGTH):
        for j in range(i + 1):
            mask[i, j] = i - j < stride if pattern == "local" else (i - j) % stride == 0
    assert torch.equal(allowed(positions, positions, stride, pattern), mask)
    expected = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    for first in range(LENGTH):  # of all positions, of the last few, and of the last alone
        found = attend(q[:, :, first:], k, v, stride, pattern)
        torch.testing.assert_close(found, expected[:, :, first:], rtol=0, atol=1e-13)


@pytest.mark.parametrize("chunks", CHUNKS)
def test_two_sparse_layers_see_all_that_came_before(chunks: tuple[int, ...]) -> None:
    model, h = transformer(num_layers=2, stride=3), features(batch=1)
    jacobian = torch.autograd.functional.jacobian(lambda h: model(h).sum(dim=(0, 2)), h).squeeze(1)
    assert torch.equal(jacobian.abs().amax(dim=-1) > 0, torch.ones(LENGTH, LENGTH).tril().bool())
    caches = model.caches(LENGTH)
    out = torch.cat([model(part, caches) for part in h.split(list(chunks), dim=1)], dim=1)
    torch.testing.assert_close(out, model(h), rtol=0, atol=1e-12)
