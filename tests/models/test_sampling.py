"""Settings of sampling: given to a model, taken from a run's config or a command line, and refused in a line."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from genlab.comparison.against_settings import against_settings
from genlab.comparison.quality import quality_picture, quality_table
from genlab.comparison.runs import Run, read_run
from genlab.composition.command_line import as_groups
from genlab.composition.sampling import combinations, sampling_settings
from genlab.distributions.noise import generators, truncated
from genlab.distributions.pixel import Categorical
from genlab.errors import InputError
from genlab.models.autoregressive.fvsbn import FVSBN
from genlab.models.gan.biggan import BigGAN
from genlab.models.gan.stylegan2 import StyleGAN2
from genlab.models.transformer.gpt import GPT
from genlab.models.transformer.maskgit import MaskGIT
from genlab.runs.folder import RunFolder
from genlab.runs.loading import load
from support.command import Genlab

SMALL: dict[str, Any] = {"num_layers": 1, "num_heads": 2, "width": 8}


def test_noise_is_cut_without_drawing_again() -> None:
    z = torch.randn(200_000, generator=torch.Generator().manual_seed(0))
    cut = truncated(z, 0.5)
    assert cut.abs().max() <= 0.5
    assert torch.equal(cut.argsort(), z.argsort()) or (cut[z.argsort()].diff() >= 0).all()
    standard = torch.distributions.Normal(0.0, 1.0)
    within = standard.cdf(torch.tensor(0.5)) - standard.cdf(torch.tensor(-0.5))
    for at in (-0.3, 0.0, 0.2, 0.45):  # the distribution function of the truncated normal distribution
        expected = (standard.cdf(torch.tensor(at)) - standard.cdf(torch.tensor(-0.5))) / within
        assert (cut <= at).float().mean().item() == pytest.approx(expected.item(), abs=5e-3)
    torch.testing.assert_close(truncated(z, 9.0), z)


def test_truncation_bounds_the_latents_of_a_gan_and_narrows_its_samples() -> None:
    model = BigGAN((1, 8, 8), channels=4, discriminator_channels=4, latent_dim=12).eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    z = model.draw_latents(50, generators(0, range(50)), model.Sampling(truncation=0.7))
    assert 0.5 < z.abs().max() <= 0.7
    spread = [
        model.sample(50, generator=generators(0, range(50)), sampling=model.Sampling(truncation=bound)).std(0).mean()
        for bound in (0.1, 1.0, None)
    ]
    assert spread[0] < spread[1] < spread[2]
    assert torch.equal(
        model.sample(2, generator=generators(0, range(2)), sampling=model.Sampling()),
        model.sample(2, generator=generators(0, range(2))),
    )


def test_text_is_written_by_the_models_own_settings_or_by_those_given() -> None:
    torch.manual_seed(0)
    model = GPT((8,), 5, **SMALL).eval()
    greedy = GPT.Sampling(top_k=1)
    x = model.sample(4, generator=generators(0, range(4)), sampling=greedy)
    assert torch.equal(x, x[:1].expand(4, -1))
    assert not torch.equal(x, model.sample(4, generator=generators(0, range(4))))
    model.sampling = greedy
    assert torch.equal(x, model.sample(4, generator=generators(0, range(4))))


@pytest.mark.parametrize(
    ("make", "line"),
    [
        (lambda: FVSBN.Sampling(temperature=0.0), "temperature=0.0: give a number above 0"),
        (lambda: MaskGIT.Sampling(num_steps=0), "num_steps=0: sampling takes at least 1 step"),
        (lambda: MaskGIT.Sampling(choice_temperature=-1), "choice_temperature=-1"),
        (lambda: GPT.Sampling(top_k=0), "top_k is 1 or more"),
        (lambda: GPT.Sampling(top_p=1.5), "top_p above 0 and at most 1"),
        (lambda: BigGAN.Sampling(truncation=0.0), "truncation=0.0: give a number above 0"),
        (lambda: StyleGAN2.Sampling(truncation=-0.5), "truncation=-0.5"),
    ],
)
def test_settings_out_of_range_are_refused_in_a_line(make: Any, line: str) -> None:
    with pytest.raises(InputError) as error:
        make()
    assert line in str(error.value)
    assert "\n" not in str(error.value)


def test_settings_of_another_model_are_refused() -> None:
    model = FVSBN((1, 2, 2), Categorical(3))
    with pytest.raises(InputError, match=r"FVSBN is sampled by .* not MaskGIT\.Sampling"):
        model.sample(2, sampling=MaskGIT.Sampling())


def test_settings_of_a_config_stand_on_top_of_the_models_own() -> None:
    model = MaskGIT((1, 2, 2), 4, choice_temperature=1.0, **SMALL)
    assert sampling_settings(model, {"num_steps": "8"}) == MaskGIT.Sampling(num_steps=8, choice_temperature=1.0)
    with pytest.raises(InputError, match=r"sampling\.num_step: MaskGIT has no .*; did you mean num_steps\?"):
        sampling_settings(model, {"num_step": 8})
    with pytest.raises(InputError, match=r"sampling\.num_steps=2\.5"):
        sampling_settings(model, {"num_steps": 2.5})
    with pytest.raises(InputError, match="num_steps=0"):
        sampling_settings(model, {"num_steps": 0})


def test_lists_of_settings_are_all_combinations() -> None:
    assert combinations({}) == [{}]
    assert combinations({"num_steps": [4, 8], "temperature": [1, 2], "choice_temperature": 0}) == [
        {"num_steps": n, "temperature": t, "choice_temperature": 0} for n in (4, 8) for t in (1, 2)
    ]
    with pytest.raises(InputError, match=r"sampling\.num_steps=\[\]"):
        combinations({"num_steps": []})


def test_settings_are_added_to_any_config() -> None:
    assert as_groups(["sampling.num_steps=8", "model.num_steps=8"]) == ["++sampling.num_steps=8", "model.num_steps=8"]


# -- the page of a comparison ------------------------------------------------------------------------------------------


def measured(value: float, num_samples: int = 100, seed: int = 0, **sampling: Any) -> dict[str, Any]:
    protocol = {"features": "digits", "reference": "train", "num_real": 9, "num_samples": num_samples, "seed": seed}
    sampler = {"sampler": f"in {sampling.get('num_steps')} steps", "sampling": {"temperature": 1.0, **sampling}}
    return {"test/fid": {"value": value, "protocol": {**protocol, **sampler}}}


def a_run(path: Path, trained: dict[str, Any], evaluations: Any) -> Run:
    path.mkdir(parents=True)
    (path / "config.yaml").write_text(yaml.safe_dump({"model": {"_target_": "a.Model"}, "choices": {}}))
    (path / "summary.json").write_text(json.dumps({"metrics": trained}))
    (path / "evaluation.json").write_text(json.dumps({"metrics": {}, "evaluations": evaluations}))
    return read_run(RunFolder(path))


def test_a_figure_is_drawn_against_the_setting_that_evaluations_differ_in(tmp_path: Path) -> None:
    listed = [{"settings": {}, "metrics": measured(fid, num_steps=n)} for n, fid in ((4, 30.0), (40, 12.0), (4, 31.0))]
    labelled = {"eight": measured(22.0, num_steps=8), "other samples": measured(1.0, num_samples=9, num_steps=9)}
    first = a_run(tmp_path / "a", measured(20.0, num_steps=12), listed)
    second = a_run(tmp_path / "b", measured(25.0, seed=3, num_steps=4), labelled)
    alone = a_run(tmp_path / "c", measured(19.0, num_steps=12), [])
    (chart,) = against_settings([(0, first), (1, second), (2, alone)])
    assert chart == {
        "metric": "test/fid", "label": "FID", "better": "min", "setting": "num_steps", "log": True,
        "fixed": {"temperature": 1.0},
        "lines": [
            {"row": 0, "run": 0, "x": [4, 12, 40], "y": [31.0, 20.0, 12.0]},  # the later one of two
            {"row": 1, "run": 1, "x": [4, 8], "y": [25.0, 22.0]},
        ],
    }  # fmt: skip


def test_every_setting_has_a_chart_of_its_own_and_other_settings_a_line_of_their_own(tmp_path: Path) -> None:
    found = [(4, 1.0, 9.0), (8, 1.0, 7.0), (4, 0.8, 6.0), (8, 0.8, 5.0)]
    evaluations = [{"settings": {}, "metrics": measured(v, num_steps=n, temperature=t)} for n, t, v in found]
    charts = against_settings([(0, a_run(tmp_path / "a", {}, evaluations))])
    lines = {(c["setting"], *c["fixed"].values()): tuple(c["lines"][0]["y"]) for c in charts}
    assert lines == {
        ("num_steps", 1.0): (9.0, 7.0), ("num_steps", 0.8): (6.0, 5.0),
        ("temperature", 4): (6.0, 9.0), ("temperature", 8): (5.0, 7.0),
    }  # fmt: skip
    assert not any(chart["log"] for chart in charts)


def test_counted_evaluations_take_the_place_of_steps_and_join_solvers(tmp_path: Path) -> None:
    def solved(fid: float, solver: str, num_steps: int, count: int) -> dict[str, Any]:
        found = measured(fid, num_steps=num_steps, solver=solver)
        how = "s" if count > 1 else ""
        found["test/fid"]["protocol"]["sampler"] = f"{solver}, {num_steps} steps, {count} network evaluation{how}"
        return {"settings": {}, "metrics": found}

    heun = [solved(30.0, "heun", 1, 1), solved(10.0, "heun", 5, 9)]
    euler = [solved(31.0, "euler", 1, 1), solved(20.0, "euler", 9, 9)]
    first = a_run(tmp_path / "a", {}, heun)
    second = a_run(tmp_path / "b", {}, [*euler, solved(9.0, "heun", 5, 9)])
    charts = {chart["setting"]: chart for chart in against_settings([(0, first), (1, second)])}
    assert "num_steps" not in charts
    assert charts["network evaluations"]["fixed"] == {"temperature": 1.0}
    assert charts["network evaluations"]["lines"] == [
        {"row": 0, "run": 0, "x": [1, 9], "y": [30.0, 10.0], "settings": {"solver": "heun"}},
        {"row": 1, "run": 1, "x": [1, 9], "y": [31.0, 20.0], "settings": {"solver": "euler"}},
    ]


def test_the_picture_of_quality_joins_what_was_measured_alike(tmp_path: Path) -> None:
    evaluations = [{"settings": {}, "metrics": measured(v, num_steps=n)} for n, v in ((1, 100.0), (4, 9.0), (40, 3.0))]
    run = a_run(tmp_path / "a", {}, evaluations)
    picture = quality_picture({"a model": [run, run]})
    assert picture is not None
    blue = (np.asarray(picture) == (0x00, 0x62, 0xB8)).all(2)
    assert blue.sum() > 200  # a line, and no other colour of lines
    assert not (np.asarray(picture) == (0xD1, 0x56, 0x0C)).all(2).any()
    assert quality_picture({"a model": [a_run(tmp_path / "b", {}, evaluations[:1])]}) is None


def test_the_table_of_quality_has_means_over_seeds_and_joins_near_numbers(tmp_path: Path) -> None:
    def solved(fid: float, solver: str, count: int) -> dict[str, Any]:
        found = measured(fid, num_steps=count, solver=solver)
        found["test/fid"]["protocol"]["sampler"] = f"{solver}, {count} network evaluations"
        return {"settings": {}, "metrics": found}

    a_run(tmp_path / "results" / "flow" / "0", {}, [solved(8.0, "euler", 5), solved(4.0, "euler", 20)])
    a_run(tmp_path / "results" / "flow" / "1", {}, [solved(6.0, "euler", 5), solved(2.0, "euler", 20)])
    a_run(tmp_path / "results" / "edm" / "0", {}, [solved(5.0, "heun", 19), solved(1.0, "heun", 49)])
    table = quality_table("quality.png results/flow results/edm", tmp_path)
    assert table.splitlines()[-4:] == [
        "| model and solver | seeds | 5 | 19 or 20 | 49 |",
        "| --- | ---: | ---: | ---: | ---: |",
        "| flow, euler | 2 | 7.0000 | 3.0000 | - |",
        "| edm, heun | 1 | - | 5.0000 | 1.0000 |",
    ]
    assert table.startswith("![FID against network evaluations](quality.png)")
    a_run(tmp_path / "results" / "once" / "0", {}, [solved(8.0, "euler", 5)])
    with pytest.raises(InputError, match="no run was measured at several numbers"):
        quality_table("quality.png results/once", tmp_path)


def test_results_that_do_not_tell_their_settings_and_damaged_ones_are_left_out(tmp_path: Path) -> None:
    old = {"test/fid": {"value": 3.0, "protocol": {"sampler": "G(z)"}}, "test/kid": 3}
    run = a_run(tmp_path / "a", old, [{"settings": {}, "metrics": measured(2.0, num_steps=4)}])
    assert against_settings([(0, run)]) == []
    (tmp_path / "a" / "evaluation.json").write_text("{")
    assert against_settings([(0, run)]) == []


# -- the command line --------------------------------------------------------------------------------------------------

TRAIN = (
    "train", "model=transformer/maskgit", "model.num_layers=1", "model.num_heads=2", "model.width=8", "dataset=digits",
    "dataset.train_size=64", "trainer=cpu", "trainer.max_epochs=1", "trainer.precision=32-true", "logger=csv",
    "metrics.num_samples=20",
)  # fmt: skip


def protocols(content: dict[str, Any]) -> dict[str, Any]:
    return content["metrics"]["test/fid"]["protocol"]


def test_a_run_is_sampled_and_evaluated_by_its_settings_or_by_others(genlab: Genlab) -> None:
    trained = genlab(*TRAIN, "sampling.num_steps=3", "callbacks.sample_metrics.num_samples=10")
    assert trained.code == 0, trained.err
    run = trained.run
    assert yaml.safe_load((run / "config.yaml").read_text())["sampling"] == {"num_steps": 3}
    summary = protocols(json.loads((run / "summary.json").read_text()))
    assert summary["sampling"] == {"temperature": 1.0, "num_steps": 3, "choice_temperature": 4.5}
    assert summary["sampler"].startswith("parallel decoding in 3 steps")
    opened = load(run)
    assert opened.model.sampling == MaskGIT.Sampling(num_steps=3)
    assert load(run, sampling={"num_steps": 5}).model.sampling == MaskGIT.Sampling(num_steps=5)

    def drawn(*more: str) -> bytes:
        result = genlab("sample", f"run={run}", "n=4", *more)
        assert result.code == 0, result.err
        return Path(result.out.split()[1]).read_bytes()

    assert drawn() == drawn("sampling.num_steps=3") != drawn("sampling.num_steps=1")
    assert drawn("temperature=0.5") == drawn("sampling.temperature=0.5") != drawn()
    refused = genlab("sample", f"run={run}", "sampling.steps=3")
    assert refused.code == 2
    assert "sampling.steps: MaskGIT has no such setting of sampling; did you mean num_steps?" in refused.err
    assert refused.err.count("\n") == 1

    evaluated = genlab("evaluate", run, "sampling.num_steps=2,4", "sampling.temperature=0.9", "metrics.num_samples=20")
    assert evaluated.code == 0, evaluated.err
    content = json.loads((run / "evaluation.json").read_text())
    evaluations = content["evaluations"]
    assert [one["settings"]["sampling"]["num_steps"] for one in evaluations] == [2, 4]
    for one in evaluations:
        assert one["metrics"]["test/fid"]["protocol"]["sampling"] == one["settings"]["sampling"]
        assert one["settings"]["sampling"]["temperature"] == 0.9
    assert protocols(content)["sampling"]["num_steps"] == 4
    assert len({one["metrics"]["test/fid"]["value"] for one in evaluations}) == 2

    with Image.open(run / "samples" / "quality.png") as drawn_quality:
        assert drawn_quality.size == (640, 420)
    (run / "samples" / "quality.png").unlink()
    again = genlab("evaluate", run, "sampling.num_steps=4", "sampling.temperature=0.9", "metrics.num_samples=20")
    assert again.code == 0, again.err
    assert not (run / "samples" / "quality.png").exists()  # one evaluation is no curve

    page = run.parent / "page.html"
    compared = genlab("compare", run, f"html={page}")
    assert compared.code == 0, compared.err
    text = page.read_text(encoding="utf-8")
    report = json.loads(text.partition('id="report">')[2].partition("</script>")[0])
    charts = {chart["metric"]: chart for chart in report["against_settings"]}
    assert charts["test/fid"]["setting"] == "num_steps"
    assert charts["test/fid"]["lines"][0]["x"] == [2, 4]

    resumed = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    after = protocols(json.loads((run / "summary.json").read_text()))
    assert after["sampling"]["num_steps"] == 3


def test_settings_that_a_model_does_not_have_are_refused_before_training(genlab: Genlab) -> None:
    result = genlab(*TRAIN, "sampling.top_k=3")
    assert result.code == 2
    assert "sampling.top_k: MaskGIT has no such setting of sampling" in result.err
    assert result.err.count("\n") == 1
    assert not list(result.outputs.rglob("config.yaml"))


def test_a_run_of_before_keeps_the_settings_that_its_config_states_with_the_model(genlab: Genlab) -> None:
    """A folder whose config has ``model.num_steps`` and no ``sampling``."""
    result = genlab(*TRAIN, "model.num_steps=3", "model.choice_temperature=1")
    assert result.code == 0, result.err
    run = result.run
    config = yaml.safe_load((run / "config.yaml").read_text())
    assert config.pop("sampling") == {}
    assert config["model"]["num_steps"] == 3
    (run / "config.yaml").write_text(yaml.safe_dump(config))
    assert load(run).model.sampling == MaskGIT.Sampling(num_steps=3, choice_temperature=1.0)
    resumed = genlab("train", f"resume={run}", "trainer.max_epochs=2")
    assert resumed.code == 0, resumed.err
    protocol = protocols(json.loads((run / "summary.json").read_text()))
    assert protocol["sampler"] == "parallel decoding in 3 steps, cosine schedule, choice temperature 1"


def test_what_no_sample_counts_in_is_measured_once(genlab: Genlab, monkeypatch: pytest.MonkeyPatch) -> None:
    from genlab.metrics.measures.likelihood import Likelihood

    trained = genlab(
        "train", "model=vae/vae", "model.networks.hidden=[8]", "dataset.train_size=64", "trainer=cpu",
        "trainer.max_epochs=1", "logger=csv", "metrics.num_samples=20",
    )  # fmt: skip
    assert trained.code == 0, trained.err
    times = []
    measure = Likelihood.__call__
    monkeypatch.setattr(Likelihood, "__call__", lambda self, subject: (times.append(1), measure(self, subject))[1])
    options = ("metrics.num_samples=20", "metrics.importance_samples=null")
    assert genlab("evaluate", trained.run, "sampling.temperature=0.5,1", *options).code == 0
    assert len(times) == 1
    first, second = (one["metrics"] for one in json.loads((trained.run / "evaluation.json").read_text())["evaluations"])
    assert first["test/nll"] == second["test/nll"]
    assert first["test/fid"]["value"] != second["test/fid"]["value"]
    assert genlab("evaluate", trained.run, *options).code == 0  # nothing is known from one command to the next
    assert len(times) == 2
