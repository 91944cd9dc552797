"""The GAN's losses and its networks."""

import pytest
import torch

from genlab.models.gan.dcgan import DCGAN
from genlab.models.gan.losses import Hinge, NonSaturating


def test_non_saturating_loss_is_the_papers() -> None:
    real, fake = torch.randn(7).double(), torch.randn(7).double()
    D = torch.sigmoid
    loss = NonSaturating()
    expected = -(D(real).log().mean() + (1 - D(fake)).log().mean())
    torch.testing.assert_close(loss.discriminator(real, fake), expected)
    torch.testing.assert_close(loss.generator(fake), -D(fake).log().mean())
    assert torch.isfinite(loss.discriminator(torch.tensor([-1e4]), torch.tensor([1e4])))


def test_hinge_loss_stops_at_the_margin() -> None:
    loss = Hinge()
    assert loss.discriminator(torch.tensor([1.5]), torch.tensor([-2.0])) == 0
    torch.testing.assert_close(loss.discriminator(torch.tensor([0.0]), torch.tensor([0.5])), torch.tensor(2.5))
    torch.testing.assert_close(loss.generator(torch.tensor([0.5, 1.5])), torch.tensor(-1.0))


@pytest.mark.parametrize("shape", [(1, 28, 28), (3, 32, 32), (3, 17, 40), (1, 64, 64)])
def test_networks_fit_any_shape(shape: tuple[int, int, int]) -> None:
    model = DCGAN(shape, channels=4)
    z = torch.randn(2, model.latent_dim)
    assert model.generator(z).shape == (2, *shape)
    assert model.discriminator(model.generator(z)).shape == (2,)
    assert min(model.generator.sizes[0]) < 8


def test_in_evaluation_one_sample_does_not_depend_on_the_others() -> None:
    model = DCGAN((1, 8, 8), channels=4)
    for _ in range(20):  # move the batch-norm statistics
        model.generator(torch.randn(16, 100))
    model.eval()
    z = torch.randn(5, 100)
    torch.testing.assert_close(model.generator(z)[:2], model.generator(z[:2]))
