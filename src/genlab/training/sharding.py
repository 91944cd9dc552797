"""Data-parallel training with weights, gradients and optimizer state divided among the processes (ZeRO, 1910.02054).

PyTorch's FSDP2 divides each weight along its first dimension and leaves its shape as it was, so that an optimizer still
tells matrices from vectors. Between two steps the weights are put together again, as the next step needs them whole
anyway. What looks at a model outside of a step, such as validation or sampling, therefore needs to know nothing of it.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from copy import deepcopy
from typing import Any

import pytorch_lightning as pl
import torch
import torch.distributed as dist
from pytorch_lightning.strategies import DDPStrategy
from pytorch_lightning.trainer.states import TrainerStatus
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.optim import Optimizer

from genlab.training.module import TrainingModule
from genlab.training.processes import share_buffers
from genlab.training.whole import divided_like, whole


def shard(model: nn.Module, mesh: Any) -> nn.Module:
    """Give a copy of a model whose weights are divided among processes.

    Args:
        model: model, the same on all processes.
        mesh: processes, as a mesh of one dimension.
    """
    copy = deepcopy(model)
    marks = {name: dict(vars(parameter)) for name, parameter in model.named_parameters()}  # which copies do not have
    scalars = {parameter for parameter in copy.parameters() if not parameter.shape}  # which cannot be divided
    fully_shard(copy, mesh=mesh, reshard_after_forward=False, ignored_params=scalars)
    for scalar in scalars:
        if scalar.requires_grad:
            scalar.register_post_accumulate_grad_hook(_average)
    for name, parameter in copy.named_parameters():
        vars(parameter).update(marks[name])  # such as that of an embedding
    register_fsdp_forward_method(copy, "loss")
    return copy


def _average(scalar: Tensor) -> None:
    assert scalar.grad is not None
    dist.all_reduce(scalar.grad)
    scalar.grad /= dist.get_world_size()


class PutTogether(pl.Callback):
    """A callback that puts the weights of a :class:`Sharded` training together between its steps.

    It has to be the first, because the others look at the model.

    Args:
        strategy: strategy of the training.
    """

    def __init__(self, strategy: "Sharded") -> None:
        self.strategy = strategy

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._unshard()

    def on_train_batch_start(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        for model in self.strategy.models()[1:]:  # the average is updated in its parts
            model.reshard()

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *_: Any) -> None:
        self._unshard()

    @torch.no_grad()
    def _unshard(self) -> None:
        for model in self.strategy.models():
            model.unshard()


class Sharded(DDPStrategy):
    """Lightning strategy for a training procedure whose model, and its average, are divided among the processes.

    Checkpoints are those of one process: any number of processes goes on from them.

    Attributes:
        callbacks: callbacks that the trainer needs, before all others.
    """

    def __init__(self) -> None:
        super().__init__()
        self.callbacks = [PutTogether(self)]
        self._given: dict[nn.Module, nn.Module] = {}  # whole models, by their owners, while divided copies are trained

    def configure_ddp(self) -> None:
        training = self._training
        share_buffers(training)
        mesh = init_device_mesh(self.root_device.type, (self.world_size,))
        for owner in self._owners():
            self._given[owner] = owner.model
            owner.model = shard(self._given[owner], mesh)
            self._given[owner].cpu()  # where Lightning moves a model after its training, too

    @property
    def _training(self) -> TrainingModule:
        assert isinstance(self.lightning_module, TrainingModule)
        return self.lightning_module

    def _owners(self) -> list[Any]:
        return [owner for owner in (self._training, self._training.ema) if owner is not None]

    def lightning_module_state_dict(self) -> dict[str, Any]:
        with self._divided():
            state: dict[str, Any] = whole(super().lightning_module_state_dict())
        return state

    def optimizer_state(self, optimizer: Optimizer) -> dict[str, Any]:
        state: dict[str, Any] = whole(super().optimizer_state(optimizer))
        return state

    def load_optimizer_state_dict(self, checkpoint: Any) -> None:
        super().load_optimizer_state_dict(checkpoint)
        for optimizer in self.optimizers:
            for part in getattr(optimizer, "parts", [optimizer]):
                for parameter, state in part.state.items():
                    part.state[parameter] = {name: divided_like(parameter, value) for name, value in state.items()}

    @contextmanager
    def _divided(self) -> Iterator[None]:
        """Divide the models inside the context, and put them together again at its end."""
        for model in self.models():
            model.reshard()
        try:
            yield
        finally:
            for model in self.models():
                model.unshard()

    def models(self) -> list[FSDPModule]:
        """List the divided models."""
        return [owner.model for owner in self._given]  # type: ignore[misc]

    def teardown(self) -> None:
        # After an error the other processes may be gone, and nobody asks for the model.
        if self._given and self._training.trainer.state.status != TrainerStatus.INTERRUPTED:
            for owner, given in self._given.items():
                model: Any = owner.model
                model.reshard()
                given.load_state_dict(whole(model.state_dict()))
                owner.model = given
            self._given = {}
        super().teardown()
