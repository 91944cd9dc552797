"""StudioGAN's DCGAN against its layers written out, its initial weights, and classes."""

import pytest
import torch
import torch.nn.functional as F

from genlab.errors import InputError
from genlab.models.gan.studio_dcgan import StudioDCGAN


def test_the_networks_are_their_layers_written_out() -> None:
    torch.manual_seed(0)
    model = StudioDCGAN((3, 16, 16), latent_dim=5, channels=2)
    G, D = model.generator, model.discriminator
    z = torch.randn(6, 5)

    def normalized(h: torch.Tensor) -> torch.Tensor:
        """In training, by the statistics of the batch; gains are 1 and biases 0 at first."""
        return (h - h.mean((0, 2, 3), keepdim=True)) / (h.var((0, 2, 3), keepdim=True, correction=0) + 1e-4).sqrt()

    h = G.project[0](z).view(6, 8, 4, 4)
    for up in G.up:
        h = F.relu(normalized(F.conv_transpose2d(h, up.conv.weight, up.conv.bias, stride=2, padding=1)))
    x = (F.conv2d(h, G.to_image.weight, G.to_image.bias, padding=1).tanh() + 1) / 2
    torch.testing.assert_close(G(z), x)
    assert x.shape == (6, 3, 16, 16)

    convolutions = [layer for layer in D.features if isinstance(layer, torch.nn.Conv2d)]
    assert [(c.in_channels, c.out_channels, c.kernel_size[0], c.stride[0]) for c in convolutions] == [
        (3, 2, 3, 1), (2, 2, 4, 2), (2, 4, 3, 1), (4, 4, 4, 2), (4, 8, 3, 1),
    ]  # fmt: skip
    h = 2 * x - 1
    for conv in convolutions:
        h = F.relu(normalized(F.conv2d(h, conv.weight, conv.bias, stride=conv.stride, padding=1)))
    expected = F.linear(h.sum((2, 3)), D.to_logit.weight, D.to_logit.bias).squeeze(1)
    torch.testing.assert_close(D(x), expected, atol=1e-4, rtol=1e-4)


def test_initial_weights_are_orthogonal_and_biases_0() -> None:
    model = StudioDCGAN((1, 16, 16), channels=4)
    for name, parameter in model.named_parameters():
        if parameter.ndim >= 2:
            rows = parameter.detach().flatten(1)
            rows = rows if len(rows) <= rows.shape[1] else rows.T
            torch.testing.assert_close(rows @ rows.T, torch.eye(len(rows)), atol=1e-4, rtol=0, msg=name)
        elif name.endswith("bias"):
            assert not parameter.any(), name


def test_classes_change_samples_and_logits_once_it_has_learned() -> None:
    torch.manual_seed(0)
    model = StudioDCGAN((1, 8, 8), num_classes=3, latent_dim=4, channels=4, pack=2).eval()
    z, y, other = torch.randn(4, 4), torch.tensor([0, 1, 2, 0]), torch.tensor([1, 2, 0, 0])
    torch.testing.assert_close(model.generator(z, y), model.generator(z, other))  # at first, alike
    for up in model.generator.up:
        up.norm.to_affine.weight.data.normal_()
    images = model.generator(z, y)
    changed = (images - model.generator(z, other)).abs().amax((1, 2, 3))
    assert changed[:3].min() > 1e-3
    assert changed[3] == 0
    logits = model.discriminator(images, y)
    assert logits.shape == (2,)
    torch.testing.assert_close(model.discriminator(images, torch.tensor([1, 0, 2, 0])), logits)  # of a pack, the sum
    assert (logits != model.discriminator(images, other)).all()
    with pytest.raises(InputError, match="class-conditional"):
        model.generator(z)
    with pytest.raises(InputError, match="latent_dim=0"):
        StudioDCGAN((1, 8, 8), latent_dim=0)
