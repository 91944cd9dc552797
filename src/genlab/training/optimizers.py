"""Optimizers that treat matrices otherwise than the rest."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import AdamW, Muon, Optimizer


def adamw(
    parameters: Iterable[nn.Parameter], weight_decay: float = 0.1, fused: bool | None = None, **options: Any
) -> AdamW:
    """AdamW (arXiv:1711.05101) that decays matrices and embeddings, and leaves biases and scales alone, as in GPT-3.

    Args:
        fused, **options: of :class:`torch.optim.AdamW`.
    """
    parameters = list(parameters)
    groups = [
        {"params": [p for p in parameters if p.ndim >= 2], "weight_decay": weight_decay},
        {"params": [p for p in parameters if p.ndim < 2], "weight_decay": 0.0},
    ]
    return AdamW([group for group in groups if group["params"]], fused=fused, **options)


class MuonWithAdamW(Optimizer):
    """Muon for matrices, AdamW for the rest: Muon is Scalable for LLM Training (arXiv:2502.16982).

    Muon's steps are made as large as AdamW's, so that both share a rate. Embeddings, matrices too, are AdamW's: their
    models mark them as such (``weight.embedding``).

    Args:
        parameters: of the model.
        lr: of both.
        betas, eps: of AdamW.
        momentum: of Muon.
        weight_decay: of matrices.
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
        """A schedule moves the rates of these groups: they are the parts' own."""
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
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]
