"""The state of every random number generator, on every process, as plain values that a checkpoint can hold."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

State = dict[str, Any]


def capture(device: torch.device) -> State:
    """Of this process; it is given back by :func:`restore`."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: State = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, gauss],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore(state: State, device: torch.device) -> None:
    torch.set_rng_state(state["torch"].cpu())
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)


def gathered(state: State) -> list[State]:
    """The states of all processes, in the order of their ranks, on each of them."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states
