"""What is added to D's loss, or done to its weights, so that the game converges; any number of them together."""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar

import torch
import torch.distributed as dist
from torch import Tensor, nn

from genlab.errors import InputError
from genlab.models.base import AdversarialModel

Critic = Callable[[Tensor], Tensor]  # examples (B, ...) to D's logits, with their classes and augmentation


class Regularizer(nn.Module, ABC):
    """A penalty on D, of every ``every``-th step of it, and then ``every`` times as strong.

    Laziness is StyleGAN2's (arXiv:1912.04958, appendix B): a penalty varies slowly, and one of second derivatives
    costs more than the rest of a step.

    Args:
        every: steps of D.

    Attributes:
        of_images: it has no meaning for other data.
    """

    of_images: ClassVar[bool] = False

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise InputError(f"every={every}: of every so many steps of D, 1 or more")
        self.every = every

    @abstractmethod
    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        """A scalar.

        Args:
            critic: D, for other examples than these.
            real, fake: ``(B, ...)``, leaves that require gradients.
            on_real, on_fake: D's logits of them.
        """

    def prepare(self, images_seen: int) -> None:
        """Called before each penalty, for weights that change in training."""

    def after_step(self, discriminator: nn.Module) -> None:
        """Called when D's weights have moved."""


def squared_norm(logits: Tensor, x: Tensor) -> Tensor:
    """``|d logit / dx|²`` of each logit, ``(len(logits),)``, differentiable; packed examples count as one.

    Of images it is the gradient on a scale from -1 to 1, on which the papers' weights are stated.
    """
    (gradient,) = torch.autograd.grad(logits.sum(), x, create_graph=True)
    gradient = gradient.to(torch.promote_types(gradient.dtype, torch.float32))
    scale = 0.5 if x.ndim == 4 else 1.0
    return (scale * gradient).reshape(len(logits), -1).square().sum(1)


class ZeroCentred(Regularizer):
    """``gamma / 2 E |grad D|²``, where ``gamma`` may fall as training goes on.

    R3GAN (arXiv:2501.05441) starts with a smooth D, which leads G to all of the data, and ends with a sharp one.

    Args:
        gamma: weight; the larger the images, the larger.
        final_gamma: where ``gamma`` goes, on half a cosine; ``None`` to stay.
        decay_images: seen until it is there.
    """

    gamma_now: Tensor  # a number would be a constant of a compiled loss

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
    """On real data: Which Training Methods for GANs do actually Converge? (arXiv:1801.04406)."""

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        return self.gamma_now / 2 * squared_norm(on_real, real).mean()


class R2(ZeroCentred):
    """On generated data (arXiv:1801.04406); R3GAN (arXiv:2501.05441) needs both."""

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        return self.gamma_now / 2 * squared_norm(on_fake, fake).mean()


class GradientPenalty(Regularizer):
    """``weight E (|grad D| - 1)²`` between real and generated data: Improved Training of Wasserstein GANs
    (arXiv:1704.00028).

    Args:
        weight: lambda.
        one_sided: penalise norms above 1 only (its section 4; On the regularization of Wasserstein GANs,
            arXiv:1709.08894).
    """

    def __init__(self, weight: float = 10.0, one_sided: bool = False, every: int = 1) -> None:
        super().__init__(every)
        self.weight, self.one_sided = weight, one_sided

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        packed = len(real) // len(on_real)  # examples that D sees as one move together
        t = torch.rand(len(on_real), device=real.device, dtype=real.dtype).repeat_interleave(packed)
        t = t.view(-1, *[1] * (real.ndim - 1))
        between = torch.lerp(real, fake, t)
        excess = norm(critic(between), between) - 1
        return self.weight * (excess.clamp_min(0) if self.one_sided else excess).square().mean()


class DRAGAN(Regularizer):
    """``weight E (|grad D| - 1)²`` around real data: On Convergence and Stability of GANs (arXiv:1705.07215).

    Args:
        weight: lambda.
        scale: of the noise, uniform in ``[0, scale]`` times the standard deviation of the batch, as in the authors'
            code.
    """

    def __init__(self, weight: float = 10.0, scale: float = 0.5, every: int = 1) -> None:
        super().__init__(every)
        self.weight, self.scale = weight, scale

    def penalty(self, critic: Critic, real: Tensor, fake: Tensor, on_real: Tensor, on_fake: Tensor) -> Tensor:
        around = real + self.scale * real.detach().std() * torch.rand_like(real)
        return self.weight * (norm(critic(around), around) - 1).square().mean()


def norm(logits: Tensor, x: Tensor) -> Tensor:
    """``|d logit / dx|`` of each logit, with a gradient at 0."""
    return (squared_norm(logits, x) + 1e-12).sqrt()


class Consistency(Regularizer):
    """D must say the same of an image and of the image flipped and moved a little: Consistency Regularization for GANs
    (arXiv:1910.12027); with ``generated`` of generated images too (balanced: arXiv:2002.04724).

    Args:
        weight: lambda.
        shift: pixels, at most.
        generated: the weight of generated images.
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
        i = (torch.arange(H, device=x.device) + rows).clamp(0, H - 1)  # (B, H), the edge repeats
        j = torch.arange(W, device=x.device).expand(B, W)
        j = (torch.where(flip, W - 1 - j, j) + columns).clamp(0, W - 1)
        batch = torch.arange(B, device=x.device)[:, None, None]
        return x.permute(0, 2, 3, 1)[batch, i[:, :, None], j[:, None, :]].permute(0, 3, 1, 2)


class WeightClipping(Regularizer):
    """Keeps D's weights in ``[-bound, bound]``: Wasserstein GAN (arXiv:1701.07875)."""

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
    """A penalty on G, of every ``every``-th step of it, and then ``every`` times as strong.

    Args:
        every: steps of G.
    """

    def __init__(self, every: int = 1) -> None:
        super().__init__()
        if every < 1:
            raise InputError(f"every={every}: of every so many steps of G, 1 or more")
        self.every = every

    def check(self, model: AdversarialModel) -> None:
        """Raise InputError if the model's generator lacks the layers that this penalty needs."""

    @abstractmethod
    def penalty(self, model: AdversarialModel, x: Tensor, y: Tensor) -> Tensor:
        """Compute the penalty, a scalar, of as many examples as are real.

        Args:
            model: players; the penalty draws the latents that it needs.
            x: real examples, ``(B, ...)``.
            y: their classes, ``(B,)``.
        """


class PathLength(GeneratorRegularizer):
    """A step of fixed size in w changes the image by a fixed amount, whatever w and the direction: StyleGAN2
    (arXiv:1912.04958), section 3.2.

    Each layer has its own w, and the squared length is the mean over the layers, as in the authors' code: with that and
    the scaled noise, a weight of 2 is the gamma of the paper's appendix B at every resolution.

    Its running mean of lengths is a buffer of the training, so that a resumed run goes on with it.

    Args:
        weight: of ``E (|J^T noise| - mean)²``, the noise being divided by the root of the pixels.
        decay: of the running mean, per penalty.
        shrink: divides the batch, for the memory of second derivatives.
    """

    mean: Tensor

    def __init__(self, weight: float = 2.0, decay: float = 0.99, shrink: int = 2, every: int = 4) -> None:
        super().__init__(every)
        if shrink < 1:
            raise InputError(f"shrink={shrink}: the batch is divided by 1 or more")
        self.weight, self.decay, self.shrink = weight, decay, shrink
        self.register_buffer("mean", torch.zeros(()))

    def check(self, model: AdversarialModel) -> None:
        generator = getattr(model, "generator", None)
        if not hasattr(generator, "mapping") or not hasattr(generator, "synthesis"):
            raise InputError("gan/regularizer=path_length is of styles w, which model=gan/stylegan2 has")

    def penalty(self, model: AdversarialModel, x: Tensor, y: Tensor) -> Tensor:
        generator = model.generator
        z = torch.randn(len(x), model.latent_dim, device=x.device)
        num = -(-len(z) // self.shrink)
        w = generator.mapping(z[:num], y[:num])  # type: ignore[operator]
        ws = w.unsqueeze(1).expand(-1, generator.synthesis.num_layers, -1)  # type: ignore[union-attr]
        images = generator.synthesis(ws)  # type: ignore[operator]
        noise = torch.randn_like(images) / math.sqrt(images.shape[2] * images.shape[3])
        (gradient,) = torch.autograd.grad((images * noise).sum(), ws, create_graph=True)  # (num, layers, style_dim)
        lengths = 2 * gradient.float().square().sum(2).mean(1).sqrt()  # of images from -1 to 1
        mean = lengths.detach().mean()
        if dist.is_initialized() and dist.get_world_size() > 1:
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        self.mean.lerp_(mean, 1 - self.decay)
        return self.weight * (lengths - self.mean.clone()).square().mean()
