"""Optimizers that treat matrices differently from other parameters."""

import math
from collections.abc import Callable, Iterable
from inspect import signature
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer

from genlab.errors import InputError
from genlab.training.whole import divided_like, is_divided, whole


def adamw(
    parameters: Iterable[nn.Parameter], weight_decay: float = 0.1, fused: bool | None = None, **options: Any
) -> AdamW:
    """Build AdamW (arXiv:1711.05101) with weight decay on matrices and embeddings, but not on biases and scales.

    GPT-3 was trained in this way.

    Args:
        parameters: parameters to optimize.
        weight_decay: weight decay of parameters with at least two dimensions.
        fused: whether to use the fused kernel; None for PyTorch's default.
        **options: further options of :class:`torch.optim.AdamW`.
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], fused=fused, **options)


class MuonWithAdamW(Optimizer):
    """Muon for matrices and AdamW for all other parameters: Muon is Scalable for LLM Training (arXiv:2502.16982).

    Muon's steps are scaled to the size of AdamW's, so that both use one learning rate. Embeddings are matrices too, but
    are optimized by AdamW; models mark them with the attribute ``embedding`` of the weight.

    Args:
        parameters: parameters to optimize.
        lr: learning rate of both optimizers.
        betas: decay rates of AdamW's moments.
        eps: term added to the denominator of AdamW.
        momentum: momentum of Muon.
        weight_decay: weight decay of matrices and embeddings.
    """

    def __init__(
        self,
        parameters: Iterable[nn.Parameter],
        lr: float = 1e-3,
        betas: tuple[float, float] = (0.9, 0.95),
        eps: float = 1e-8,
        momentum: float = 0.95,
        weight_decay: float = 0.1,
    ) -> None:
        parameters = list(parameters)
        matrices = [p for p in parameters if p.ndim == 2 and not getattr(p, "embedding", False)]
        of_muon = set(map(id, matrices))
        self.parts: list[Optimizer] = []
        if matrices:
            self.parts.append(
                Muon(matrices, lr=lr, momentum=momentum, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
            )
        if rest := [p for p in parameters if id(p) not in of_muon]:
            self.parts.append(adamw(rest, weight_decay, lr=lr, betas=betas, eps=eps))
        super().__init__([group for part in self.parts for group in part.param_groups], {"lr": lr})
        self._share_groups()

    def _share_groups(self) -> None:
        """Let both optimizers use the parameter groups of this one, whose learning rates a schedule changes."""
        groups = iter(self.param_groups)
        for part in self.parts:
            part.param_groups = [next(groups) for _ in part.param_groups]

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            if isinstance(part, Muon) and any(is_divided(p) for group in part.param_groups for p in group["params"]):
                _step_whole(part)
            else:
                part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]


def _step_whole(muon: Muon) -> None:
    """Take a step with matrices that are divided among processes, each put together for its own step.

    A part of a matrix cannot be made orthogonal by itself.
    """
    for group in muon.param_groups:
        options = {name: value for name, value in group.items() if name in signature(Muon).parameters}
        for parameter in group["params"]:
            if parameter.grad is None:
                continue
            matrix = nn.Parameter(whole(parameter.detach()))
            matrix.grad = whole(parameter.grad)
            alone = Muon([matrix], **{name: value for name, value in options.items() if name != "params"})
            if muon.state[parameter]:
                alone.state[matrix] = whole(muon.state[parameter])
            alone.step()
            parameter.copy_(divided_like(parameter, matrix.detach()))
            muon.state[parameter] = {k: divided_like(parameter, v) for k, v in alone.state[matrix].items()}


def check_settings(factory: Callable[..., Optimizer], weights: list[nn.Parameter], where: str) -> None:
    """Check that an optimizer accepts its settings, by building one that is thrown away.

    Args:
        factory: function from parameters to an optimizer.
        weights: parameters to optimize, which are left as they are.
        where: config key of the optimizer, for the error message.

    Raises:
        InputError: if it does not; the message names the key of the setting at fault.
    """
    settings = dict(getattr(factory, "keywords", {}))
    for key, value in settings.items():
        if isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}.{key}={value}: expected a finite number")
    if (fault := _refusal(factory, weights)) is None:
        return
    make = getattr(factory, "func", factory)
    for key, value in settings.items():
        if (alone := _refusal(make, weights, **{key: value})) is not None and _refusal(make, weights) is None:
            raise InputError(f"{where}.{key}={value}: {alone}")
    raise InputError(f"{where}: {fault}")


def _refusal(make: Callable[..., Optimizer], weights: list[nn.Parameter], **settings: Any) -> str | None:
    """Give the reason for which an optimizer refuses its settings; None if it accepts them."""
    try:
        make(list(weights), **settings)
    except (ValueError, TypeError) as error:
        return str(error).splitlines()[0] if str(error) else type(error).__name__
    return None
