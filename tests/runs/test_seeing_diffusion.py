"""Ways to look at runs of diffusion models: completions, variations, settings of sampling on the command line."""

import json
from pathlib import Path

import numpy as np
import pytest

from genlab.comparison.against_settings import EVALUATIONS, against_settings
from genlab.comparison.runs import read_run
from genlab.runs.folder import RunFolder
from support.command import FAST, Genlab, Trained

SMALL = (
    "model.num_classes=10",
    "diffusion/networks=unet",
    "model.networks.width=8",
    "model.networks.multipliers=[1,2]",
)
SMALL += ("model.networks.attention_levels=[]",)


@pytest.fixture
def run(trained: Trained) -> Path:
    return trained("model=diffusion/flow_matching", *SMALL, *FAST)


def test_variations_are_drawn_and_refused(genlab: Genlab, run: Path, trained: Trained) -> None:
    drawn = genlab("sample", f"run={run}", "mode=vary", "n=3", "strengths=[0.5,1.0]", "sampling.num_steps=3")
    assert drawn.code == 0, drawn.err
    images = np.load(next(line for line in drawn.out.split() if line.endswith(".npy")))
    assert images.shape == (9, 1, 8, 8)
    for arguments, line in (
        (["strengths=[0.0]"], "above 0 and at most 1"),
        (["sampling.solver=dopri8"], "solver"),
        (["sampling.num_steps=0"], "at least 1 step"),
    ):
        refused = genlab("sample", f"run={run}", "mode=vary", *arguments)
        assert refused.code == 2
        assert line in refused.err
    other = trained("model=vae/vae", "model.networks.hidden=[8]", *FAST)
    refused = genlab("sample", f"run={other}", "mode=vary")
    assert refused.code == 2
    assert "from noise to data" in refused.err


def test_images_are_completed(genlab: Genlab, run: Path) -> None:
    drawn = genlab("sample", f"run={run}", "mode=complete", "n=2", "draws=2", "sampling.num_steps=3")
    assert drawn.code == 0, drawn.err
    images = np.load(next(line for line in drawn.out.split() if line.endswith(".npy"))).reshape(2, 4, 8, 8)
    assert np.array_equal(images[:, 2, :4], images[:, 0, :4])  # the upper half is kept
    assert np.array_equal(images[:, 3, :4], images[:, 0, :4])


def test_every_setting_of_sampling_has_its_evaluation(genlab: Genlab, run: Path) -> None:
    result = genlab(
        "evaluate",
        run,
        "sampling.num_steps=1,2",
        "sampling.guidance=1,2",
        "metrics.num_samples=80",
        "metrics.num_test=5",
    )
    assert result.code == 0, result.err
    content = (run / "evaluation.json").read_text()
    assert json.loads(content)
    for words in ("1 step, 1 network evaluation", "2 steps, 3 network evaluations",
                  "2 steps, 6 network evaluations, guidance 2"):  # fmt: skip
        assert words in content, words


def test_the_evaluations_of_an_adaptive_solver_are_counted(genlab: Genlab, run: Path) -> None:
    (run / "evaluation.json").unlink(missing_ok=True)
    tolerances = ("sampling.solver=dopri5", "sampling.tolerance=1e-2,1e-4", "metrics.num_samples=80")
    result = genlab("evaluate", run, *tolerances, "~metrics.measures.likelihood")
    assert result.code == 0, result.err
    (chart,) = (
        chart
        for chart in against_settings([(0, read_run(RunFolder(run)))])
        if chart["metric"] == "test/fid" and chart["setting"] == EVALUATIONS and len(chart["lines"][0]["x"]) == 2
    )
    (line,) = chart["lines"]
    few, many = line["x"]
    assert 7 <= few < many  # a step takes seven at least
    assert f'"network_evaluations": {few}' in (run / "evaluation.json").read_text()


def test_samples_are_shown_on_their_way(genlab: Genlab, run: Path, trained: Trained) -> None:
    drawn = genlab("sample", f"run={run}", "mode=steps", "n=3", "steps=4", "seed=2", "classes=1")
    assert drawn.code == 0, drawn.err
    written = drawn.out.split()
    images = np.load(next(line for line in written if line.endswith(".npy"))).reshape(3, 4, 8, 8)
    assert any(line.endswith(".gif") for line in written)
    plain = genlab("sample", f"run={run}", "mode=grid", "n=3", "seed=2", "classes=1")
    last = np.load(next(line for line in plain.out.split() if line.endswith(".npy"))).reshape(3, 8, 8)
    assert np.abs(images[:, -1].astype(int) - last.astype(int)).max() <= 16  # before grey levels are rounded
    refused = genlab("sample", f"run={run}", "mode=steps", "steps=1")
    assert refused.code == 2
    assert "at least two" in refused.err
