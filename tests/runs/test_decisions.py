"""What a comparison says of the differences between settings, from run folders to words."""

import json
from pathlib import Path

import pytest
from scipy import stats

from genlab.comparison.cells import Table
from genlab.comparison.decisions import said, sentences
from genlab.comparison.formats import as_json, comma_separated, markdown
from genlab.comparison.runs import read_run
from genlab.comparison.table import compared
from genlab.runs.folder import find_runs
from support.command import Genlab
from support.made_runs import BLOCK, SAMPLES, make_run, result, write_run
from support.paths import ROOT

POINTS = ROOT / "benchmarks/points"


def made(root: Path, fids: dict[str, dict[int, float]], figure: str = "test/fid") -> list[Path]:
    """Make a run for each model and seed, with a made-up FID."""
    return [
        make_run(
            root / f"{model}-{seed}".replace("/", "_"), model=model, seed=seed, metrics={figure: result(value, SAMPLES)}
        )
        for model, values in fids.items()
        for seed, value in values.items()
    ]


def table_of(root: Path, **options: str) -> Table:
    return compared([read_run(folder) for folder in find_runs([root])], **options)  # type: ignore[arg-type]


def words(root: Path, **options: str) -> list[str]:
    return sentences(said(table_of(root, **options)))


def test_a_setting_is_better_if_its_pairs_say_so(tmp_path: Path) -> None:
    made(tmp_path, {"gan/a": {0: 10.0, 1: 20.0, 2: 30.0}, "gan/b": {0: 9.0, 1: 18.9, 2: 29.1}})
    # The differences are -1, -1.1 and -0.9: mean 1, standard error 0.1 / sqrt(3), 4.303 of them.
    assert words(tmp_path) == ["FID: gan/b is better than gan/a by 1.00 ± 0.25 on 3 seeds"]
    assert words(tmp_path, baseline="gan/b") == ["FID: gan/a is worse than gan/b by 1.00 ± 0.25 on 3 seeds"]


def test_seeds_that_are_not_enough_are_told_with_how_many_more_may_tell(tmp_path: Path) -> None:
    made(tmp_path, {"gan/a": {0: 10.0, 1: 14.0, 2: 12.0}, "gan/b": {0: 9.0, 1: 11.0, 2: 11.0}})
    (sentence,) = words(tmp_path)
    assert sentence.startswith("FID: gan/b and gan/a are not separable, -1.7 ± 2.9 on 3 seeds; some ")
    assert sentence.endswith(" more seeds of each may tell")


def test_values_of_a_key_are_told_with_its_last_part(tmp_path: Path) -> None:
    for rate in (0.001, 0.01):
        for seed in (0, 1):
            make_run(
                tmp_path / f"{rate}-{seed}",
                seed=seed,
                overrides=(f"training.optimizer.lr={rate}",),
                config={"training.optimizer.lr": rate},
                metrics={"test/fid": result(10 * rate + seed, SAMPLES)},
            )
    assert words(tmp_path) == ["FID: lr=0.001 is better than lr=0.01 by 0.09 ± 0 on 2 seeds"]


@pytest.mark.parametrize(
    ("fids", "expected"),
    [
        (
            {"gan/a": {0: 1.0}, "gan/b": {0: 2.0}},
            "FID: with one seed each, no difference can be told from seed noise; run further seeds (seed=0,1,2)",
        ),
        (
            {"gan/a": {0: 1.0, 1: 2.0}, "gan/b": {0: 3.0}},
            "FID: gan/b has one seed, whose noise is not known; run further seeds (seed=0,1,2)",
        ),
        (
            {"gan/a": {0: 1.0, 1: 2.0}, "gan/b": {0: 1.0, 1: 2.0}},
            "FID: gan/a and gan/b are equal on 2 seeds",
        ),
    ],
)
def test_without_noise_the_reason_is_said(tmp_path: Path, fids: dict[str, dict[int, float]], expected: str) -> None:
    made(tmp_path, fids)
    assert words(tmp_path) == [expected]


def test_a_value_that_is_not_finite_is_named(tmp_path: Path) -> None:
    made(tmp_path, {"gan/a": {0: 1.0, 1: 2.0}, "gan/b": {0: 3.0, 1: float("nan")}})
    assert words(tmp_path, baseline="gan/a") == [
        "FID: gan/b has no finite value at seed=1, so it is compared with nothing"
    ]


def test_a_baseline_comes_first_and_each_figure_has_its_differences(tmp_path: Path) -> None:
    made(tmp_path, {"gan/a": {0: 10.0, 1: 20.0}, "gan/b": {0: 9.0, 1: 18.9}, "gan/c": {0: 9.5, 1: 30.0}})
    table = table_of(tmp_path, baseline="model=gan/b")
    assert [row.label for row in table.rows] == ["model=gan/b", "model=gan/a", "model=gan/c"]
    assert [c.key for c in table.columns][2:4] == ["test/fid", "difference/test/fid"]
    first, second, third = (row.cells["difference/test/fid"].text for row in table.rows)
    assert first == "baseline"
    # Two comparisons: each interval has a level of 97.5 %.
    half_width = stats.t.ppf(0.9875, 1) * 0.05
    assert second == "+1.1 ± 1.3 n.s."
    assert third.endswith("n.s.")
    assert "| +1.1 ± 1.3 n.s. |" in markdown(table)
    record = json.loads(as_json(table))
    assert [one["against"] for one in record["decisions"]] == ["model=gan/b"] * 2
    assert record["decisions"][0]["value"] == pytest.approx(1.05)
    assert record["decisions"][0]["half_width"] == pytest.approx(half_width)
    heads = comma_separated(table).splitlines()[0].split(",")
    assert {"difference/test/fid", "difference/test/fid ±", "difference/test/fid verdict"} <= set(heads)


def test_a_baseline_that_leaves_keys_open_is_that_of_the_rows_that_agree_in_them(tmp_path: Path) -> None:
    for model in ("gan/a", "gan/b"):
        for width in (8, 16):
            for seed in (0, 1):
                value = width + seed + (1.0 + 0.01 * seed) * (model == "gan/b")
                make_run(
                    tmp_path / f"{model[-1]}{width}{seed}",
                    model=model,
                    seed=seed,
                    overrides=(f"model.width={width}",),
                    config={"model.width": width},
                    metrics={"test/fid": result(value, SAMPLES)},
                )
    table = table_of(tmp_path, baseline="gan/a")
    assert {(one.setting, one.against) for one in table.decisions} == {
        (f"model=gan/b model.width={width}", f"model=gan/a model.width={width}") for width in (8, 16)
    }
    assert sentences(said(table))[0].startswith("FID, model.width=")
    assert "gan/b is worse than gan/a by 1.0" in sentences(said(table))[0]


def test_a_baseline_that_is_not_there_is_said_and_the_rest_is_compared(tmp_path: Path, genlab: Genlab) -> None:
    made(tmp_path, {"gan/a": {0: 10.0, 1: 20.0}, "gan/b": {0: 9.0, 1: 18.9}})
    table = table_of(tmp_path, baseline="gan/zzz")
    assert table.notes == [
        "baseline=gan/zzz is not among the runs, so nothing is compared with it; there is model=gan/a; model=gan/b"
    ]
    assert [one.column for one in table.decisions] == ["test/fid"]
    assert table_of(tmp_path, baseline="published").notes == [
        "baseline=published: the runs reproduce no published value of one paper"
    ]
    done = genlab("compare", str(tmp_path), "--baseline", "model=gan/a", f"output={tmp_path}/x.png")
    assert "FID: gan/b is better than gan/a by 1.05 ± 0.64 on 2 seeds" in done.out


def test_what_was_not_measured_alike_is_compared_with_nothing(tmp_path: Path) -> None:
    made(tmp_path, {"gan/a": {0: 10.0, 1: 20.0}, "gan/b": {0: 9.0, 1: 18.9}})
    for seed in (0, 1):
        other = {"test/fid": result(3.0 + seed, SAMPLES, num_samples=7)}
        make_run(tmp_path / f"c{seed}", model="gan/c", seed=seed, metrics=other)
    assert words(tmp_path, baseline="gan/a")[1] == "FID [1]: gan/c was not measured under this protocol"


def test_published_values_are_a_row_that_runs_are_compared_with(tmp_path: Path) -> None:
    for seed, value in enumerate((80.0, 81.0, 83.0)):
        write_run(tmp_path / str(seed), value, seed)
    table = table_of(tmp_path, baseline="published")
    first, ours = table.rows
    assert first.label == f"published: {BLOCK['paper']}"
    assert first.cells["test/nll"].value == BLOCK["figures"]["nll"]
    assert "published: " in markdown(table)
    low, high = stats.ttest_1samp([80.0, 81.0, 83.0], 0.0).confidence_interval()
    found = ours.cells["difference/test/nll"].difference
    assert found is not None
    assert found.value == pytest.approx((low + high) / 2 - BLOCK["figures"]["nll"])
    assert found.half_width == pytest.approx((high - low) / 2)


@pytest.mark.parametrize(("grid", "name"), [("grid2d", "modes"), ("grid2d", "high_quality"), ("ring2d", "modes")])
def test_of_r3gans_loss_and_the_plain_gan_it_says_what_a_paired_t_test_says(grid: str, name: str) -> None:
    def values(model: str) -> list[float]:
        folders = [POINTS / grid / f"{model}-{seed}" for seed in range(5)]
        return [json.loads((one / "summary.json").read_text())["metrics"][f"test/{name}"]["value"] for one in folders]

    runs = [read_run(folder) for folder in find_runs([POINTS / grid]) if folder.path.name.startswith(("gan", "r3gan"))]
    (decision,) = [one for one in compared(runs, baseline="toy/gan").decisions if one.column == f"test/{name}"]
    expected = stats.ttest_rel(values("r3gan"), values("gan"))
    low, high = expected.confidence_interval()
    assert decision.difference is not None
    assert decision.difference.value == pytest.approx((low + high) / 2)
    assert decision.difference.half_width == pytest.approx((high - low) / 2)
    assert decision.difference.separable == (expected.pvalue < 0.05)
    assert decision.better == (True if expected.pvalue < 0.05 else None)
