"""Moving in latents: what is drawn at the ends, which latents are active, and what the command writes."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from genlab.errors import InputError
from genlab.models.adversarial import AdversarialModel
from genlab.models.base import GenerativeModel
from genlab.runs.loading import load
from genlab.views.attribute import with_attribute
from genlab.views.interpolate import from_one_to_another
from genlab.views.latents import Latents
from genlab.views.manifold import manifold
from genlab.views.reconstruct import reconstructed
from genlab.views.traverse import traversed
from support.command import FAST, Genlab, Result, Trained


class Linear(GenerativeModel):
    """x = z A with an invertible A: what its latents are is known."""

    latent_dim = 4

    def __init__(self) -> None:
        super().__init__((1, 2, 2))
        torch.manual_seed(0)
        self.A = torch.nn.Parameter(torch.linalg.qr(torch.randn(4, 4))[0], requires_grad=False)

    def sample(self, num_samples: int, y: Tensor | None = None, **_: object) -> Tensor:
        return torch.zeros(num_samples, 1, 2, 2)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return x.flatten(1) @ self.A.T

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return (z @ self.A).view(-1, 1, 2, 2)


class Generator(AdversarialModel):
    """Latent 2 is seen most, latent 0 not at all."""

    latent_dim = 3

    def __init__(self) -> None:
        super().__init__((1, 1, 2))
        self.generator = torch.nn.Linear(3, 2, bias=False)
        self.generator.weight.data.copy_(torch.tensor([[0.0, 0.01, 0.0], [0.0, 0.0, 0.1]]))
        self.discriminator = torch.nn.Identity()

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.generator(z).view(-1, 1, 1, 2)


def test_reconstructions_stand_beside_their_originals() -> None:
    latents = Latents(Linear())
    x = torch.rand(3, 1, 2, 2)
    both = reconstructed(latents, x, None).view(3, 2, 1, 2, 2)
    torch.testing.assert_close(both[:, 0], x)
    torch.testing.assert_close(both[:, 1], x)


def test_a_row_leads_from_one_image_to_the_next() -> None:
    latents = Latents(Linear())
    x = torch.rand(4, 1, 2, 2)
    rows = from_one_to_another(latents, x, None, 5).view(2, 5, 1, 2, 2)
    torch.testing.assert_close(rows[:, 0], x[0::2])
    torch.testing.assert_close(rows[:, -1], x[1::2])


def test_the_most_active_latents_are_traversed_first_and_alone() -> None:
    model = Linear()
    latents = Latents(model)
    spread = torch.tensor([0.1, 3.0, 0.5, 1.0])
    background = model.decode(torch.randn(4000, 4) * spread + 1)
    x = model.decode(torch.tensor([[0.3, -0.2, 0.1, 0.7]]))
    images, chosen = traversed(latents, x, None, 2, 7, 2.0, background, None)
    assert chosen == [1, 3]
    z = latents.encode(images, None).view(2, 7, 4)
    for row, i in enumerate(chosen):
        others = [j for j in range(4) if j != i]
        torch.testing.assert_close(z[row][:, others], latents.encode(x, None).expand(7, 4)[:, others])
        torch.testing.assert_close(z[row][:, i], 1 + torch.linspace(-2, 2, 7) * spread[i], atol=0.3, rtol=0)


def test_a_gans_latents_are_as_active_as_they_change_the_image() -> None:
    images, chosen = traversed(Latents(Generator()), None, None, 3, 5, 1.0)
    assert chosen == [2, 1, 0]
    changes = images.view(3, 5, 2).diff(dim=1).norm(dim=2).sum(1)
    torch.testing.assert_close(changes, torch.tensor([0.2, 0.02, 0.0]))
    with pytest.raises(InputError, match="no encoder"):
        Latents(Generator()).encode(torch.zeros(1, 1, 1, 2), None)


def test_an_attribute_is_the_difference_of_means() -> None:
    model = Linear()
    latents = Latents(model)
    y = torch.arange(3).repeat(100)
    centres = torch.tensor([[0.0, 0, 0, 0], [1.0, 2, 0, 0], [0.0, 0, 3, 0]])
    z = centres[y] + 0.1 * torch.randn(300, 4)
    x = model.decode(z)
    moved = latents.encode(with_attribute(latents, x, y, [(0, 1), (2, 0)], 4, x, y), None).view(2, 4, 4)
    means = torch.stack([z[y == k].mean(0) for k in range(3)])
    for row, (a, b) in enumerate([(0, 1), (2, 0)]):
        start = z[(y == a).nonzero()[0, 0]]
        for step, t in enumerate((0, 0.5, 1, 1.5)):
            torch.testing.assert_close(moved[row, step], start + t * (means[b] - means[a]), atol=1e-4, rtol=1e-4)
    with pytest.raises(InputError, match="attribute=7"):
        with_attribute(latents, x, y, [(0, 7)], 4, x, y)


def test_a_manifold_is_the_plane_at_quantiles() -> None:
    class Plane(Linear):
        latent_dim = 2

        def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
            return torch.cat([z, z], 1).view(-1, 1, 2, 2)

    z = manifold(Latents(Plane()), None, 3)[:, 0, 0].view(3, 3, 2)
    q = torch.special.ndtri(torch.tensor([1 / 6, 0.5, 5 / 6]))
    torch.testing.assert_close(z[0, :, 0], q)  # from left to right
    torch.testing.assert_close(z[:, 0, 1], q.flip(0))  # from the top down


def written(result: Result) -> tuple[np.ndarray, list[Path]]:
    assert result.code == 0, result.err
    paths = [Path(line) for line in result.out.splitlines() if line.startswith("/")]
    arrays = [np.load(path) for path in paths if path.suffix == ".npy"]
    return arrays[0], paths


@pytest.fixture(params=["vae/vae", "vae/hierarchical_vae", "flow/real_nvp"])
def run(request: pytest.FixtureRequest, trained: Trained) -> Path:
    small = {
        "vae/vae": ("model.networks.hidden=[16]", "model.latent_dim=2"),
        "vae/hierarchical_vae": ("model.channels=8", "model.latent_channels=2", "model.num_blocks=1"),
        "flow/real_nvp": ("model.width=8", "model.num_couplings=1"),
    }[request.param]
    return trained(f"model={request.param}", *small, *FAST)


def test_the_command_steers_every_family_that_encodes(genlab: Genlab, run: Path) -> None:
    real = load(run).data.first("test", 9)
    pictures = {}
    for mode, options, num in (
        ("reconstruct", ("images=[3,8]",), 4),
        ("interpolate", ("images=[3,8]", "steps=5"), 5),
        ("traverse", ("n=2", "steps=3", "images=[4]"), 6),
        ("attribute", ("attribute=[4,9]", "steps=4"), 4),
    ):
        samples, paths = written(genlab("sample", f"run={run}", f"mode={mode}", *options))
        assert samples.shape == (num, 1, 8, 8), mode
        assert any(path.suffix == ".gif" for path in paths) == (mode in ("interpolate", "traverse"))
        pictures[mode] = samples
        for path in paths:
            if path.suffix != ".npy":
                assert Image.open(path).width > 8
    originals = (255 * real[[3, 8]]).round().numpy().astype(int)
    assert abs(pictures["reconstruct"][0::2].astype(int) - originals).max() <= 1
    ends = pictures["interpolate"][[0, -1]].astype(int)
    assert abs(ends - pictures["reconstruct"][1::2].astype(int)).max() <= 1
    z, paths = written(genlab("sample", f"run={run}", "mode=scatter", "n=50"))
    assert len(z) == 50
    if load(run).config["choices"]["model"] == "vae/vae":
        samples, _ = written(genlab("sample", f"run={run}", "mode=manifold", "steps=3"))
        assert samples.shape == (9, 1, 8, 8)


@pytest.mark.parametrize(
    ("options", "line"),
    [
        (("mode=reconstruct",), "has no encoder"),
        (("mode=interpolate", "images=[1]"), "no encoder|two images"),
        (("mode=manifold",), "2 latents"),
        (("mode=attribute", "attribute=[4]"), "two classes"),
        (("mode=traverse", "extent=0"), "above 0"),
    ],
)
def test_what_a_gan_cannot_do_is_one_line(
    genlab: Genlab, trained: Trained, options: tuple[str, ...], line: str
) -> None:
    run = trained("model=gan/dcgan", "model.channels=4", *FAST)
    result = genlab("sample", f"run={run}", *options)
    assert result.code == 2
    assert any(part in result.err for part in line.split("|"))
    assert "Traceback" not in result.err
    assert written(genlab("sample", f"run={run}", "mode=traverse", "n=2", "steps=3"))[0].shape == (6, 1, 8, 8)
