"""Register genlab's launcher for Ray with Hydra, which finds plugins in this namespace package only."""

from genlab.launching import ray_jobs


class RayJobs(ray_jobs.RayJobs):
    """The launcher of :mod:`genlab.launching.ray_jobs`, as ``conf/hydra/launcher/ray_cluster.yaml`` names it."""
