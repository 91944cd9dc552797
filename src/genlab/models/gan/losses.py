"""The game's losses, one small class each: what D and what G minimise, given D's logits ``(B,)``, high for real."""

from abc import ABC, abstractmethod

import torch.nn.functional as F
from torch import Tensor


class AdversarialLoss(ABC):
    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """D's scalar loss from its logits on real and generated images."""

    @abstractmethod
    def generator(self, fake: Tensor) -> Tensor:
        """G's scalar loss from D's logits on generated images."""


class NonSaturating(AdversarialLoss):
    """G maximises log D(G(z)): Generative Adversarial Networks (arXiv:1406.2661), section 3."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return F.softplus(-fake).mean()


class Hinge(AdversarialLoss):
    """Margins at +1 and -1: Geometric GAN (arXiv:1705.02894)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor) -> Tensor:
        return -fake.mean()
