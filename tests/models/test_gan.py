"""GANs: losses against their formulas, networks and layers against plainer ways to compute them."""

import math

import pytest
import torch
import torch.nn.functional as F

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.layers.minibatch_std import MinibatchStd
from genlab.layers.packing import packed
from genlab.layers.resampling import Smooth, doubled, resolutions, widths
from genlab.layers.self_attention2d import SelfAttention2d
from genlab.models.gan.biggan import BigGAN
from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.losses import (
    AdversarialLoss,
    Hinge,
    LeastSquares,
    Minimax,
    NonSaturating,
    RelativisticPairing,
    Wasserstein,
)
from genlab.models.gan.mlp import MLP
from genlab.models.gan.r3gan import R3GAN
from genlab.models.gan.sngan import SNGAN
from genlab.models.gan.stylegan2 import StyledConv2d, StyleGAN2

# -- losses ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "of_d", "of_g"),
    [
        (
            Minimax(),
            lambda r, f: -(r.sigmoid().log() + (1 - f.sigmoid()).log()).mean(),
            lambda r, f: (1 - f.sigmoid()).log().mean(),
        ),
        (
            NonSaturating(),
            lambda r, f: -(r.sigmoid().log() + (1 - f.sigmoid()).log()).mean(),
            lambda r, f: -f.sigmoid().log().mean(),
        ),
        (
            LeastSquares(),
            lambda r, f: ((r - 1) ** 2 / 2).mean() + ((f + 1) ** 2 / 2).mean(),
            lambda r, f: (f**2 / 2).mean(),
        ),
        (
            Hinge(),
            lambda r, f: -(torch.minimum(r - 1, r * 0) + torch.minimum(-f - 1, f * 0)).mean(),
            lambda r, f: -f.mean(),
        ),
        (Wasserstein(), lambda r, f: -(r.mean() - f.mean()), lambda r, f: -f.mean()),
        (
            RelativisticPairing(),
            lambda r, f: -(r - f).sigmoid().log().mean(),
            lambda r, f: -(f - r).sigmoid().log().mean(),
        ),
    ],
)
def test_a_loss_is_its_formula(loss: AdversarialLoss, of_d: object, of_g: object) -> None:
    real, fake = torch.randn(9).double(), torch.randn(9).double()
    torch.testing.assert_close(loss.discriminator(real, fake), of_d(real, fake))  # type: ignore[operator]
    torch.testing.assert_close(loss.generator(fake, real), of_g(real, fake))  # type: ignore[operator]
    sure = torch.full((3,), 1e4)
    assert loss.discriminator(-sure, sure).isfinite()
    assert loss.generator(-sure, sure).isfinite()


@pytest.mark.parametrize("loss", [Minimax(), NonSaturating(), LeastSquares(), Hinge(), Wasserstein()])
def test_each_player_wants_what_it_should(loss: AdversarialLoss) -> None:
    """D raises the logits of real data and lowers those of generated data; G raises them where they are below real."""
    real, fake = torch.zeros(4, requires_grad=True), torch.zeros(4, requires_grad=True)
    loss.discriminator(real, fake).backward()
    assert (real.grad < 0).all()  # type: ignore[operator]
    assert (fake.grad > 0).all()  # type: ignore[operator]
    fake = torch.full((4,), -1.0, requires_grad=True)
    loss.generator(fake, torch.zeros(4)).backward()
    assert (fake.grad < 0).all()  # type: ignore[operator]


# -- networks ----------------------------------------------------------------------------------------------------------

SMALL = {
    "dcgan": (DCGAN, {"channels": 4}),
    "sngan": (SNGAN, {"channels": 8, "discriminator_channels": 8}),
    "biggan": (BigGAN, {"channels": 8, "discriminator_channels": 8}),
    "stylegan2": (StyleGAN2, {"channels": 8, "latent_dim": 8, "style_dim": 8}),
    "r3gan": (R3GAN, {"channels": 16, "group_width": 4}),
    "mlp": (MLP, {"width": 8}),
}


@pytest.mark.parametrize(
    "shape", [(1, 8, 8), (1, 28, 28), (3, 32, 32), (3, 17, 40), (1, 64, 64), (4, 5, 6), (3, 128, 128)]
)
@pytest.mark.parametrize("name", SMALL)
def test_networks_fit_any_shape(name: str, shape: tuple[int, int, int]) -> None:
    make, options = SMALL[name]
    for num_classes in (None, 3):
        model = make(shape, num_classes=num_classes, **options)
        y = None if num_classes is None else torch.tensor([0, 2])
        z = torch.randn(2, model.latent_dim)
        assert model.generator(z, y).shape == (2, *shape)
        assert model.discriminator(model.generator(z, y), y).shape == (2,)


@pytest.mark.parametrize("name", SMALL)
def test_in_evaluation_one_sample_does_not_depend_on_the_others(name: str) -> None:
    make, options = SMALL[name]
    model = make((1, 8, 8), **options)
    for _ in range(20):  # move the batch-norm statistics
        model.generator(torch.randn(16, model.latent_dim))
    model.eval()
    z = torch.randn(5, model.latent_dim)
    torch.testing.assert_close(model.generator(z)[:2], model.generator(z[:2]))
    assert torch.equal(model.generator(z), model.generator(z))  # no noise of its own


@pytest.mark.parametrize("name", SMALL)
def test_a_packed_discriminator_judges_pairs(name: str) -> None:
    make, options = SMALL[name]
    for num_classes in (None, 3):
        model = make((1, 8, 8), num_classes=num_classes, pack=2, **options).eval()
        x = torch.rand(6, 1, 8, 8, requires_grad=True)
        y = None if num_classes is None else torch.arange(6) % 3
        logits = model.discriminator(x, y)
        assert logits.shape == (3,)
        if name != "stylegan2":  # which compares pairs with each other
            (gradient,) = torch.autograd.grad(logits[1], x)
            touched = gradient.abs().amax((1, 2, 3)) > 0
            assert touched.tolist() == [False, False, True, True, False, False]
        with pytest.raises(InputError, match="does not divide into packs of 2"):
            model.discriminator(x[:5], None if y is None else y[:5])


def test_packing_puts_channels_side_by_side() -> None:
    x = torch.rand(6, 2, 3, 3)
    assert torch.equal(packed(x, 3)[1], torch.cat([x[3], x[4], x[5]]))
    assert torch.equal(packed(x, 1), x)


def test_resolutions_halve_and_widths_follow() -> None:
    assert resolutions((28, 28)) == [(7, 7), (14, 14), (28, 28)]
    assert resolutions((5, 7)) == [(3, 4), (5, 7)]
    assert resolutions((128, 128))[0] == (4, 4)
    assert widths(64, None, resolutions((128, 128))) == [64, 64, 64, 64, 32, 16]
    assert widths(512, 1024, resolutions((28, 28))) == [128, 64, 32]


@pytest.mark.parametrize("name", ["sngan", "biggan", "dcgan", "mlp"])
def test_spectral_normalization_bounds_every_layer(name: str) -> None:
    make, options = SMALL[name]
    model = make((3, 16, 16), **options, **({} if name == "biggan" else {"normalization": "spectral"}))
    for _ in range(50):  # power iterations
        model.discriminator(torch.rand(2, 3, 16, 16))
    weights = [w for n, w in model.discriminator.state_dict().items() if n.endswith("original")]
    assert weights
    for module in model.discriminator.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            largest = torch.linalg.matrix_norm(module.weight.flatten(1), 2)
            torch.testing.assert_close(largest, torch.ones(()), atol=0.02, rtol=0)


@pytest.mark.parametrize("name", ["sngan", "biggan"])
def test_a_spectrally_normalized_generator_draws_classes(name: str) -> None:
    make, options = SMALL[name]
    model = make((3, 16, 16), num_classes=4, **options, **({} if name == "biggan" else {"spectral_generator": True}))
    z, y = torch.randn(4, model.latent_dim), torch.arange(4)
    for _ in range(50):  # power iterations
        x = model.generator(z, y)
    assert x.isfinite().all()
    for module in model.generator.modules():
        if isinstance(module, torch.nn.Conv2d | torch.nn.Linear):
            largest = torch.linalg.matrix_norm(module.weight.flatten(1), 2)
            torch.testing.assert_close(largest, torch.ones(()), atol=0.02, rtol=0)
    embeddings = [module.weight for module in model.generator.modules() if isinstance(module, torch.nn.Embedding)]
    for gradient in torch.autograd.grad(x.square().sum(), embeddings):
        assert gradient.isfinite().all()
        assert gradient.abs().sum() > 0


def test_projection_adds_the_class_to_the_logit() -> None:
    """log p(y | x) enters as an inner product: the difference of two classes' logits is linear in the features."""
    model = SNGAN((1, 8, 8), num_classes=3, channels=8, discriminator_channels=8, normalization="none").eval()
    D = model.discriminator
    x = torch.rand(4, 1, 8, 8)
    logits = [D(x, torch.full((4,), k)) for k in range(3)]
    features = F.relu(D.blocks(2 * x - 1)).sum((2, 3))
    V = D.embedding.weight
    torch.testing.assert_close(logits[1] - logits[0], features @ (V[1] - V[0]))


def test_minibatch_std_by_hand() -> None:
    x = torch.randn(6, 2, 3, 3)
    out = MinibatchStd(group=2)(x)  # of six, groups of i and i + 3
    assert torch.equal(out[:, :2], x)
    for i in range(6):
        pair = torch.stack([x[i % 3], x[i % 3 + 3]])
        expected = pair.std(0, correction=0).mean()
        torch.testing.assert_close(out[i, 2], expected.expand(3, 3), atol=1e-4, rtol=1e-4)
    alike = torch.zeros(4, 2, 3, 3, requires_grad=True)
    MinibatchStd()(alike).sum().backward()
    assert alike.grad is not None
    assert alike.grad.isfinite().all()
    assert MinibatchStd(group=4)(torch.randn(5, 1, 2, 2)).shape == (5, 2, 2, 2)  # falls back to what divides


def test_self_attention_place_by_place() -> None:
    layer = SelfAttention2d(8)
    layer.gamma.data.fill_(0.7)
    h = torch.randn(2, 8, 4, 6)
    out = layer(h)
    for b in range(2):
        q = layer.query(h[b : b + 1])[0]
        k, v = (F.max_pool2d(f(h[b : b + 1]), 2)[0].flatten(1) for f in (layer.key, layer.value))
        for i, j in ((0, 0), (3, 5), (2, 1)):
            weights = torch.stack([q[:, i, j] @ k[:, n] for n in range(6)]).softmax(0)
            mixed = sum(w * v[:, n] for n, w in enumerate(weights))
            expected = h[b, :, i, j] + 0.7 * layer.projection.weight[:, :, 0, 0] @ mixed
            torch.testing.assert_close(out[b, :, i, j], expected, atol=1e-5, rtol=1e-4)


def test_resampling_is_the_filter_1_3_3_1() -> None:
    h = torch.randn(1, 2, 6, 8)
    line = torch.tensor([1.0, 3, 3, 1]) / 4
    apart = torch.zeros(1, 2, 12, 16)
    apart[:, :, ::2, ::2] = h
    kernel = torch.outer(line, line).expand(2, 1, 4, 4)
    filtered = F.conv2d(F.pad(apart, (2, 1, 2, 1)), kernel, groups=2)
    torch.testing.assert_close(doubled(h, (12, 16))[:, :, 2:-2, 2:-2], filtered[:, :, 2:-2, 2:-2])
    halved = Smooth()(h)
    assert halved.shape == (1, 2, 3, 4)
    expected = (h[0, 0, 1:5, 1:5] * torch.outer(line, line) / 4).sum()
    torch.testing.assert_close(halved[0, 0, 1, 1], expected)
    assert Smooth()(torch.ones(1, 1, 7, 9))[0, 0, 1, 1] == 1  # keeps a constant
    assert Smooth()(torch.ones(1, 1, 7, 9)).shape == (1, 1, 3, 4)


# -- StyleGAN2 ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("up", [False, True])
def test_modulated_convolution_with_weights_of_each_image(up: bool) -> None:
    layer = StyledConv2d(3, 5, (8, 8) if up else (4, 4), style_dim=6, up=up).eval()
    layer.noise_strength.data.fill_(0.3)
    layer.bias.data.normal_()
    h, w = torch.randn(2, 3, 4, 4), torch.randn(2, 6)
    out = layer(h, w)
    for b in range(2):
        style = layer.to_style(w)[b]
        weight = layer.conv.weight * layer.conv.scale * style.view(1, 3, 1, 1)
        weight = weight / (weight.square().sum((1, 2, 3), keepdim=True) + 1e-8).sqrt()
        x = doubled(h[b : b + 1], (8, 8)) if up else h[b : b + 1]
        expected = F.conv2d(x, weight, padding=1) + 0.3 * layer.noise + layer.bias.view(1, 5, 1, 1)
        expected = F.leaky_relu(expected, 0.2) * math.sqrt(2)
        torch.testing.assert_close(out[b : b + 1], expected, atol=1e-5, rtol=1e-4)


def test_truncation_leads_to_the_mean_style() -> None:
    model = StyleGAN2((1, 8, 8), channels=8, latent_dim=8, style_dim=8)
    for _ in range(10):
        model.generator(torch.randn(16, 8))
    model.eval()

    def draw(psi: float) -> torch.Tensor:
        return model.sample(4, generator=generators(0, range(4)), sampling=model.Sampling(truncation=psi))

    z = torch.stack([torch.randn(8, generator=g) for g in generators(0, range(4))])
    torch.testing.assert_close(draw(1.0), model.decode(z))
    spread = [float(draw(psi).std(0).mean()) for psi in (0, 0.5, 1.0)]
    assert spread[0] < 1e-4 < spread[1] < spread[2]
    torch.testing.assert_close(draw(0)[:1], model.generator.synthesis(model.generator.mapping.mean_w[None]).clamp(0, 1))


def test_mixed_styles_change_the_finer_layers_only(monkeypatch: pytest.MonkeyPatch) -> None:
    model = StyleGAN2((1, 16, 16), channels=8, latent_dim=8, style_dim=8, style_mixing=1.0)
    seen: list[torch.Tensor] = []
    monkeypatch.setattr(
        model.generator.synthesis, "forward", lambda w: seen.append(w) or torch.zeros(len(w), 1, 16, 16)
    )
    z = torch.randn(500, 8)
    model.generator(z)
    own = model.generator.mapping(z)
    ws = seen[0]
    assert ws.shape == (500, model.generator.synthesis.num_layers, 8)
    kept = (ws == own[:, None]).all(2)
    assert kept[:, 0].all()
    assert (kept.long().diff(dim=1) <= 0).all()  # once another, always another
    cut = kept.sum(1)
    assert set(cut.tolist()) == set(range(1, model.generator.synthesis.num_layers))


# -- R3GAN -------------------------------------------------------------------------------------------------------------


def test_r3gan_starts_as_its_skip_connections() -> None:
    model = R3GAN((3, 16, 16), channels=16, group_width=4, num_blocks=2)
    h = torch.randn(2, 16, 4, 4)
    assert torch.equal(model.generator.stages[0](h), h)
    with pytest.raises(InputError, match="do not split into groups of 5"):
        R3GAN((3, 16, 16), channels=16, group_width=5)
