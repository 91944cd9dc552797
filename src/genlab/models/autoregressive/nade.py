"""NADE: images drawn one value at a time, from hidden units whose pre-activations each value updates."""

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from genlab.distributions.drawing import Draws
from genlab.distributions.noise import mix
from genlab.distributions.pixel import PixelDistribution
from genlab.errors import InputError
from genlab.layers.raster import to_image, to_sequence
from genlab.models.adversarial import given
from genlab.models.base import AutoregressiveModel

Activation = Literal["sigmoid", "relu"]


class Recursion(torch.autograd.Function):
    """Algorithm 1 of the paper: ``V_i s(a_i)`` at all positions i, where ``a_1 = c`` and ``a_{i+1} = a_i + x_i W_i``.

    Only one pre-activation ``a`` is stored; the backward pass subtracts from it what the forward pass has added. On a
    CPU it stays in the cache, so that arithmetic limits the speed; autograd would write all D of them to memory. ``T``
    positions are computed at once, which saves kernel launches on a GPU.
    """

    @staticmethod
    def forward(ctx: Any, c: Tensor, x: Tensor, W: Tensor, V: Tensor, activation: Activation, T: int) -> Tensor:
        """Compute ``(D, B, P)`` from ``c`` ``(B, H)``, ``x`` ``(D, B)``, ``W`` ``(D, H)`` and ``V`` ``(D, P, H)``."""
        a = c.clone()
        out = x.new_empty(*x.shape, V.shape[1])
        for x_now, W_now, V_now, out_now in zip(*(t.split(T) for t in (x, W, V, out)), strict=True):
            torch.bmm(_hidden(a, x_now, W_now, activation), V_now.mT, out=out_now)
            a.addmm_(x_now.T, W_now)
        ctx.save_for_backward(a, x, W, V)
        ctx.activation, ctx.T = activation, T
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        a, x, W, V = ctx.saved_tensors
        a = a.clone()  # the backward pass may run again, from the same saved tensor
        grad_a = torch.zeros_like(a)  # gradient of a from all positions after this one
        grad_x = torch.zeros_like(x)
        grad_W, grad_V = torch.empty_like(W), torch.empty_like(V)
        parts = list(zip(*(t.split(ctx.T) for t in (x, W, V, grad, grad_x, grad_W, grad_V)), strict=True))
        with torch.autocast(a.device.type, enabled=False):
            for x_now, W_now, V_now, grad_now, grad_x_now, grad_W_now, grad_V_now in reversed(parts):
                a.addmm_(x_now.T, W_now, alpha=-1)
                h = _hidden(a, x_now, W_now, ctx.activation)  # (T, B, H)
                torch.bmm(grad_now.mT, h, out=grad_V_now)
                slope = _through(torch.bmm(grad_now, V_now), h, ctx.activation)
                if ctx.T == 1:
                    behind = grad_a[None]
                else:  # gradients from all positions after t, whose pre-activations include x_t
                    behind = torch.cat([slope[1:].flip(0).cumsum(0).flip(0) + grad_a, grad_a[None]])
                torch.bmm(x_now[:, None], behind, out=grad_W_now[:, None])
                if ctx.needs_input_grad[1]:
                    torch.sum(behind * W_now[:, None], -1, out=grad_x_now)
                grad_a += slope[0] if ctx.T == 1 else slope.sum(0)
        return grad_a, grad_x, grad_W, grad_V, None, None


def _hidden(a: Tensor, x: Tensor, W: Tensor, activation: Activation) -> Tensor:
    """Compute the hidden units ``(T, B, H)`` of T positions; ``a`` is the pre-activation of the first one."""
    T = len(x)
    if T == 1:
        a = a[None]
    else:
        # (T, B, T): [t, :, s] is x_s if s is before t, else 0, so that position t adds x_s W_s of the earlier ones.
        before = x.T * x.new_ones(T, T).tril(-1)[:, None]
        a = torch.baddbmm(a, before, W.expand(T, -1, -1))
    return a.sigmoid() if activation == "sigmoid" else a.relu()


def _through(grad: Tensor, h: Tensor, activation: Activation) -> Tensor:
    """Convert the gradient of hidden units ``h`` to the gradient of their pre-activations."""
    if activation == "sigmoid":
        return torch.ops.aten.sigmoid_backward(grad, h)
    return torch.ops.aten.threshold_backward(grad, h, 0)


class NADE(AutoregressiveModel):
    """Neural Autoregressive Distribution Estimation (arXiv:1605.02226), section 2.

    ``p(x) = prod_i p(x_i | x_<i)``. Position i has the hidden units ``h_i = sigmoid(c + W[:, <i] x_<i)``, and the
    parameters of its distribution are ``b_i + V_i h_i``. Each class has its own ``c``.

    The model computes in the precision of its weights under autocast too, because sums of a thousand terms lose too
    much in bfloat16.

    Args:
        shape: image shape ``(C, H, W)``.
        distribution: distribution of one value given the values before it.
        hidden: number of hidden units, H of the paper.
        num_classes: number of classes; None for an unconditional model.
        activation: activation of the hidden units; the paper's is the sigmoid.
        order: order of the values: "natural" is raster order, the channels of a pixel one after the other; "random" is
            one permutation of it.
        seed: random seed of the random order, which checkpoints store.
        chunk: number of positions computed at once, which affects the speed only; None for 1 on a CPU, 32 elsewhere.

    Raises:
        InputError: if the shape is not an image's, a size is not positive, or a name is unknown.
    """

    order: Tensor

    def __init__(
        self,
        shape: tuple[int, ...],
        distribution: PixelDistribution,
        hidden: int = 500,
        num_classes: int | None = None,
        activation: Activation = "sigmoid",
        order: Literal["natural", "random"] = "natural",
        seed: int = 0,
        chunk: int | None = None,
    ) -> None:
        super().__init__(shape, num_classes)
        if len(shape) != 3:
            raise InputError(f"shape {tuple(shape)}: NADE models images (C, H, W)")
        if hidden < 1 or (chunk is not None and chunk < 1):
            raise InputError(f"hidden={hidden}, chunk={chunk}: expected at least 1 of each")
        if activation not in ("sigmoid", "relu"):
            raise InputError(f"activation={activation}: choose one of sigmoid, relu")
        if order not in ("natural", "random"):
            raise InputError(f"order={order}: choose natural or random")
        D, P = self.num_dims, distribution.num_params
        self.distribution = distribution
        self.chunk = chunk
        self.activation = activation
        # order[i] is the raster index of the i-th value; W, V and b are in this order too.
        permutation = torch.randperm(D, generator=torch.Generator().manual_seed(mix(seed)))
        self.register_buffer("order", permutation if order == "random" else torch.arange(D))
        self.W = nn.Parameter(torch.empty(D, hidden).uniform_(-(D**-0.5), D**-0.5))  # transposed: row i is for x_i
        self.V = nn.Parameter(torch.empty(P, D, hidden).uniform_(-(hidden**-0.5), hidden**-0.5))
        self.b = nn.Parameter(torch.empty(P, D).uniform_(-(hidden**-0.5), hidden**-0.5))
        self.c = nn.Parameter(torch.empty(num_classes or 1, hidden).uniform_(-(D**-0.5), D**-0.5))

    def initialize(self, x: Tensor, y: Tensor | None = None) -> None:
        """Set the biases to each value's marginal distribution in ``x``."""
        with torch.no_grad():
            self.b.copy_(self.distribution.fit(to_sequence(x)[:, self.order]))

    def _start(self, num: int, y: Tensor | None) -> Tensor:
        """Return the pre-activations of the first position, ``(num, H)``."""
        return self.c.expand(num, -1) if self.num_classes is None else self.c[given(y)]

    def _params(self, x: Tensor, y: Tensor | None) -> Tensor:
        """Map values in the model's order ``(B, D)`` to the parameters of each, ``(B, P, D)``."""
        T = self.chunk or (1 if x.device.type == "cpu" else 32)
        with torch.autocast(x.device.type, enabled=False):
            x = x.T.to(self.W.dtype).contiguous()
            V = self.V.transpose(0, 1).contiguous()
            start = self._start(x.shape[1], y)
            out: Tensor = Recursion.apply(start, x, self.W, V, self.activation, T)
            return out.permute(1, 2, 0) + self.b

    def forward(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        """Map images in [0, 1] to each value's parameters given the values before, ``(B, num_params, C, H, W)``."""
        params = self._params(to_sequence(x)[:, self.order], y)
        return to_image(params[..., self.order.argsort()], self.shape)

    def log_prob_map(self, x: Tensor, y: Tensor | None = None) -> Tensor:
        values = to_sequence(x)[:, self.order]
        log_probs = self.distribution.log_prob(self._params(values, y), values)
        return to_image(log_probs[:, self.order.argsort()], self.shape)

    @property
    def orders(self) -> Tensor:
        return to_image(self.order.argsort(), self.shape).unsqueeze(0)

    def _generate(self, draws: Draws, y: Tensor | None) -> Tensor:
        """Draw value by value; each updates the pre-activations, so all together cost as much as one forward pass."""
        draws = draws.map(to_sequence)
        a = self._start(len(draws.u), y)
        x = torch.empty_like(draws.u)  # (N, D)
        for i, value in enumerate(self.order.tolist()):
            h = a.sigmoid() if self.activation == "sigmoid" else a.relu()
            params = h @ self.V[:, i].T + self.b[:, i]  # (N, P)
            x[:, value] = draws(params, value)
            a = a + x[:, value, None].to(a.dtype) * self.W[i]
        return to_image(x, self.shape)
