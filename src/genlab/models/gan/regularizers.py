"""Regularizers of the discriminator D and the generator G, which help training converge; they can be combined."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.models.adversarial import AdversarialModel

Critic = Callable[[Tensor], Tensor]  # function from examples (B, ...) to D's logits, with augmentation and classes


class Regularizer(nn.Module, ABC):
    """A penalty on D that is applied in every ``every``-th step of D, multiplied by ``every``.

    This is the lazy regularization of StyleGAN2 (arXiv:1912.04958, appendix B): a penalty changes slowly, and one with
    second derivatives costs more than the rest of a step.

    Args:
        every: number of discriminator steps per application.

    Attributes:
        of_images: whether the penalty is only defined for images.
        of_single_examples: whether the penalty takes the gradient of each example's logit with respect to that example
            alone. D must then not have batch normalization, in which a logit depends on the whole batch.
    """

    of_images: ClassVar[bool] = False
    of_single_examples: ClassVar[bool] = False

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise InputError(f"every={every}: expected a number of discriminator steps, at least 1")
        self.every = every

    def check(self, model: AdversarialModel) -> None:
        """Check that the model's discriminator allows this penalty.

        Raises:
            InputError: if it has layers that the penalty makes no sense with.
        """
        batch_norms = [m for m in model.discriminator.modules() if isinstance(m, nn.modules.batchnorm._BatchNorm)]
        if self.of_single_examples and batch_norms:
            raise InputError(
                f"{type(self).__name__} needs the gradient of each example alone, which batch normalization in the "
                "discriminator mixes: set model.normalization=none or spectral"
            )

    @abstractmethod
    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        """Compute the penalty, a scalar.

        Args:
            critic: D, to be called on other examples than the given ones.
            real: real examples ``(B, ...)``, leaf tensors that require gradients.
            fake: generated examples ``(B, ...)``, leaf tensors that require gradients.
            on_real: D's logits of the real examples.
            on_fake: D's logits of the generated examples.
        """

    def prepare(self, images_seen: int) -> None:
        """Update a weight that follows a schedule; called before each penalty."""

    def after_step(self, discriminator: nn.Module) -> None:
        """Modify D's weights, if needed; called after each step of D's optimizer."""


def squared_norm(logits: Tensor, x: Tensor) -> Tensor:
    """Compute ``|d logit / dx|²`` for each logit, ``(len(logits),)``, differentiably; packed examples count as one.

    For images, the gradient is converted to a pixel range of [-1, 1], for which the papers give their weights.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    scale = 0.5 if x.ndim == 4 else 1.0
    return (scale * gradient).reshape(len(logits), -1).square().sum(1)


class ZeroCentred(Regularizer):
    """Zero-centred gradient penalty ``gamma / 2 E |grad D|²``, whose ``gamma`` may decrease during training.

    R3GAN (arXiv:2501.05441) starts with a smooth D, which leads G to all modes of the data, and ends with a sharp D.

    Args:
        gamma: weight of the penalty; larger images need a larger weight.
        final_gamma: final value of ``gamma``, reached along half a cosine; None keeps ``gamma`` constant.
        decay_images: number of images seen when ``gamma`` reaches its final value; None if ``gamma`` is constant.
        every: number of discriminator steps per application.
    """

    of_single_examples: ClassVar[bool] = True

    gamma_now: Tensor  # a Python number would become a constant in a compiled loss

    def __init__(
        self, gamma: float = 1.0, final_gamma: float | None = None, decay_images: int | None = None, every: int = 1
    ) -> None:
        super().__init__(every)
        if (final_gamma is None) != (decay_images is None):
            raise InputError("final_gamma and decay_images belong together: where gamma goes, and how fast")
        self.gamma, self.final_gamma, self.decay_images = gamma, final_gamma, decay_images
        self.register_buffer("gamma_now", torch.tensor(float(gamma)), persistent=False)

    def prepare(self, images_seen: int) -> None:
        if self.final_gamma is not None and self.decay_images is not None:
            left = (1 + math.cos(math.pi * min(1.0, images_seen / self.decay_images))) / 2
            self.gamma_now.fill_(self.final_gamma + (self.gamma - self.final_gamma) * left)


class R1(ZeroCentred):
    """Gradient penalty on real data: Which Training Methods for GANs do actually Converge? (arXiv:1801.04406)."""

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        return self.gamma_now / 2 * squared_norm(on_real, real).mean()


class R2(ZeroCentred):
    """Gradient penalty on generated data (arXiv:1801.04406); R3GAN (arXiv:2501.05441) needs both R1 and R2."""

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        return self.gamma_now / 2 * squared_norm(on_fake, fake).mean()


class GradientPenalty(Regularizer):
    """Gradient penalty ``weight E (|grad D| - 1)²`` at random points between real and generated examples.

    Improved Training of Wasserstein GANs (arXiv:1704.00028).

    Args:
        weight: weight of the penalty, lambda in the paper.
        one_sided: whether to penalize only norms above 1 (section 4 of the paper; On the regularization of Wasserstein
            GANs, arXiv:1709.08894).
        every: number of discriminator steps per application.
    """

    of_single_examples: ClassVar[bool] = True

    def __init__(self, weight: float = 10.0, one_sided: bool = False, every: int = 1) -> None:
        super().__init__(every)
        self.weight, self.one_sided = weight, one_sided

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        packed = len(real) // len(on_real)  # examples that D judges together share the interpolation weight
        t = torch.rand(len(on_real), device=real.device, dtype=real.dtype).repeat_interleave(packed)
        t = t.view(-1, *[1] * (real.ndim - 1))
        between = torch.lerp(real, fake, t)
        excess = norm(critic(between), between) - 1
        return self.weight * (excess.clamp_min(0) if self.one_sided else excess).square().mean()


class DRAGAN(Regularizer):
    """DRAGAN: gradient penalty ``weight E (|grad D| - 1)²`` around real data.

    On Convergence and Stability of GANs (arXiv:1705.07215).

    Args:
        weight: weight of the penalty, lambda in the paper.
        scale: scale of the noise, which is uniform in ``[0, scale]`` times the standard deviation of the batch, as in
            the authors' code.
        every: number of discriminator steps per application.
    """

    of_single_examples: ClassVar[bool] = True

    def __init__(self, weight: float = 10.0, scale: float = 0.5, every: int = 1) -> None:
        super().__init__(every)
        self.weight, self.scale = weight, scale

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        around = real + self.scale * real.detach().std() * torch.rand_like(real)
        return self.weight * (norm(critic(around), around) - 1).square().mean()


def norm(logits: Tensor, x: Tensor) -> Tensor:
    """Compute ``|d logit / dx|`` for each logit, with a finite gradient at 0."""
    return (squared_norm(logits, x) + 1e-12).sqrt()


class Consistency(Regularizer):
    """Consistency regularization: D's logits must not change if an image is flipped and shifted a little.

    Consistency Regularization for Generative Adversarial Networks (arXiv:1910.12027). With ``generated``, it also
    covers generated images (balanced consistency regularization, arXiv:2002.04724).

    Args:
        weight: weight of the penalty on real images, lambda in the paper.
        shift: largest shift, in pixels.
        generated: weight of the penalty on generated images.
        every: number of discriminator steps per application.
    """

    of_images: ClassVar[bool] = True

    def __init__(self, weight: float = 10.0, shift: int = 4, generated: float = 0.0, every: int = 1) -> None:
        super().__init__(every)
        self.weight, self.shift, self.generated = weight, shift, generated

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        total = self.weight * (critic(self._moved(real.detach())) - on_real).square().mean()
        if self.generated:
            total = total + self.generated * (critic(self._moved(fake.detach())) - on_fake).square().mean()
        return total

    def _moved(self, x: Tensor) -> Tensor:
        B, _, H, W = x.shape
        shift = min(self.shift, H // 8, W // 8)
        rows, columns = (torch.randint(-shift, shift + 1, (B, 1), device=x.device) for _ in range(2))
        flip = torch.rand(B, 1, device=x.device) < 0.5
        i = (torch.arange(H, device=x.device) + rows).clamp(0, H - 1)  # (B, H); the border is repeated
        j = torch.arange(W, device=x.device).expand(B, W)
        j = (torch.where(flip, W - 1 - j, j) + columns).clamp(0, W - 1)
        batch = torch.arange(B, device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[batch, i[:, :, None], j[:, None, :]].permute(0, 3, 1, 2)


class WeightClipping(Regularizer):
    """Clipping of D's weights to ``[-bound, bound]``: Wasserstein GAN (arXiv:1701.07875)."""

    def __init__(self, bound: float = 0.01) -> None:
        super().__init__()
        self.bound = bound

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        return on_real.new_zeros(())

    @torch.no_grad()
    def after_step(self, discriminator: nn.Module) -> None:
        for parameter in discriminator.parameters():
            parameter.clamp_(-self.bound, self.bound)


class GeneratorRegularizer(nn.Module, ABC):
    """A penalty on G that is applied in every ``every``-th step of G, multiplied by ``every``.

    Args:
        every: number of generator steps per application.
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise InputError(f"every={every}: expected a number of generator steps, at least 1")
        self.every = every

    def check(self, model: AdversarialModel) -> None:
        """Check that the model's generator has the layers that this penalty needs.

        Raises:
            InputError: if the generator lacks them.
        """

    @abstractmethod
    def penalty(self, model: AdversarialModel, x: Tensor, y: Tensor) -> Tensor:
        """Compute the penalty, a scalar, over as many generated examples as there are real ones.

        Args:
            model: GAN whose generator is penalized; the penalty draws its own latents.
            x: real examples, ``(B, ...)``.
            y: classes of the real examples, ``(B,)``.
        """


class PathLength(GeneratorRegularizer):
    """Path length regularization: a step of fixed size in w should always change the image by the same amount.

    StyleGAN2 (arXiv:1912.04958), section 3.2. Each layer has its own w, and the squared length is averaged over the
    layers, as in the authors' code. Since the noise is also scaled, a weight of 2 corresponds to gamma of the paper's
    appendix B at every resolution.

    Args:
        weight: weight of ``E (|J^T noise| - mean)²``, where the noise is divided by the square root of the number of
            pixels.
        decay: decay of the running mean of lengths, per application.
        shrink: divisor of the batch size, which saves memory for the second derivatives.
        every: number of generator steps per application.

    Attributes:
        mean: running mean of the lengths; a buffer, so that checkpoints contain it.
    """

    mean: Tensor

    def __init__(self, weight: float = 2.0, decay: float = 0.99, shrink: int = 2, every: int = 4) -> None:
        super().__init__(every)
        if shrink < 1:
            raise InputError(f"shrink={shrink}: expected a divisor of the batch size, at least 1")
        self.weight, self.decay, self.shrink = weight, decay, shrink
        self.register_buffer("mean", torch.zeros(()))

    def check(self, model: AdversarialModel) -> None:
        generator = getattr(model, "generator", None)
        if not hasattr(generator, "mapping") or not hasattr(generator, "synthesis"):
            raise InputError("path_length needs a generator with styles w, such as model=gan/stylegan2")

    def penalty(self, model: AdversarialModel, x: Tensor, y: Tensor) -> Tensor:
        generator = model.generator
        z = torch.randn(len(x), model.latent_dim, device=x.device)
        num = -(-len(z) // self.shrink)
        w = generator.mapping(z[:num], y[:num])  # type: ignore[operator]
        ws = w.unsqueeze(1).expand(-1, generator.synthesis.num_layers, -1)  # type: ignore[union-attr]
        images = generator.synthesis(ws)  # type: ignore[operator]
        noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)  # (num, layers, style_dim)
        lengths = 2 * gradient.float().square().sum(2).mean(1).sqrt()  # lengths for a pixel range of [-1, 1]
        mean = lengths.detach().mean()
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        self.mean.lerp_(mean, 1 - self.decay)
        return self.weight * (lengths - self.mean.clone()).square().mean()
