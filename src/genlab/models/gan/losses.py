"""The game's losses, one small class each: what D and what G minimise, given D's logits ``(B,)``, high for real."""

from abc import ABC, abstractmethod
from typing import ClassVar

import torch.nn.functional as F
from torch import Tensor


class AdversarialLoss(ABC):
    """The losses of both players of one game, given the discriminator's logits.

    Attributes:
        relative: G's loss needs D's logits on real data, too.
        calibrated: the logits' sign tells real from generated, so that D has an accuracy.
    """

    relative: ClassVar[bool] = False
    calibrated: ClassVar[bool] = True

    @abstractmethod
    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        """D's scalar loss from its logits on real and generated examples."""

    @abstractmethod
    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        """G's scalar loss from D's logits on generated examples, and on real ones where the loss is ``relative``."""


class Minimax(AdversarialLoss):
    """G minimises log(1 - D(G(z))), the game of Generative Adversarial Networks (arXiv:1406.2661), equation 1.

    Its gradient vanishes where D is sure, which is why the paper's section 3 trains with :class:`NonSaturating`.
    """

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -F.softplus(fake).mean()


class NonSaturating(AdversarialLoss):
    """G maximises log D(G(z)): Generative Adversarial Networks (arXiv:1406.2661), section 3."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(-real).mean() + F.softplus(fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return F.softplus(-fake).mean()


class LeastSquares(AdversarialLoss):
    """D regresses to 1 on real and -1 on generated data, G wants 0 of it: Least Squares Generative Adversarial Networks
    (arXiv:1611.04076), equation 8, which minimises the Pearson chi-squared divergence."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return 0.5 * ((real - 1).square().mean() + (fake + 1).square().mean())

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return 0.5 * fake.square().mean()


class Hinge(AdversarialLoss):
    """Margins at +1 and -1: Geometric GAN (arXiv:1705.02894)."""

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.relu(1 - real).mean() + F.relu(1 + fake).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class Wasserstein(AdversarialLoss):
    """The critic's difference of means: Wasserstein GAN (arXiv:1701.07875).

    It is a distance only of a Lipschitz critic: add ``gan/regularizer=gradient_penalty`` or ``weight_clipping``, or a
    discriminator with ``spectral`` normalization.
    """

    calibrated: ClassVar[bool] = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return fake.mean() - real.mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        return -fake.mean()


class RelativisticPairing(AdversarialLoss):
    """Each generated example is judged against a real one: The GAN is dead; long live the GAN! (R3GAN,
    arXiv:2501.05441), equation 2, after The relativistic discriminator (arXiv:1807.00734).

    Local convergence is proven with ``gan/regularizer=[r1,r2]``, not without.
    """

    relative: ClassVar[bool] = True
    calibrated: ClassVar[bool] = False

    def discriminator(self, real: Tensor, fake: Tensor) -> Tensor:
        return F.softplus(fake - real).mean()

    def generator(self, fake: Tensor, real: Tensor | None = None) -> Tensor:
        assert real is not None
        return F.softplus(real - fake).mean()
