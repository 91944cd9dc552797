"""The attention layer against attention written out position by position, in all its forms; when blocks are used."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.layers.attention import BlockedCausalAttention, KeyValueCache, SelfAttention
from genlab.layers.positions import Rotary

WIDTH, HEADS, LENGTH = 12, 6, 5
DIM = WIDTH // HEADS


def features(batch: int = 2, length: int = LENGTH) -> Tensor:
    return torch.randn(batch, length, WIDTH, dtype=torch.float64, generator=torch.Generator().manual_seed(1))


def layer(**options: Any) -> SelfAttention:
    torch.manual_seed(0)
    return SelfAttention(WIDTH, HEADS, **options).double()


def rotated(x: Tensor, position: int) -> Tensor:
    """Of one query or key of two dimensions: a rotation by its position, in radians."""
    angle = torch.tensor(float(position)).double()
    a, b = x.unbind(-1)
    return torch.stack([a * angle.cos() - b * angle.sin(), a * angle.sin() + b * angle.cos()], -1)


def written_out(attention: SelfAttention, h: Tensor, sees: Any, kv_heads: int = HEADS, rotary: bool = False) -> Tensor:
    """Attention by its definition, one query at a time."""
    q, k, v = (h @ attention.qkv.weight.T + attention.qkv.bias).split([WIDTH, kv_heads * DIM, kv_heads * DIM], dim=-1)
    out = torch.zeros_like(h)
    for head in range(HEADS):
        mine = slice(head * DIM, (head + 1) * DIM)
        shared = head // (HEADS // kv_heads)  # heads in a row share one of keys and values
        theirs = slice(shared * DIM, (shared + 1) * DIM)
        for i in range(h.shape[1]):
            seen = [j for j in range(h.shape[1]) if sees(i, j)]
            turn = rotated if rotary else lambda x, position: x
            query = turn(q[:, i, mine], i)
            keys = [turn(k[:, j, theirs], j) for j in seen]
            scores = torch.stack([(query * key).sum(-1) / math.sqrt(DIM) for key in keys], -1)
            weights = scores.exp() / scores.exp().sum(-1, keepdim=True)
            out[:, i, mine] = sum(weights[:, n, None] * v[:, j, theirs] for n, j in enumerate(seen))
    return out @ attention.projection.weight.T + attention.projection.bias


def earlier(i: int, j: int) -> bool:
    return j <= i


@pytest.mark.parametrize("kv_heads", [1, 2, 3, 6, None])
def test_heads_in_a_row_share_keys_and_values(kv_heads: int | None) -> None:
    attention, h = layer(num_kv_heads=kv_heads), features()
    expected = written_out(attention, h, earlier, kv_heads or HEADS)
    torch.testing.assert_close(attention(h), expected, rtol=0, atol=1e-12)
    cache = KeyValueCache(LENGTH)
    parts = [attention(part, cache) for part in h.split([2, 1, 2], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), expected, rtol=0, atol=1e-12)
    assert cache.keys.shape == (2, kv_heads or HEADS, LENGTH, DIM)  # what is shared is stored once


def test_positions_turn_queries_and_keys_also_of_those_that_come_later() -> None:
    rotary = Rotary(LENGTH, DIM)
    attention, h = layer(rotary=rotary, num_kv_heads=3), features()
    expected = written_out(attention, h, earlier, 3, rotary=True)
    torch.testing.assert_close(attention(h), expected, rtol=0, atol=1e-6)  # angles are float32
    cache = KeyValueCache(LENGTH)
    parts = [attention(part, cache) for part in h.split([1, 3, 1], dim=1)]
    torch.testing.assert_close(torch.cat(parts, 1), attention(h), rtol=0, atol=1e-12)


def test_without_an_order_every_position_sees_all() -> None:
    attention, h = layer(causal=False), features()
    expected = written_out(attention, h, lambda i, j: True)
    torch.testing.assert_close(attention(h), expected, rtol=0, atol=1e-12)
    turned = h.flip(1)
    torch.testing.assert_close(attention(turned).flip(1), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("pattern", "stride"), [("local", 1), ("local", 2), ("column", 2), ("column", 3)])
def test_a_sparse_layer_sees_a_part_of_what_is_earlier(pattern: Any, stride: int) -> None:
    attention, h = layer(pattern=pattern, stride=stride), features()

    def sees(i: int, j: int) -> bool:
        return j <= i and (i - j < stride if pattern == "local" else (i - j) % stride == 0)

    torch.testing.assert_close(attention(h), written_out(attention, h, sees), rtol=0, atol=1e-12)
    if stride == 1:
        assert torch.equal(layer(pattern=pattern)(h), attention(h))


def test_by_default_nothing_is_dropped_nor_turned_and_order_counts() -> None:
    attention, h = layer().train(), features()
    torch.testing.assert_close(attention(h), written_out(attention, h, earlier), rtol=0, atol=1e-12)


def test_dropped_weights_leave_the_mean_and_are_of_training_alone() -> None:
    """With keys of zero, attention is the mean of the earlier values; each is dropped, or doubled, by itself."""
    attention = SelfAttention(2, 1, dropout=0.5, causal=False).double()
    with torch.no_grad():
        attention.qkv.weight.zero_()
        attention.qkv.bias.copy_(torch.tensor([0.0, 0, 0, 0, 1, 1]))
        attention.projection.weight.copy_(torch.eye(2))
        attention.projection.bias.zero_()
    attention.dropout.register_forward_hook(lambda _, inputs, output: inputs[0])  # the output is left as it is
    h = torch.zeros(2000, 4, 2).double()
    torch.manual_seed(0)
    out = attention(h)[..., 0]
    values, counts = out.unique(return_counts=True)
    torch.testing.assert_close(values, torch.arange(5).double() / 2, rtol=0, atol=1e-12)  # of 0 to 4 kept
    expected = torch.tensor([1.0, 4, 6, 4, 1]).double() / 16
    torch.testing.assert_close(counts.double() / out.numel(), expected, rtol=0, atol=0.03)
    torch.testing.assert_close(attention.eval()(h), torch.ones_like(h), rtol=0, atol=1e-12)
    # The same below the diagonal, and under a pattern.
    for options in ({}, {"pattern": "local", "stride": 2}):
        other = SelfAttention(2, 1, dropout=0.5, **options).double()
        other.load_state_dict(attention.state_dict())
        other.dropout.register_forward_hook(lambda _, inputs, output: inputs[0])
        assert set(other(h)[:, 0, 0].tolist()) == {0.0, 2.0}
        torch.testing.assert_close(other.eval()(h), torch.ones_like(h), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    ("arguments", "options", "line"),
    [
        ((0, 1), {}, "width=0 does not split into num_heads=1"),
        ((4, 0), {}, "width=4 does not split into num_heads=0"),
        ((-4, -2), {}, "width=-4 does not split"),
        ((4, -2), {}, "num_heads=-2"),
        ((-4, 2), {}, "width=-4"),
        ((5, 2), {}, "width=5 does not split into num_heads=2"),
        ((4, 4), {"num_kv_heads": 3}, "num_heads=4 do not share num_kv_heads=3 evenly"),
        ((4, 4), {"num_kv_heads": 0}, "num_heads=4 do not share num_kv_heads=0 evenly"),
        ((4, 4), {"num_kv_heads": -2}, "num_kv_heads=-2"),
        ((4, 2), {"num_kv_heads": 4}, "num_heads=2 do not share num_kv_heads=4 evenly"),
    ],
)
def test_heads_that_do_not_come_out_even_are_refused(arguments: Any, options: Any, line: str) -> None:
    with pytest.raises(InputError, match=line):
        SelfAttention(*arguments, **options)


def test_one_head_of_one_dimension_is_enough() -> None:
    attention = SelfAttention(1, 1, num_kv_heads=1)
    assert attention(torch.randn(2, 3, 1)).shape == (2, 3, 1)


def test_a_full_cache_is_used_to_its_end_and_an_empty_one_is_begun_anew() -> None:
    cache = KeyValueCache(2)
    assert cache.length == 0
    assert cache.keys.numel() == cache.values.numel() == 0
    k, v = torch.randn(3, 1, 2, 4, dtype=torch.float64), torch.randn(3, 1, 2, 4, dtype=torch.float64)
    keys, values = cache.append(k, v)
    assert torch.equal(keys, k)
    assert torch.equal(values, v)
    assert keys.dtype == values.dtype == torch.float64
    assert cache.length == 2
    with pytest.raises(ValueError, match="3 positions for a cache of 2"):
        cache.append(k[:, :, :1], v[:, :, :1])


# -- blocks ------------------------------------------------------------------------------------------------------------


def queries(length: int = 3, **options: Any) -> Tensor:
    return torch.zeros(1, 1, length, 2, **{"dtype": torch.bfloat16, **options})


def test_blocks_are_for_whole_sequences_in_bfloat16_on_a_cpu() -> None:
    suits = BlockedCausalAttention.suits
    assert suits(queries(), queries(), 0.0)
    assert suits(queries(2), queries(2), 0.0)
    assert suits(queries(3072), queries(3072), 0.0)
    assert not suits(queries(1), queries(1), 0.0)  # one position at a time
    assert not suits(queries(2), queries(3), 0.0)  # what came before is cached
    assert not suits(queries(), queries(), 0.1)
    assert not suits(queries(dtype=torch.float32), queries(dtype=torch.float32), 0.0)
    assert not suits(queries(dtype=torch.float16), queries(dtype=torch.float16), 0.0)
    assert not suits(queries(device="meta"), queries(device="meta"), 0.0)


@pytest.mark.parametrize(
    ("dtype", "options", "blocks"),
    [
        (torch.bfloat16, {}, 1),
        (torch.float32, {}, 0),
        (torch.bfloat16, {"causal": False}, 0),
        (torch.bfloat16, {"pattern": "local"}, 0),
        (torch.bfloat16, {"dropout": 0.5}, 0),
    ],
)
def test_the_layer_uses_blocks_where_they_suit(
    dtype: torch.dtype, options: Any, blocks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls, plain = [], BlockedCausalAttention.apply

    def counted(*tensors: Tensor) -> Tensor:
        assert not torch.is_autocast_enabled("cpu")
        calls.append(len(tensors))
        return plain(*tensors)

    monkeypatch.setattr(BlockedCausalAttention, "apply", counted)
    attention, h = layer(**options).to(dtype), features().to(dtype)
    attention(h)
    assert len(calls) == blocks
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=dtype == torch.bfloat16):
        attention.float()(h.float())
    assert len(calls) == 2 * blocks


def derivatives(q: Tensor, k: Tensor, v: Tensor, grad: Tensor) -> list[Tensor]:
    """Of causal attention, by its definition in float64."""
    leaves = [t.double().requires_grad_() for t in (q, k, v)]
    scores = leaves[0] @ leaves[1].transpose(-1, -2) / math.sqrt(q.shape[-1])
    weights = scores.masked_fill(torch.ones(scores.shape[-2:]).triu(1).bool(), -math.inf).softmax(-1)
    out = weights @ leaves[2]
    return [out.detach(), *torch.autograd.grad(out, leaves, grad.double())]


@pytest.mark.parametrize("block", [1, 2, 3, 4, 7, 50])
def test_blocks_of_any_size_give_the_attention_and_its_derivatives(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockedCausalAttention, "BLOCK", block)
    for length in (2, 6, 7, 8):
        torch.manual_seed(length)
        q, k, v, grad = torch.randn(4, 2, 3, length, 4, dtype=torch.float64)
        leaves = [t.clone().requires_grad_() for t in (q, k, v)]
        out = BlockedCausalAttention.apply(*leaves)
        found = [out.detach(), *torch.autograd.grad(out, leaves, grad)]
        for one, expected in zip(found, derivatives(q, k, v, grad), strict=True):
            assert one.dtype == torch.float64
            assert one.shape == expected.shape
            torch.testing.assert_close(one, expected, rtol=1e-5, atol=1e-5)  # sums over blocks are in float32


def test_what_a_block_keeps_is_what_its_queries_see(monkeypatch: pytest.MonkeyPatch) -> None:
    """About half of the square of the length; no weight for keys after the block."""
    monkeypatch.setattr(BlockedCausalAttention, "BLOCK", 4)
    q = torch.randn(1, 2, 10, 3, requires_grad=True)
    kept = BlockedCausalAttention.apply(q, q.detach(), q.detach()).grad_fn.saved_tensors[3:]
    assert [tuple(weights.shape) for weights in kept] == [(2, 4, 4), (2, 4, 8), (2, 2, 10)]


def test_weights_that_are_too_many_to_keep_are_computed_again(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(BlockedCausalAttention, "BLOCK", 4)
    monkeypatch.setattr(BlockedCausalAttention, "LONGEST", 5)
    q, k, v, grad = torch.randn(4, 1, 2, 10, 3)
    found = []
    for most in (2 * (4 * 4 + 4 * 8 + 2 * 10), 2 * (4 * 4 + 4 * 8 + 2 * 10) - 1):
        monkeypatch.setattr(BlockedCausalAttention, "KEPT", most)
        leaves = [t.clone().requires_grad_() for t in (q, k, v)]
        out = BlockedCausalAttention.apply(*leaves)
        found.append((len(out.grad_fn.saved_tensors), torch.autograd.grad(out, leaves, grad)))
    assert [num for num, _ in found] == [3 + 3, 3]
    for kept, again in zip(found[0][1], found[1][1], strict=True):
        assert torch.equal(kept, again)
    short = BlockedCausalAttention.apply(*(t[:, :, :5].requires_grad_() for t in (q, k, v)))
    assert len(short.grad_fn.saved_tensors) == 3 + 2


def test_derivatives_in_bfloat16_are_summed_in_float32(monkeypatch: pytest.MonkeyPatch) -> None:
    """Many blocks add to the first key's and value's derivative: in bfloat16, the small parts would be lost."""
    monkeypatch.setattr(BlockedCausalAttention, "BLOCK", 1)
    length = 600
    v = torch.ones(1, 1, length, 1, dtype=torch.bfloat16, requires_grad=True)
    q, k = torch.full((2, 1, 1, length, 1), 30.0, dtype=torch.bfloat16).unbind()
    k = torch.where(torch.arange(length).view(1, 1, -1, 1) == 0, 1.0, -1.0).bfloat16()  # all look at the first
    (gradient,) = torch.autograd.grad(BlockedCausalAttention.apply(q, k, v).sum(), v)
    assert gradient.dtype == torch.bfloat16
    assert float(gradient[0, 0, 0, 0]) == pytest.approx(length, rel=0.01)
