"""``hydra/launcher=ray_cluster``: each job is a task of a Ray cluster, or one task on each of its machines.

Hydra imports this module at every start, so nothing heavy is imported at the top.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from threading import Thread
from typing import Any

from hydra.core.singleton import Singleton
from hydra.core.utils import JobReturn, configure_log, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict


class RayJobs(Launcher):
    """A Hydra launcher of jobs on Ray: what Hydra's own is, and jobs with ``trainer.num_nodes`` on several machines.

    Args:
        ray: ``init``, the arguments of ``ray.init``, and ``remote``, what Ray is asked for each job, on each machine.
    """

    def __init__(self, ray: DictConfig) -> None:
        self.init, self.remote = ray.init, ray.remote

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> Sequence[JobReturn]:
        from hydra_plugins.hydra_ray_launcher._launcher_util import start_ray

        from genlab.errors import InputError

        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        Path(self.config.hydra.sweep.dir).mkdir(parents=True, exist_ok=True)
        address = self.init.get("address")
        _check_answers(address)
        try:
            start_ray(self.init)
        except (ConnectionError, ValueError) as error:  # no such cluster, no address, or what Ray cannot start with
            given = f"RAY_ADDRESS={address}" if address else "hydra/launcher=ray_cluster"
            raise InputError(f"{given}: {str(error).splitlines()[0]}") from None
        waiting = [self._started(list(o), number) for number, o in enumerate(job_overrides, initial_job_idx)]
        returned, errors = list[JobReturn](), list[Exception]()
        for wait in waiting:  # all are waited for, also if one is lost
            try:
                returned.append(wait())
            except Exception as error:
                errors.append(error)
        if errors:
            raise errors[0]
        return returned

    def _started(self, overrides: list[str], number: int) -> Callable[[], JobReturn]:
        """Start a job, and give the function that waits for its end."""
        import ray
        from hydra_plugins.hydra_ray_launcher._launcher_util import launch_job_on_ray

        config = self.hydra_context.config_loader.load_sweep_config(self.config, overrides)
        with open_dict(config):
            config.hydra.job.id, config.hydra.job.num = f"job_id_for_{number}", number
        job = {
            "hydra_context": self.hydra_context,
            "sweep_config": config,
            "task_function": self.task_function,
            "singleton_state": Singleton.get_state(),
        }
        num: Any = OmegaConf.select(config, "trainer.num_nodes", default=1)
        if isinstance(num, int) and num > 1:
            return self._started_on_nodes(num, job)
        task = launch_job_on_ray(ray_remote=self.remote, **job)
        return lambda: ray.get(task)

    def _started_on_nodes(self, num: int, job: dict[str, Any]) -> Callable[[], JobReturn]:
        """Start a job on several machines, which a thread of its own watches."""
        from genlab.launching.ray_nodes import run_on_nodes

        options: Any = OmegaConf.to_container(self.remote, resolve=True)
        future = Future[JobReturn]()

        def watch() -> None:
            try:
                future.set_result(run_on_nodes(num, options, job))
            except Exception as error:
                future.set_exception(error)

        Thread(target=watch, daemon=True).start()  # Ctrl-C does not wait for it
        return future.result


def _check_answers(address: str | None) -> None:
    """Check that something listens at the address of a cluster; asked first, because Ray waits for it for minutes.

    Raises:
        InputError: if nothing does.
    """
    import socket

    from genlab.errors import InputError

    host, _, port = (address or "").removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():  # none, or one that Ray looks up, such as auto
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except (OSError, OverflowError) as error:
        raise InputError(
            f"RAY_ADDRESS={address}: no Ray cluster answers there ({error}); `ray status` on its head names its address"
        ) from None
