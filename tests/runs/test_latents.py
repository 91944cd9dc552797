"""Between latents, and back from them."""

import math

import pytest
import torch
from PIL import Image

from genlab.distributions.pixel import natural
from genlab.models.flow.real_nvp import RealNVP
from genlab.models.gan.dcgan import DCGAN
from genlab.models.vae.networks import FullyConnected
from genlab.models.vae.objectives import ELBO
from genlab.models.vae.vae import VAE
from genlab.views.latents import interpolations, reconstructions, slerp
from support.command import Genlab

SMALL = ("dataset.train_size=100", "dataset.batch_size=50", "trainer.max_epochs=2", "metrics.num_samples=16",
         "metrics.num_test=8", "callbacks.sample_metrics.num_samples=8", "logger=csv")  # fmt: skip


def test_slerp_walks_the_circle_at_even_speed() -> None:
    torch.manual_seed(0)
    a, b = torch.randn(4, 6, dtype=torch.float64), torch.randn(4, 6, dtype=torch.float64)
    a, b = a / a.norm(dim=1, keepdim=True), b / b.norm(dim=1, keepdim=True)
    path = slerp(a, b, 9)
    assert torch.allclose(path[:, 0], a)
    assert torch.allclose(path[:, -1], b)
    assert torch.allclose(path.norm(dim=-1), torch.ones(4, 9, dtype=torch.float64))
    angles = torch.acos((path[:, 1:] * path[:, :-1]).sum(-1))
    whole = torch.acos((a * b).sum(-1, keepdim=True))
    assert torch.allclose(angles, (whole / 8).expand(-1, 8))


def test_slerp_takes_the_length_along_and_a_straight_line_where_there_is_no_circle() -> None:
    a, b = torch.tensor([[2.0, 0.0]]), torch.tensor([[0.0, 4.0]])
    assert slerp(a, b, 3)[0, 1].norm() == pytest.approx(3.0, abs=1e-5)
    for end in (torch.tensor([[4.0, 0.0]]), torch.tensor([[-2.0, 0.0]]), torch.zeros(1, 2)):
        assert torch.allclose(slerp(a, end, 3)[0, 1], (a + end)[0] / 2, atol=1e-5)


def test_a_flow_gives_images_back_and_a_gan_has_nothing_to_give_back() -> None:
    torch.manual_seed(0)
    x = torch.randint(0, 17, (4, 1, 8, 8)) / 16
    flow = RealNVP((1, 8, 8), levels=17, width=8).eval()
    pairs = reconstructions(flow, x)
    assert pairs is not None
    assert torch.equal(pairs[::2], x)
    # From the middle of a grey level's bin: within half of one.
    assert (pairs[1::2] - x).abs().max() <= 0.5 / 16 + 1e-4
    assert reconstructions(DCGAN((1, 8, 8), channels=4), x) is None


def test_interpolations_begin_and_end_with_what_they_are_between() -> None:
    torch.manual_seed(0)
    x, y = torch.rand(6, 1, 8, 8), torch.arange(6)
    vae = VAE((1, 8, 8), natural(256), FullyConnected((8,)), ELBO(), latent_dim=3, num_classes=10).eval()
    rows = interpolations(vae, x, y, steps=5)
    assert rows is not None
    rows = rows.view(3, 5, 1, 8, 8)
    pairs = reconstructions(vae, x[:3], y[:3])
    assert pairs is not None
    assert torch.allclose(rows[:, 0], pairs[1::2], atol=1e-5)
    gan = DCGAN((1, 8, 8), channels=4).eval()
    made = interpolations(gan, x, None, steps=5)
    assert made is not None
    assert made.shape == (15, 1, 8, 8)
    again = interpolations(gan, x, None, steps=5)
    assert again is not None
    assert torch.equal(made, again)


@pytest.mark.parametrize(
    ("model", "kinds"),
    [
        ("vae/vae", {"reconstructions", "interpolations", "kl_per_latent"}),
        ("flow/real_nvp", {"reconstructions", "interpolations"}),
        ("gan/dcgan", {"interpolations"}),
        ("autoregressive/pixel_cnn", set()),
    ],
)
def test_training_leaves_the_pictures_that_the_family_has(genlab: Genlab, model: str, kinds: set[str]) -> None:
    result = genlab("train", f"model={model}", *SMALL)
    assert result.code == 0, result.err
    names = {path.stem for path in (result.run / "samples").glob("*-*.png")}
    assert names == {f"{kind}-{images:010d}" for kind in kinds for images in (100, 200)}
    for path in (result.run / "samples").glob("interpolations-*.png"):
        with Image.open(path) as image:
            assert math.isclose(image.width / image.height, 1, rel_tol=0.1)  # 8 pairs in 8 steps
