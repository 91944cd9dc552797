"""EDM: a denoiser with preconditioning, trained over a range of noise levels."""

from typing import ClassVar

import torch
from torch import Tensor

from genlab.errors import InputError
from genlab.models.diffusion.diffusion_model import DiffusionModel, NetworkFactory, Solver
from genlab.models.diffusion.paths import VarianceExploding, scaled


class EDM(DiffusionModel):
    """Elucidating the Design Space of Diffusion-Based Generative Models (arXiv:2206.00364).

    The denoiser is ``D(x; sigma) = c_skip x + c_out F(c_in x; c_noise)``, equation 7, with factors that keep inputs
    and targets of the network F at variance 1. The loss is ``lambda |D(x + sigma e; sigma) - x|^2``, with the noise
    level log-normal and ``lambda = 1 / c_out^2``. Samples follow the probability flow ODE by Heun's method, algorithm
    1, or with noise added on the way (``sampling.churn``), algorithm 2.

    Args:
        shape: shape of an example, ``(C, H, W)`` or ``(D,)``.
        networks: function that builds the network, such as ``genlab.networks.unet.UNet`` with its options set.
        path: noise levels of sampling; None for those of the paper.
        num_classes: number of classes; None for an unconditional model.
        levels: number of grey levels of images; None for points.
        label_dropout: share of training examples whose class is hidden, in [0, 1).
        sigma_data: standard deviation of the data, where grey levels lie in [-1, 1]; points have 1.
        log_mean: mean of the logarithm of the noise level in training, ``P_mean``.
        log_std: standard deviation of the logarithm, ``P_std``.
        num_steps: default of the sampling setting of this name.
        solver: default of the sampling setting of this name.

    Raises:
        InputError: if an option is out of its range, or the network is not for the shape.
    """

    available: ClassVar[tuple[Solver, ...]] = ("euler", "heun", "midpoint", "dopri5", "ddim", "ddpm", "dpm_solver_pp")

    def __init__(
        self,
        shape: tuple[int, ...],
        networks: NetworkFactory,
        path: VarianceExploding | None = None,
        num_classes: int | None = None,
        levels: int | None = 256,
        label_dropout: float = 0.1,
        sigma_data: float = 0.5,
        log_mean: float = -1.2,
        log_std: float = 1.2,
        num_steps: int = 18,
        solver: Solver = "heun",
    ) -> None:
        path = path or VarianceExploding()
        if not isinstance(path, VarianceExploding):
            raise InputError("path: EDM adds noise to data that it does not shrink; its path is VarianceExploding")
        if min(sigma_data, log_std) <= 0:
            raise InputError(f"sigma_data={sigma_data}, log_std={log_std}: expected above 0")
        # The logarithm of the noise level, over 4, is what the network sees as the time; it has no scale of thousands.
        super().__init__(shape, networks, path, num_classes, levels, label_dropout, time_scale=10.0)
        self.sigma_data = sigma_data if self.of_images else 1.0
        self.least, self.log_mean, self.log_std = path.sigma_min, log_mean, log_std
        self.sampling = self.Sampling(num_steps=num_steps, solver=solver)

    def denoiser(self, h: Tensor, sigma: Tensor, y: Tensor | None) -> Tensor:
        """Compute ``D(h; sigma)``, ``(B, *S)``, for noise levels ``(B,)``."""
        size = (sigma**2 + self.sigma_data**2).sqrt()
        c_skip, c_out, c_in = (self.sigma_data / size) ** 2, sigma * self.sigma_data / size, 1 / size
        found = self.network(scaled(c_in, h), (sigma.log() / 4).unsqueeze(1), y).to(h.dtype)
        return scaled(c_skip, h) + scaled(c_out, found)

    def loss(self, x: Tensor, y: Tensor | None = None) -> dict[str, Tensor]:
        """Compute the weighted squared error of the denoiser, for one noise level of each example."""
        y = self.training_classes(y)
        h = self.to_inner(x)
        sigma = torch.exp(self.log_mean + self.log_std * torch.randn(len(h), device=h.device, dtype=h.dtype))
        weight = (sigma**2 + self.sigma_data**2) / (sigma * self.sigma_data) ** 2
        error = self.denoiser(h + scaled(sigma, torch.randn_like(h)), sigma, y) - h
        return {"loss": scaled(weight, error.square()).mean()}

    def denoise(self, h: Tensor, t: Tensor, y: Tensor | None) -> tuple[Tensor, Tensor]:
        sigma = self.path.sigma(t).to(h.dtype).clamp_min(self.least)
        data = self.denoiser(h, sigma, y)
        return data, scaled(1 / sigma, h - data)
