"""Adversarial losses: one class per loss, computed from the discriminator's logits ``(B,)``, high for real."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor


class AdversarialLoss(ABC):
    """The losses of generator G and discriminator D, given D's logits.

    Attributes:
        relative: whether G's loss also needs D's logits on real data.
        calibrated: whether the sign of a logit separates real from generated, so that D has an accuracy.
    """

    relative: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """Compute D's scalar loss from its logits on real and generated examples."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """Compute G's scalar loss from D's logits on generated and, for a ``relative`` loss, on real examples."""


class Minimax(AdversarialLoss):
    """Minimax loss: G minimizes log(1 - D(G(z))). Generative Adversarial Networks (arXiv:1406.2661), equation 1.

    Its gradient vanishes if D is certain, which is why section 3 of the paper trains with :class:`NonSaturating`.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -F.softplus(fake).mean()


class NonSaturating(AdversarialLoss):
    """Non-saturating loss: G maximizes log D(G(z)). Generative Adversarial Networks (arXiv:1406.2661), section 3."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return F.softplus(-fake).mean()


class LeastSquares(AdversarialLoss):
    """Least-squares loss: D's targets are 1 on real and -1 on generated data, and G's target is 0.

    Least Squares Generative Adversarial Networks (arXiv:1611.04076), equation 8, which minimizes the Pearson
    chi-squared divergence.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((real - 1).square().mean() + (fake + 1).square().mean())

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0.5 * fake.square().mean()


class Hinge(AdversarialLoss):
    """Hinge loss with margins at +1 and -1: Geometric GAN (arXiv:1705.02894)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Wasserstein(AdversarialLoss):
    """Wasserstein loss: the difference between the critic's means. Wasserstein GAN (arXiv:1701.07875).

    It estimates a distance only if the critic is Lipschitz: add ``gan/regularizer=gradient_penalty`` or
    ``weight_clipping``, or use a discriminator with ``spectral`` normalization.
    """

    calibrated: ClassVar[bool] = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class RelativisticPairing(AdversarialLoss):
    """Relativistic pairing loss: each generated example is compared with a real one.

    The GAN is dead; long live the GAN! (R3GAN, arXiv:2501.05441), equation 2, after The relativistic discriminator
    (arXiv:1807.00734). Local convergence is only proven with ``gan/regularizer=[r1,r2]``.
    """

    relative: ClassVar[bool] = True
    calibrated: ClassVar[bool] = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None
        return F.softplus(real - fake).mean()
