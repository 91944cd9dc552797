"""States of all random number generators on all processes, as plain values for checkpoints."""

import random
from typing import Any

import numpy as np
import torch
import torch.distributed as dist

State = dict[str, Any]


def capture(device: torch.device) -> State:
    """Capture the states of this process's random number generators."""
    name, keys, position, has_gauss, gauss = np.random.get_state(legacy=True)
    state: State = {
        "torch": torch.get_rng_state(),
        "python": random.getstate(),
        "numpy": [name, np.asarray(keys).tolist(), position, has_gauss, gauss],
    }
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    elif device.type == "mps":
        state["mps"] = torch.mps.get_rng_state()
    return state


def restore(state: State, device: torch.device) -> None:
    """Restore the states captured by :func:`capture`."""
    torch.set_rng_state(state["torch"].cpu())
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))
    name, keys, position, has_gauss, cached = state["numpy"]
    np.random.set_state((name, np.array(keys, dtype=np.uint32), position, has_gauss, cached))
    if "cuda" in state and device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"].cpu(), device)
    elif "mps" in state and device.type == "mps":
        torch.mps.set_rng_state(state["mps"].cpu())


def gathered(state: State) -> list[State]:
    """Gather the states of all processes, in the order of their ranks, on every process."""
    if not dist.is_available() or not dist.is_initialized() or dist.get_world_size() == 1:
        return [state]
    states: list[Any] = [None] * dist.get_world_size()
    dist.all_gather_object(states, state)
    return states
