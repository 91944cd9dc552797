"""Exported runs: what is in the folder, that it opens by itself, and that its graph computes what PyTorch does."""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import yaml

from genlab.distributions.noise import generators
from genlab.errors import InputError
from genlab.exporting import hub
from genlab.exporting.graphs import graph_of, write_graph
from genlab.models.abilities import HasGraph
from genlab.models.base import GenerativeModel
from genlab.models.graph import Method
from genlab.models.transformer.gpt import GPT
from genlab.runs.loading import load
from support.catalogue import make
from support.command import FAST, Genlab, Trained

SMALL = ("model.networks.hidden=[16]", "training.ema_decay=0.9", "callbacks=minimal", *FAST)


def drawn(run: Any) -> torch.Tensor:
    return run.model.sample(4, generator=generators(3, range(4)))


def test_an_exported_folder_opens_measures_and_starts_runs(genlab: Genlab, trained: Trained, tmp_path: Path) -> None:
    run = trained(*SMALL)
    result = genlab("export", run)
    assert result.code == 0, result.err
    assert result.out.splitlines() == [str(run / "export")]
    folder = tmp_path / "elsewhere" / "model"
    folder.parent.mkdir()
    (run / "export").rename(folder)
    run = run.rename(tmp_path / "away")  # nothing of it is needed
    opened = load(folder)
    assert torch.equal(drawn(opened), drawn(load(run)))
    assert opened.used_weights == "ema"
    assert "FID" in genlab("evaluate", folder, "metrics.num_samples=80", "metrics.importance_samples=null").out
    found, before = (json.loads((f / name).read_text())["metrics"] for f, name in
                     ((folder, "evaluation.json"), (run, "summary.json")))  # fmt: skip
    assert {name: one["value"] for name, one in found.items()} == {name: one["value"] for name, one in before.items()}
    assert {name: one["protocol"] for name, one in found.items()} == {
        name: one["protocol"] for name, one in before.items()
    }
    assert genlab("compare", run, folder).code == 0
    started = genlab("train", *SMALL, f"init={folder}", "trainer.max_epochs=1")
    assert "100.0% of the parameters (ema, " in started.err
    resumed = genlab("train", f"resume={folder}")
    assert f"is exported, and has nothing to go on from: init={folder} starts a new run" in resumed.err


def test_the_card_says_what_was_measured_how_and_what_is_needed(genlab: Genlab, trained: Trained) -> None:
    run = trained(*SMALL)
    assert genlab("export", run).code == 0
    text = (run / "export" / "README.md").read_text()
    _, front, body = text.split("---\n", 2)
    about = yaml.safe_load(front)
    assert (about["license"], about["library_name"]) == ("unknown", "genlab")
    assert about["pipeline_tag"] == "unconditional-image-generation"
    (entry,) = about["model-index"]
    metrics = {one["type"]: one for one in entry["results"][0]["metrics"]}
    summary = json.loads((run / "summary.json").read_text())["metrics"]
    assert metrics["fid"]["value"] == summary["test/fid"]["value"]
    assert metrics["fid"]["args"]["num_samples"] == 80
    assert "80 samples" in body
    assert "pip install 'genlab==" in body
    assert "pip install '/path/to/genlab'" in body  # which no package index need have
    assert (run / "export" / "samples.png").read_bytes() == (run / "samples" / "final.png").read_bytes()
    for path in (run / "export").iterdir():  # nothing of this machine
        if path.suffix in (".json", ".yaml", ".md"):
            assert str(run.parents[2]) not in path.read_text(), path.name
    # Figures of the averaged weights are not those of the raw ones, whose samples are drawn anew.
    assert genlab("export", run, "weights=raw", "output=" + str(run / "raw"), "num_samples=4").code == 0
    raw = (run / "raw" / "README.md").read_text()
    assert "None was measured on these weights" in raw
    assert "model-index" not in raw
    assert (run / "raw" / "samples.png").read_bytes() != (run / "samples" / "final.png").read_bytes()


def test_the_card_is_one_for_the_hub(genlab: Genlab, trained: Trained) -> None:
    cards = pytest.importorskip("huggingface_hub")
    run = trained(*SMALL)
    assert genlab("export", run).code == 0
    data = cards.ModelCard.load(run / "export" / "README.md").data
    assert data.library_name == "genlab"
    assert {result.metric_type for result in data.eval_results} >= {"fid", "bits_per_dim"}


def test_nothing_is_overwritten_unasked(genlab: Genlab, trained: Trained) -> None:
    run = trained(*SMALL)
    assert genlab("export", run).code == 0
    mine = run / "export" / "notes.txt"
    mine.write_text("mine")
    (run / "export" / "model.onnx").write_text("of another export")
    refused = genlab("export", run)
    assert refused.code == 2
    assert "is not empty: give another output=FOLDER, or overwrite=true" in refused.err
    assert (run / "export" / "model.onnx").exists()
    assert genlab("export", run, "overwrite=true", "weights=raw").code == 0
    assert mine.read_text() == "mine"
    assert not (run / "export" / "model.onnx").exists(), "a graph of other weights"
    assert load(run / "export").model is not None
    assert json.loads((run / "export" / "export.json").read_text())["weights"] == "raw"
    into = genlab("export", run, f"output={run}", "overwrite=true")
    assert "is the folder of a run" in into.err
    assert not (run / "model.safetensors").exists()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (("form=tflite",), "form='tflite'"),
        (("weights=0.1",), "has no snapshots of averages"),
        (("num_samples=0",), "num_samples=0"),
        (("checkpoint=none.ckpt",), "there is no checkpoint none.ckpt"),
    ],
)
def test_what_cannot_be_exported_is_one_line(
    genlab: Genlab, trained: Trained, overrides: tuple[str, ...], said: str
) -> None:
    run = trained(*SMALL)
    result = genlab("export", run, *overrides)
    assert result.code == 2
    (line,) = result.err.splitlines()
    assert said in line
    assert not (run / "export").exists()
    assert not list(run.glob(".export*"))


def test_a_push_needs_a_login_and_sends_the_folder(
    genlab: Genlab, trained: Trained, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pytest.importorskip("huggingface_hub")
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "none"))
    monkeypatch.delenv("HF_TOKEN", raising=False)
    run = trained(*SMALL)
    monkeypatch.setattr("huggingface_hub.HfApi.whoami", lambda self: _not_logged_in())
    refused = genlab("export", run, "push=me/model")
    assert refused.code == 2
    assert "push=me/model: nobody is logged in to the Hugging Face Hub: hf auth login" in refused.err
    assert not (run / "export").exists()
    sent: list[Any] = []
    client = SimpleNamespace(
        create_repo=lambda name, **how: sent.append((name, how)) or f"https://hub/{name}",
        upload_folder=lambda **how: sent.append(sorted(path.name for path in Path(how["folder_path"]).iterdir())),
    )
    monkeypatch.setattr(hub, "check_login", lambda name: client)
    pushed = genlab("export", run, "push=me/model")
    assert pushed.out.splitlines()[-1] == "https://hub/me/model"
    assert sent[0] == ("me/model", {"private": True, "exist_ok": True})
    assert {"README.md", "config.yaml", "model.safetensors"} <= set(sent[1])


def _not_logged_in() -> None:
    from huggingface_hub.errors import LocalTokenNotFoundError

    raise LocalTokenNotFoundError("no token")


# -- graphs ------------------------------------------------------------------------------------------------------------


def small(family: str) -> GenerativeModel:
    """A small model of a family."""
    if family == "gpt":
        torch.manual_seed(0)
        return GPT((8,), vocab_size=11, num_layers=1, num_heads=2, width=8).eval()
    name, shape = {"gan": ("gan/mlp", (2,)), "vae": ("vae/vae", (1, 8, 8)), "flow": ("flow/nice", (1, 4, 4))}[family]
    return make(name, shape, 17, None if family == "flow" else 3).eval()


def test_every_family_has_a_graph() -> None:
    for family in ("gan", "vae", "flow", "gpt"):
        model = small(family)
        assert isinstance(model, HasGraph)
        graph = model.graph()
        with torch.no_grad():
            found = graph.module(*graph.inputs.values())
        assert len(found) == len(next(iter(graph.inputs.values()))), family
    assert list(small("gan").graph().inputs) == ["z", "y"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", ["gan", "vae", "flow", "gpt"])
def test_a_graph_computes_what_pytorch_does(family: str, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    runtime = pytest.importorskip("onnxruntime")
    model = small(family).requires_grad_(False)
    about = write_graph(model, tmp_path / "model.onnx")
    assert about["max_difference"] <= 1e-4
    # Apart from its own comparison: other numbers, other sizes.
    session = runtime.InferenceSession(str(tmp_path / "model.onnx"))
    graph, rng = model.graph(), np.random.default_rng(5)  # type: ignore[attr-defined]
    given = {}
    for name, value in graph.inputs.items():
        shape = (7, *value.shape[1:]) if name not in graph.lengths else (7, 8)
        whole = rng.integers(0, 3, shape)
        given[name] = rng.standard_normal(shape, np.float32) if value.is_floating_point() else whole
    (found,) = session.run(None, given)
    expected = graph.module(*map(torch.from_numpy, given.values())).numpy()
    assert found.shape == expected.shape
    assert np.abs(found - expected).max() <= 1e-4


def test_a_graph_that_differs_is_refused(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    pytest.importorskip("onnxscript")
    pytest.importorskip("onnxruntime")
    model = small("gan").requires_grad_(False)
    forward = Method.forward
    # torch traces one function, and another one is compared: as if the translation were wrong.
    monkeypatch.setattr("genlab.exporting.graphs._compared", wrapped(monkeypatch, forward))
    with pytest.raises(InputError, match=r"onnxruntime and PyTorch differ by 1\.0e-03 for MLP"):
        write_graph(model, tmp_path / "model.onnx")


def wrapped(monkeypatch: pytest.MonkeyPatch, forward: Any) -> Any:
    from genlab.exporting.graphs import _compared

    def compare(graph: Any, path: Path) -> Any:
        with monkeypatch.context() as apart:
            apart.setattr(Method, "forward", lambda self, *inputs: forward(self, *inputs) + 1e-3)
            return _compared(graph, path)

    return compare


def test_a_model_without_a_graph_and_missing_libraries_are_one_line(
    genlab: Genlab, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = trained(*SMALL)
    monkeypatch.setitem(sys.modules, "onnx", None)
    missing = genlab("export", run, "form=onnx")
    assert "form=onnx needs onnx: pip install 'genlab[onnx]'" in missing.err
    assert not (run / "export").exists()

    class Bare(GenerativeModel):
        def sample(self, num_samples: int, *_: Any, **__: Any) -> torch.Tensor:
            return torch.zeros(num_samples, *self.shape)

    with pytest.raises(InputError, match="Bare has no graph to export; it has the form safetensors"):
        graph_of(Bare((2,)))
