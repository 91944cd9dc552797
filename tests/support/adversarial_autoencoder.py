"""An autoencoder in a game with a discriminator: the least of a model that says itself what it plays."""

import torch
from torch import Tensor, nn

from genlab.distributions.noise import Generators, normal
from genlab.models.adversarial import AdversarialModel, Played, Players
from genlab.models.sampling import SamplingSettings


class Autoencoder(AdversarialModel):
    """Images are encoded and decoded; D tells them from their reconstructions, as in VQGAN (arXiv:2012.09841).

    Codes are kept near N(0, I), from which samples are decoded.
    """

    def __init__(self, shape: tuple[int, int, int], num_classes: int | None = None, width: int = 32, code: int = 8):
        super().__init__(shape, num_classes)
        self.code = code
        self.encoder = nn.Sequential(nn.Flatten(), nn.Linear(self.num_dims, width), nn.GELU(), nn.Linear(width, code))
        self.decoder = nn.Sequential(nn.Linear(code, width), nn.GELU(), nn.Linear(width, self.num_dims))
        self.discriminator = Discriminator(self.num_dims, width)

    def encode(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.encoder(x)

    def decode(self, z: Tensor, y: Tensor | None = None) -> Tensor:
        return self.decoder(z).view(-1, *self.shape)

    def play(self, x: Tensor, y: Tensor | None = None) -> Played:
        z = self.encode(x)
        fake = self.decode(z)
        return Played(fake, {"reconstruction": (fake - x).abs().mean(), "code": 0.01 * z.square().mean()})

    def players(self) -> Players:
        of_generator = [*self.encoder.parameters(), *self.decoder.parameters()]
        return Players(of_generator, list(self.discriminator.parameters()), last_layer=self.decoder[-1].weight)

    @torch.no_grad()
    def sample(
        self,
        num_samples: int,
        y: Tensor | None = None,
        *,
        generator: Generators = None,
        sampling: SamplingSettings | None = None,
    ) -> Tensor:
        z = normal((num_samples, self.code), generator, self.device)
        return self.decode(self.settings(sampling).temperature * z).clamp(0, 1)


class Discriminator(nn.Module):
    def __init__(self, num_dims: int, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.Linear(num_dims, width), nn.LeakyReLU(0.2), nn.Linear(width, 1))

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        return self.layers(x).squeeze(1)
