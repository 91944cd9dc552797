"""The check of a sweep's jobs before it begins: every kind of job is composed, and each only once."""

from pathlib import Path

import pytest
from hydra import initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import DictConfig

from genlab.composition.configs import conf_dir
from genlab.launching.jobs_checked import check_jobs
from support.command import Genlab
from support.small_runs import outputs


class Jobs:
    """What the check needs of a sweeper, with a loader that writes down what it is asked to compose."""

    config = DictConfig({})

    def __init__(self) -> None:
        self.config_loader = self
        self.of_hydra = GlobalHydra.instance().config_loader()
        self.composed: list[list[str]] = []

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> None:
        self.composed.append(sweep_overrides)

    def __getattr__(self, name: str) -> object:
        return getattr(self.of_hydra, name)


def composed(*jobs: list[str]) -> list[list[str]]:
    with initialize_config_dir(conf_dir(), version_base="1.3"):
        sweeper = Jobs()
        check_jobs(sweeper, jobs)  # type: ignore[arg-type]
    return sweeper.composed


def test_values_of_keys_make_no_kinds_but_files_lists_and_other_keys_do() -> None:
    jobs = [["model=vae/vae", f"seed={seed}", "name=a"] for seed in range(5)]
    assert composed(*jobs) == jobs[:1]
    files = [["model=vae/vae", "seed=1"], ["model=flow/real_nvp", "seed=1"], ["model=flow/real_nvp", "seed=2"]]
    assert composed(*files) == files[:2]
    keys = [["seed=1"], ["+seed=1"], ["seed=1", "name=b"], ["~seed"], ["name=c", "seed=3"]]
    assert composed(*keys) == keys
    values = [["metrics.x=[1]"], ["metrics.x=[2]"], ["metrics.x={a:1}"], ["metrics.x=1"], ["metrics.x=null"]]
    assert composed(*values) == values[:4]
    # The loss of a GAN is a file; so are the files of a package.
    losses = [["gan/loss=hinge"], ["gan/loss=wasserstein"], ["trainer@other=cpu"], ["trainer@other=gpu"]]
    assert composed(*losses) == losses


def test_a_job_of_a_sweep_that_cannot_be_composed_is_refused_before_the_first_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, genlab: Genlab
) -> None:
    folder = outputs(monkeypatch, tmp_path)
    result = genlab("train", "-m", "model=vae/vae,flow/real_nvp", "model.latent_dim=2,3", "dataset=digits")
    assert result.code == 2
    assert "latent_dim" in result.err
    assert not list(folder.rglob("status.json"))
