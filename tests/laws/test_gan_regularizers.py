"""Penalties against torch.func, which takes gradients of single examples in another way; what is done to weights."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.func import functional_call, grad, jacrev, vmap

from genlab.errors import InputError
from genlab.layers.packing import packed
from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.regularizers import (
    DRAGAN,
    R1,
    R2,
    Consistency,
    GradientPenalty,
    PathLength,
    Regularizer,
    WeightClipping,
)
from genlab.models.gan.stylegan2 import StyleGAN2


class Smooth(nn.Module):
    """A small discriminator with second derivatives."""

    def __init__(self, dims: int, pack: int = 1) -> None:
        super().__init__()
        self.pack = pack
        self.net = nn.Sequential(nn.Linear(pack * dims, 7), nn.Tanh(), nn.Linear(7, 5), nn.Tanh(), nn.Linear(5, 1))

    def forward(self, x: Tensor) -> Tensor:
        return self.net(packed(x.flatten(1), self.pack)).squeeze(1)


def norms(D: Smooth, weights: dict[str, Tensor], x: Tensor) -> Tensor:
    """|d D / d x| of each logit, images on a scale from -1 to 1, by torch.func."""
    groups = x.view(-1, D.pack, *x.shape[1:])
    gradient = vmap(grad(lambda g: functional_call(D, weights, (g,)).sum()))(groups).flatten(1)
    return gradient.norm(dim=1) * (0.5 if x.ndim == 4 else 1.0)


def interpolated(real: Tensor, fake: Tensor, num: int) -> Tensor:
    t = torch.rand(num, dtype=real.dtype).repeat_interleave(len(real) // num).view(-1, *[1] * (real.ndim - 1))
    return real + t * (fake - real)


def around(real: Tensor) -> Tensor:
    return real + 0.5 * real.std() * torch.rand_like(real)


REFERENCES: dict[str, tuple[Regularizer, Callable[..., Tensor]]] = {
    "r1": (R1(gamma=3.0), lambda n, r, f, k: 1.5 * n(r).square().mean()),
    "r2": (R2(gamma=3.0), lambda n, r, f, k: 1.5 * n(f).square().mean()),
    "gradient_penalty": (
        GradientPenalty(weight=2.0),
        lambda n, r, f, k: 2 * (n(interpolated(r, f, k)) - 1).square().mean(),
    ),
    "one_sided": (
        GradientPenalty(weight=2.0, one_sided=True),
        lambda n, r, f, k: 2 * (n(interpolated(r, f, k)) - 1).clamp_min(0).square().mean(),
    ),
    "dragan": (DRAGAN(weight=2.0), lambda n, r, f, k: 2 * (n(around(r)) - 1).square().mean()),
}


@pytest.mark.parametrize("pack", [1, 2])
@pytest.mark.parametrize("shape", [(2,), (3, 4, 4)])
@pytest.mark.parametrize("name", REFERENCES)
def test_a_penalty_and_its_gradient_are_those_of_torch_func(name: str, shape: tuple[int, ...], pack: int) -> None:
    regularizer, reference = REFERENCES[name]
    D = Smooth(math.prod(shape), pack).double()
    for parameter in D.parameters():
        parameter.data.mul_(3)  # so that one-sided penalties are not all 0
    real = torch.rand(6, *shape, dtype=torch.double, requires_grad=True)
    fake = torch.rand(6, *shape, dtype=torch.double, requires_grad=True)
    torch.manual_seed(5)
    penalty = regularizer.penalty(D, real, fake, D(real), D(fake))
    penalty.backward()

    weights = {n: p.detach() for n, p in D.named_parameters()}

    def expected(weights: dict[str, Tensor]) -> Tensor:
        torch.manual_seed(5)
        return reference(lambda x: norms(D, weights, x), real.detach(), fake.detach(), 6 // pack)

    assert penalty > 0
    torch.testing.assert_close(penalty.detach(), expected(weights), rtol=1e-5, atol=1e-8)
    leaves = {n: w.clone().requires_grad_() for n, w in weights.items()}
    gradients = torch.autograd.grad(expected(leaves), list(leaves.values()), allow_unused=True)
    for parameter, gradient in zip(D.parameters(), gradients, strict=True):
        if gradient is not None:
            torch.testing.assert_close(parameter.grad, gradient, rtol=1e-4, atol=1e-8)


def test_gamma_falls_on_half_a_cosine() -> None:
    r1 = R1(gamma=1.0, final_gamma=0.1, decay_images=1000)
    seen = []
    for images in (0, 250, 500, 1000, 5000):
        r1.prepare(images)
        seen.append(float(r1.gamma_now))
    assert seen == pytest.approx([1.0, 0.1 + 0.45 * (1 + math.cos(math.pi / 4)), 0.55, 0.1, 0.1])
    r1 = R1(gamma=2.0)
    r1.prepare(10**9)
    assert r1.gamma_now == 2.0
    with pytest.raises(InputError, match="belong together"):
        R2(final_gamma=0.1)


def test_clipped_weights_stay_within_the_bound() -> None:
    D = Smooth(4)
    before = [p.detach().clone() for p in D.parameters()]
    clipping = WeightClipping(bound=0.05)
    clipping.after_step(D)
    for parameter, old in zip(D.parameters(), before, strict=True):
        assert torch.equal(parameter, old.clamp(-0.05, 0.05))
    assert any((old.abs() > 0.05).any() for old in before)
    logits = D(torch.rand(2, 4))
    assert clipping.penalty(D, logits, logits, logits, logits) == 0


def test_consistency_moves_and_flips_whole_images() -> None:
    image = torch.arange(256.0).view(1, 1, 16, 16)
    regularizer = Consistency(weight=2.0, shift=4)
    moved = regularizer._moved(image.expand(200, 1, 16, 16))
    shifts, flips = set(), set()
    for one in moved[:, 0]:
        flipped = bool(one[8, 8] > one[8, 9])
        candidate = one.flip(1) if flipped else one
        centre = int(candidate[8, 8 if not flipped else 7])
        flips.add(flipped)
        shifts.add(centre // 16 - 8)
        inner = candidate[4:12, 4:12]  # untouched by the edge: a part of the image as it was
        assert torch.equal(inner.diff(dim=1), torch.ones(8, 7))
        assert torch.equal(inner.diff(dim=0), torch.full((7, 8), 16.0))
    assert flips == {True, False}
    assert shifts == {-2, -1, 0, 1, 2}  # an eighth of the side, at most

    def of_mean(x: Tensor) -> Tensor:
        return x.mean((1, 2, 3))

    def of_corner(x: Tensor) -> Tensor:
        return x[:, 0, 0, 0]

    x = torch.rand(8, 1, 16, 16)
    constant = torch.ones(8, 1, 16, 16) * torch.arange(8.0).view(8, 1, 1, 1)
    assert regularizer.penalty(of_mean, constant, constant, of_mean(constant), of_mean(constant)) < 1e-10
    assert regularizer.penalty(of_corner, x, x, of_corner(x), of_corner(x)) > 0.01


def test_path_lengths_are_those_of_the_jacobian() -> None:
    model = StyleGAN2((1, 8, 8), channels=4, latent_dim=4, style_dim=4, mapping_layers=1).eval()
    G = model.generator
    regularizer = PathLength(weight=2.0, decay=0.9, shrink=2)
    x, y = torch.rand(6, 1, 8, 8), torch.zeros(6, dtype=torch.long)
    torch.manual_seed(3)
    penalty = regularizer.penalty(model, x, y)
    torch.manual_seed(3)
    z = torch.randn(6, 4)
    noise = torch.randn(3, 1, 8, 8) / 8  # of half of the batch, over the root of the pixels
    layers = G.synthesis.num_layers
    ws = G.mapping(z[:3]).detach().unsqueeze(1).repeat(1, layers, 1)
    # Of images on a scale from -1 to 1; the mean over the layers, each with its own w.
    steps = [2 * noise[i].flatten() @ jacrev(G.synthesis)(ws[i : i + 1]).reshape(64, layers * 4) for i in range(3)]
    lengths = torch.stack([step.norm() for step in steps]) / layers**0.5
    torch.testing.assert_close(regularizer.mean, 0.1 * lengths.mean(), rtol=1e-4, atol=1e-7)
    torch.testing.assert_close(penalty, 2 * (lengths - regularizer.mean).square().mean(), rtol=1e-4, atol=1e-7)
    penalty.backward()
    assert all(p.grad is not None for n, p in G.named_parameters() if "mapping" in n or "to_style" in n)
    with pytest.raises(InputError, match="path_length needs a generator with styles"):
        regularizer.check(DCGAN((1, 8, 8), channels=2))


def test_of_every_so_many_steps() -> None:
    with pytest.raises(InputError, match="every=0"):
        R1(every=0)
