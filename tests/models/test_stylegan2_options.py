"""StyleGAN2 with the details of its authors' code: the classes in D, random noise, and the core in float32."""

import math

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.models.gan.stylegan2 import StyleGAN2

TINY = {"channels": 8, "latent_dim": 8, "style_dim": 8, "mapping_layers": 2}


def test_the_classes_of_d_go_through_a_mapping_network() -> None:
    torch.manual_seed(0)
    model = StyleGAN2((1, 8, 8), 3, **TINY, class_layers=2, class_bias=True)
    D = model.discriminator
    embedding = D.embedding
    embedding.bias.data.normal_()
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 1, 2, 1])
    h = D.blocks(math.sqrt(2) * F.leaky_relu(D.from_image(2 * x - 1), 0.2))
    h = math.sqrt(2) * F.leaky_relu(D.conv(D.compare(h)), 0.2)
    h = D.to_logit(math.sqrt(2) * F.leaky_relu(D.linear(h.flatten(1)), 0.2))
    c = torch.stack([embedding.weight[:, k] / math.sqrt(3) + embedding.bias for k in y])
    c = c / c.square().mean(1, keepdim=True).sqrt()
    for layer in D.class_layers:
        c = F.linear(c, layer.weight * 0.01 / math.sqrt(8), layer.bias * 0.01)
        c = math.sqrt(2) * F.leaky_relu(c, 0.2)
    torch.testing.assert_close(D(x, y), (h * c).sum(1) / math.sqrt(8), atol=1e-5, rtol=1e-4)
    D(x, y).sum().backward()
    assert all(p.grad is not None for p in D.parameters())
    assert len(StyleGAN2((1, 8, 8), **TINY, class_layers=2).discriminator.class_layers) == 0  # nothing to map
    with pytest.raises(InputError, match="class_layers=-1: at least 0"):
        StyleGAN2((1, 8, 8), 3, **TINY, class_layers=-1)


def test_packs_of_images_have_the_sum_of_their_embeddings() -> None:
    model = StyleGAN2((1, 8, 8), 3, **TINY, pack=2, minibatch_std=None, class_layers=1)
    x, y = torch.rand(4, 1, 8, 8), torch.tensor([0, 2, 1, 1])
    logits = model.discriminator(x, y)
    assert logits.shape == (2,)
    torch.testing.assert_close(model.discriminator(x, torch.tensor([2, 0, 1, 1])), logits)
    assert not torch.allclose(model.discriminator(x, torch.tensor([0, 1, 1, 1]))[0], logits[0])


# -- noise at evaluation -----------------------------------------------------------------------------------------------


def noisy() -> StyleGAN2:
    torch.manual_seed(0)
    model = StyleGAN2((1, 8, 8), 2, **TINY).eval()
    for layer in model.generator.synthesis.convolutions:
        layer.noise_strength.data.fill_(0.5)
    return model


def test_random_noise_of_a_sample_depends_on_seed_and_index_alone() -> None:
    model = noisy()
    settings = model.Sampling(noise="random")
    y = torch.tensor([0, 1, 0, 1])
    together = model.sample(4, y, generator=generators(3, range(4)), sampling=settings)
    apart = [model.sample(1, y[i : i + 1], generator=generators(3, [i]), sampling=settings) for i in range(4)]
    torch.testing.assert_close(together, torch.cat(apart), atol=1e-5, rtol=0)
    assert not torch.allclose(together, model.sample(4, y, generator=generators(4, range(4)), sampling=settings))


def test_random_noise_changes_no_latent_and_differs_between_samples() -> None:
    model = noisy()
    y = torch.zeros(4, dtype=torch.long)

    def draw(noise: str) -> Tensor:
        settings = model.Sampling(noise=noise)  # type: ignore[arg-type]
        return model.sample(4, y, generator=generators(0, range(4)), sampling=settings)

    assert torch.equal(draw("fixed"), model.sample(4, y, generator=generators(0, range(4))))
    assert (draw("fixed") - draw("random")).abs().amax((1, 2, 3)).gt(1e-3).all()
    for layer in model.generator.synthesis.convolutions:
        layer.noise_strength.data.zero_()
    torch.testing.assert_close(draw("fixed"), draw("random"))
    with pytest.raises(InputError, match="noise=none: fixed or random"):
        draw("none")


def test_each_map_of_noise_enters_its_own_convolution() -> None:
    synthesis = noisy().generator.synthesis
    noise = torch.arange(2.0 * synthesis.noise_dim).view(2, -1)
    maps = synthesis.maps(noise)
    assert [tuple(part.shape[1:]) for part in maps] == [(1, *layer.size) for layer in synthesis.convolutions]
    assert torch.equal(torch.cat([part.flatten(1) for part in maps], 1), noise)
    w = torch.randn(2, 8)
    fixed = [layer.noise.expand(2, -1, -1, -1) for layer in synthesis.convolutions]
    torch.testing.assert_close(synthesis(w, fixed), synthesis(w))


def test_the_protocol_says_which_noise_was_drawn() -> None:
    model = noisy()
    assert model.describe_sampler() == "truncation of w"
    assert model.describe_sampler(model.Sampling(noise="random")) == "truncation of w, random noise"


# -- precision ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("core", [False, True])
def test_the_core_computes_in_float32_under_autocast(core: bool) -> None:
    torch.manual_seed(0)
    model = StyleGAN2((3, 8, 8), 2, **TINY, class_layers=1, class_bias=True, float32_core=core)
    G, D = model.generator, model.discriminator
    of: dict[str, torch.dtype] = {}

    def watch(name: str, module: nn.Module) -> None:
        module.register_forward_hook(lambda *args, name=name: of.__setitem__(name, args[2].dtype))

    inside = {
        "mapping": G.mapping.layers[-1], "4x4": G.synthesis.convolutions[0].conv, "4x4 image": G.synthesis.to_image[0],
        "last conv": D.conv, "linear": D.linear, "logit": D.to_logit, "class": D.class_layers[0],
    }  # fmt: skip
    outside = {"8x8": G.synthesis.convolutions[1].conv, "8x8 image": G.synthesis.to_image[1], "first": D.from_image}
    for name, module in {**inside, **outside}.items():
        watch(name, module)
    y = torch.tensor([0, 1, 0, 1])
    with torch.autocast("cpu", dtype=torch.bfloat16):
        D(G(torch.randn(4, 8), y), y)
    assert {of[name] for name in outside} == {torch.bfloat16}
    assert {of[name] for name in inside} == {torch.float32 if core else torch.bfloat16}
