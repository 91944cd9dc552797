"""Check, before a sweep begins, that the configs of its jobs can be composed; jobs of a kind are composed once."""

from collections.abc import Sequence
from functools import cache

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.plugins.sweeper import Sweeper


def check_jobs(self: Sweeper, batch: Sequence[Sequence[str]]) -> None:
    """Compose one job of each kind in a batch: jobs that differ in plain values of keys alone are of a kind.

    Hydra's own check composes every job, which takes the sweep's process longer than all its other work. Whether a
    config can be composed depends on the chosen files and on which keys are set, but not on a number or a string.

    Args:
        self: sweeper of the batch, whose ``validate_batch_is_legal`` this replaces.
        batch: overrides of each job.

    Raises:
        hydra.errors.HydraException: if a job cannot be composed.
    """
    context = getattr(self, "hydra_context", None)
    loader = self.config_loader if context is None else context.config_loader  # type: ignore[attr-defined]
    parser = OverridesParser.create(config_loader=loader)

    @cache
    def is_group(key: str) -> bool:
        return bool(loader.get_group_options(key, results_filter=None))

    def kind(override: Override) -> tuple[object, ...]:
        plain = isinstance(override.value(), str | int | float | bool | None)
        value = None if plain and not is_group(override.key_or_group) else override.input_line
        return override.type, override.get_key_element(), value

    kind_of_line = cache(lambda line: kind(parser.parse_overrides([line])[0]))
    jobs = {tuple(kind_of_line(line) for line in overrides): overrides for overrides in reversed(batch)}
    for overrides in reversed(jobs.values()):
        loader.load_sweep_config(master_config=self.config, sweep_overrides=list(overrides))
