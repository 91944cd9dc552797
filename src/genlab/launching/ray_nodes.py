"""A job on several machines of a Ray cluster: a task on each, all at once, and again if one of them is lost."""

import os
import socket
import sys
import time
from collections.abc import Mapping
from typing import Any

import ray
from hydra.core.utils import JobReturn
from ray.exceptions import RayError, RayTaskError
from ray.util import get_node_ip_address
from ray.util.placement_group import PlacementGroup, placement_group, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from genlab.errors import InputError, RunFailed
from genlab.launching.meeting import ENDPOINT, NODE, PATIENCE, patience
from genlab.machine.process import quiet_torch

LOOK = 2.0  # seconds between two looks at the machines of the cluster


def run_on_nodes(num: int, remote: Mapping[str, Any], job: Mapping[str, Any]) -> JobReturn:
    """Run a job on several machines; if the task or the machine of a node is lost, all of them start again.

    Args:
        num: number of nodes, each on another machine of the cluster.
        remote: what Ray is asked for each node, as ``ray.remote`` takes it; all start again ``max_retries`` times.
        job: arguments of the function of Hydra's launcher that runs a job.

    Returns:
        What the job returned on the first node.

    Raises:
        InputError: if the cluster has too few machines of the kind.
        RunFailed: if nodes were lost more often than ``max_retries`` says.
    """
    options = dict(remote)
    retries = options.pop("max_retries", 3)
    started = 1
    while True:
        results = _together(num, options, job)
        lost = [f"node {i} ({type(found).__name__})" for i, found in enumerate(results) if isinstance(found, RayError)]
        if not lost:
            return results[0]
        number = job["sweep_config"].hydra.job.num
        if 0 <= retries < started:  # Ray's -1 is without an end
            raise RunFailed(
                f"job {number}: Ray lost {', '.join(lost)}, and started it {started} times; with sweep.resume="
                f"{job['sweep_config'].hydra.sweep.dir} the same command does what is missing"
            )
        started += 1
        print(f"genlab: job {number}: Ray lost {', '.join(lost)}; all {num} nodes start again", file=sys.stderr)


def _together(num: int, options: Mapping[str, Any], job: Mapping[str, Any]) -> list[Any]:
    """Run a task on each of several machines, and give what they return, or Ray's error in place of it."""
    share = _share(options)
    group = placement_group([share] * num, strategy="STRICT_SPREAD")
    try:
        _wait_for(group, share, num)

        def at(i: int) -> PlacementGroupSchedulingStrategy:
            return PlacementGroupSchedulingStrategy(group, placement_group_bundle_index=i)

        address = ray.get(ray.remote(num_cpus=0, scheduling_strategy=at(0))(_free_address).remote())
        tasks = []
        for i in range(num):
            kept = options.get("runtime_env") or {}
            variables = {**kept.get("env_vars", {}), ENDPOINT: address, NODE: str(i)}
            own = {"max_retries": 0, "runtime_env": {**kept, "env_vars": variables}, "scheduling_strategy": at(i)}
            tasks.append(ray.remote(**{**options, **own})(_run_node).remote(**job))
        return [_result(task) for task in tasks]
    finally:
        if ray.is_initialized():  # not so after Ctrl-C; Ray would connect again
            remove_placement_group(group)


def _share(options: Mapping[str, Any]) -> dict[str, float]:
    """Give what a node takes of its machine, in the words of Ray's placement groups."""
    asked = {"CPU": options.get("num_cpus"), "GPU": options.get("num_gpus"), "memory": options.get("memory")}
    share = {name: float(amount) for name, amount in {**asked, **(options.get("resources") or {})}.items() if amount}
    if not share:
        raise InputError("hydra.launcher.ray.remote: a node needs a part of a machine, such as num_cpus=1")
    return share


def _wait_for(group: PlacementGroup, share: Mapping[str, float], num: int) -> None:
    """Wait until all nodes have a machine: as long as it takes if they are busy, for a time if there are none."""
    seconds = patience(os.environ)
    until: float | None = None
    while not group.wait(timeout_seconds=LOOK):
        able = sum(
            machine["Alive"] and all(machine["Resources"].get(name, 0) >= amount for name, amount in share.items())
            for machine in ray.nodes()
        )
        what = " and ".join(f"{amount:g} {name}" for name, amount in share.items())
        if able >= num:
            until = None
        elif until is None:
            until = time.monotonic() + seconds
            print(f"genlab: waiting: Ray has {able} of {num} machines with {what}", file=sys.stderr)
        elif time.monotonic() > until:
            raise InputError(
                f"trainer.num_nodes={num}: Ray has {able} of {num} machines with {what}, and no more came within "
                f"{seconds:g} s; ask for less by hydra.launcher.ray.remote, or wait longer by {PATIENCE}=SECONDS"
            )


def _free_address() -> str:
    with socket.socket() as one:
        one.bind(("", 0))
        return f"{get_node_ip_address()}:{one.getsockname()[1]}"


def _run_node(**job: Any) -> JobReturn:
    from hydra_plugins.hydra_ray_launcher._launcher_util import _run_job

    quiet_torch()
    return _run_job(**job)


def _result(task: Any) -> Any:
    try:
        return ray.get(task)
    except RayTaskError:  # of the code that ran, and not of Ray
        raise
    except RayError as error:
        return error
