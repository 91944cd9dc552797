"""``hydra/sweeper=optuna``: search for the overrides that give the best value, with Optuna.

Trial n is job n in the sweep's folder, and the study is saved in the same folder. A search launched again with
``sweep.resume`` therefore continues: it finishes trials that were cut off, in their folders, and then runs the missing
ones.

Hydra imports this module at every start, so nothing heavy is imported at the top.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf

STUDY, RESULT = "study.journal", "search.json"


class Search(Sweeper):
    """A Hydra sweeper that asks Optuna for overrides, runs them as jobs of the launcher, and reports their values.

    Args:
        sampler: config of one of ``optuna.samplers``. If it has a seed, the number of earlier trials is added to it, so
            that a continued search draws new ones.
        direction: whether the best value is the smallest (``min``) or the largest (``max``).
        n_trials: number of trials of the search, including those of earlier launches.
        n_jobs: number of trials to ask for at once, for launchers that run several jobs at a time.
        params: values to search, given as ``interval(...)``, ``range(...)`` or ``choice(...)`` for each key.
    """

    def __init__(
        self, sampler: DictConfig, direction: str, n_trials: int, n_jobs: int, params: DictConfig | None = None
    ) -> None:
        self.sampler, self.direction, self.n_trials, self.n_jobs = sampler, direction, n_trials, n_jobs
        self.params: dict[str, str] = {str(key): str(value) for key, value in (params or {}).items()}

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        self.config, self.hydra_context = config, hydra_context
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Run the trials that are missing.

        Args:
            arguments: overrides of the command line; they win over ``params``.

        Raises:
            InputError: if there is nothing to search, or the folder holds another search.
            Exception: the exception of the first job that failed, after all others have run.
        """
        from genlab.errors import InputError

        assert self.config is not None
        folder = Path(self.config.hydra.sweep.dir)
        given = [f"{key}={value}" for key, value in self.params.items()] + list(arguments)
        # If a key is given twice, the later override wins, which is the command line's.
        overrides = {o.get_key_element(): o for o in OverridesParser.create().parse_overrides(given)}
        space = {key: _distribution(o) for key, o in overrides.items() if o.is_sweep_override()}
        fixed = [str(o.input_line) for key, o in overrides.items() if key not in space]
        if not space:
            raise InputError("hydra/sweeper=optuna: nothing to search, as in model.latent_dim=choice(8,16,32)")
        study = self._study(folder, space, [o for o in fixed if not o.startswith(("sweep.resume=", "force="))])
        OmegaConf.save(self.config, folder / "multirun.yaml")
        launcher, failures = self.launcher, list[Exception]()
        assert launcher is not None

        from optuna.trial import TrialState

        def run(trials: Sequence[Any], asked_before: bool = False) -> None:
            chosen = [[f"{key}={trial.params[key]}" for key in space] + fixed for trial in trials]
            for trial, job in zip(trials, launcher.launch(chosen, trials[0].number), strict=True):
                try:
                    value = job.return_value
                except Exception as error:
                    if asked_before and isinstance(error, InputError):
                        raise  # the job cannot be resumed with this command; its trial stays unfinished
                    failures.append(error)
                    value = None
                if value is not None and math.isfinite(value):
                    study.tell(trial.number, float(value))
                else:
                    study.tell(trial.number, state=TrialState.FAIL)
            _write_result(folder, study)

        for trials in self._unfinished(study):
            run(trials, asked_before=True)
        while (missing := self.n_trials - len(study.get_trials(deepcopy=False))) > 0:
            run([study.ask(space) for _ in range(min(self.n_jobs, missing))])
        if failures:
            raise failures[0]

    def _study(self, folder: Path, space: dict[str, Any], fixed: list[str]) -> Any:
        from genlab.composition.building import build
        from genlab.composition.renamed_groups import with_new_names
        from genlab.composition.trust import own_values
        from genlab.errors import InputError

        try:
            import optuna
            from optuna.storages import JournalStorage
            from optuna.storages.journal import JournalFileBackend
        except ImportError as error:
            raise InputError("hydra/sweeper=optuna needs Optuna: pip install 'genlab[optuna]'") from error
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        directions: dict[str, Literal["minimize", "maximize"]] = {"min": "minimize", "max": "maximize"}
        if self.direction not in directions:
            raise InputError(f"hydra.sweeper.direction={self.direction}: min or max")
        folder.mkdir(parents=True, exist_ok=True)
        storage = JournalStorage(JournalFileBackend(str(folder / STUDY)))
        study = optuna.create_study(
            storage=storage, study_name="search", direction=directions[self.direction], load_if_exists=True
        )
        what = sorted(fixed + [f"{key} of {distribution}" for key, distribution in space.items()])
        before = sorted(with_new_names(study.user_attrs.get("what", what)))
        if before != what:
            was, now = (sorted({*a} - {*b}) for a, b in ((before, what), (what, before)))
            raise InputError(
                f"{folder} holds another search: it has {', '.join(was) or 'nothing'} where this one has "
                f"{', '.join(now) or 'nothing'}"
            )
        study.set_user_attr("what", what)
        sampler: dict[str, Any] = OmegaConf.to_container(self.sampler, resolve=True)  # type: ignore[assignment]
        if sampler.get("seed") is not None:
            sampler["seed"] += len(study.get_trials(deepcopy=False))
        own_values(sampler)
        study.sampler = build(sampler, "hydra.sweeper.sampler")
        return study

    def _unfinished(self, study: Any) -> list[list[Any]]:
        """List unfinished trials of an earlier launch, in groups of consecutive numbers to launch together.

        A launcher takes the number of the first job, and counts on from it.
        """
        groups: list[list[Any]] = []
        for trial in study.get_trials(deepcopy=False):
            if trial.state.is_finished():
                continue
            if groups and len(groups[-1]) < self.n_jobs and groups[-1][-1].number == trial.number - 1:
                groups[-1].append(trial)
            else:
                groups.append([trial])
        return groups


def _distribution(override: Override) -> Any:
    """Turn an override into a distribution of Optuna; the options of a choice stay as the user wrote them."""
    from hydra.core.override_parser.types import IntervalSweep, RangeSweep

    try:
        from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
    except ImportError as error:
        from genlab.errors import InputError

        raise InputError("hydra/sweeper=optuna needs Optuna: pip install 'genlab[optuna]'") from error
    value: Any = override.value()
    if isinstance(value, IntervalSweep):
        log = "log" in value.tags
        assert value.start is not None
        assert value.end is not None
        if isinstance(value.start, int) and isinstance(value.end, int):
            return IntDistribution(value.start, value.end, log=log)
        return FloatDistribution(value.start, value.end, log=log)
    if isinstance(value, RangeSweep) and not value.shuffle:
        values = list(value.range())
        if all(isinstance(v, int) for v in values) and value.step > 0:
            return IntDistribution(values[0], values[-1], step=int(value.step))
    return CategoricalDistribution(list(override.sweep_string_iterator()))


def _write_result(folder: Path, study: Any) -> None:
    """Write all trials and the best one as JSON, for people and for scripts without Optuna."""
    from genlab.machine.files import write_atomically

    trials = [
        {"job": t.number, "state": t.state.name.lower(), "value": t.value, "params": t.params}
        for t in study.get_trials(deepcopy=False)
    ]
    with_value = [trial for trial in trials if trial["state"] == "complete"]
    sign = 1 if study.direction.name == "MINIMIZE" else -1
    best = min(with_value, key=lambda trial: sign * trial["value"], default=None)
    write_atomically(folder / RESULT, json.dumps({"best": best, "trials": trials}, indent=2) + "\n")
