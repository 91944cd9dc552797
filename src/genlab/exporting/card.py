"""The model card of an exported run: README.md in the layout of the Hugging Face Hub."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from genlab.metrics.catalogue import figure
from genlab.metrics.display import digits, remark
from genlab.metrics.figure import Figure, short
from genlab.metrics.result import Result
from genlab.models.abilities import Writes
from genlab.runs.loading import Run

_EXCERPT = 600  # characters of a text that are shown


def card(
    run: Run,
    config: Mapping[str, Any],
    summary: Mapping[str, Any],
    about: Mapping[str, Any],
    figures: Mapping[str, Result],
    samples: Path,
) -> str:
    """Write the model card of an exported run; its metadata has the usual figures, its table all of them.

    Args:
        run: run that is exported.
        config: its config without the paths of this machine.
        summary: content of its ``summary.json``.
        about: content of ``export.json``.
        figures: results that were measured on the exported weights, by name.
        samples: picture or text with samples of the model, in the exported folder.
    """
    model, dataset = _named(config, "model"), _named(config, "dataset")
    declared = {name: Figure.from_json(one) for name, one in (summary.get("figures") or {}).items()}
    parts = [
        f"---\n{_front_matter(run, model, dataset, figures, declared)}---",
        f"# {model} on {dataset}",
        f"A model of the class {type(run.model).__name__}, trained by genlab {about['genlab']}.",
        _shown(samples),
        "## Open it",
        _needs(run, about),
        _code(run),
    ]
    if about.get("codes_of"):
        parts.append(
            f"The model draws codes, which the model of the run `{about['codes_of']}` decodes. That run is not part of "
            "this folder."
        )
    if (onnx := about.get("onnx")) is not None:
        parts += ["## ONNX", _of_graph(onnx)]
    parts += ["## Figures", _table(figures, declared, about), "## Training", _training(config, summary, about)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _named(config: Mapping[str, Any], key: str) -> str:
    return str((config.get("choices") or {}).get(key) or config[key].get("_target_", key).rpartition(".")[2])


def _front_matter(
    run: Run, model: str, dataset: str, figures: Mapping[str, Result], declared: Mapping[str, Figure]
) -> str:
    task = run.modality.task
    metrics = [
        {
            "type": short(name),
            "name": figure(name, declared).label,
            "value": result.value,
            "args": {key: value for key, value in result.protocol.items() if value is not None},
        }
        for name, result in figures.items()
        if figure(name, declared).column is not None
    ]
    results = {
        "task": {"type": task or f"{run.modality.name}-generation"},
        "dataset": {"type": dataset, "name": dataset},
        "metrics": metrics,
    }
    content: dict[str, Any] = {
        "license": "unknown",
        "library_name": "genlab",
        **({"pipeline_tag": task} if task else {}),
        "tags": ["genlab", "generative-model", *dict.fromkeys(model.split("/"))],
        **({"model-index": [{"name": f"{model} on {dataset}", "results": [results]}]} if metrics else {}),
    }
    return str(yaml.safe_dump(_plain(content), sort_keys=False, allow_unicode=True, width=120))


def _plain(value: Any) -> Any:
    """Copy values to those that YAML has."""
    if isinstance(value, Mapping):
        return {str(key): _plain(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(inner) for inner in value]
    return value if isinstance(value, bool | int | float | str | None) else str(value)


def _shown(samples: Path) -> str:
    if samples.suffix == ".png":
        return f"![Samples]({samples.name})"
    text = samples.read_text(encoding="utf-8")
    more = "\n..." if len(text) > _EXCERPT else ""
    lines = (text[:_EXCERPT] + more).splitlines()
    return "Text that it wrote:\n\n" + "\n".join(f"    {line}".rstrip() for line in lines)


def _needs(run: Run, about: Mapping[str, Any]) -> str:
    extra = "[text]" if isinstance(run.model, Writes) else ""
    version = about["genlab"]
    lines = [
        f"Needed: Python 3.11 or later and genlab {version}: `pip install 'genlab{extra}=={version}'` if your package "
        f"index has it, or else `pip install '/path/to/genlab{extra}'`, the folder of its source."
    ]
    if modules := about.get("modules"):
        named = ", ".join(f"`{module}`" for module in modules)
        lines.append(f"The config names code of {named}, which is not part of this folder: install it, and trust it.")
    return " ".join(lines)


def _code(run: Run) -> str:
    lines = ["```python", "import genlab", "", 'run = genlab.load(".")  # this folder']
    if isinstance(run.model, Writes):
        lines.append("print(run.tokenizer.decode(run.model.sample(1)[0].tolist()))")
    else:
        shape = ", ".join(map(str, run.model.shape))
        lines.append(f"x = run.model.sample(16)  # (16, {shape})")
    return "\n".join([*lines, "```"])


def _of_graph(onnx: Mapping[str, Any]) -> str:
    types = {"tensor(float)": "float32", "tensor(int64)": "int64", "tensor(double)": "float64"}
    given = []
    for name, one in onnx["inputs"].items():
        sizes = [2 if i == 0 else size if isinstance(size, int) else 8 for i, size in enumerate(one["shape"])]
        kind = types.get(one["type"], "float32")
        drawn = f"np.zeros({tuple(sizes)}, np.{kind})"
        if kind.startswith("float"):
            drawn = f"np.random.default_rng(0).standard_normal({tuple(sizes)}).astype(np.{kind})"
        given.append(f'    "{name}": {drawn},')
    return "\n".join(
        [
            f"`{onnx['file']}` takes any number of examples B. {onnx['about']}. The largest difference from PyTorch "
            f"in batches of {' and '.join(map(str, onnx['batches']))} is {onnx['max_difference']:.1e} (allowed: "
            f"{onnx['tolerance']:g}; torch {onnx['versions']['torch']}, "
            f"onnxruntime {onnx['versions']['onnxruntime']}).",
            "",
            "Needed: `pip install onnxruntime numpy`.",
            "",
            "```python",
            "import numpy as np",
            "import onnxruntime",
            "",
            f'session = onnxruntime.InferenceSession("{onnx["file"]}")',
            f"{', '.join(onnx['outputs'])}{',' * (len(onnx['outputs']) == 1)} = session.run(None, {{",
            *given,
            "})",
            "```",
        ]
    )


def _table(figures: Mapping[str, Result], declared: Mapping[str, Figure], about: Mapping[str, Any]) -> str:
    if not figures:
        return "None was measured on these weights."
    lines = ["| figure | value | measured on |", "| --- | ---: | --- |"]
    for name, result in figures.items():
        spread = next((f" ± {one:.2g}" for one in (result.standard_error, result.std) if one is not None), "")
        bound = "≤ " if result.is_upper_bound else ""
        words = "; ".join(filter(None, (remark(result), result.warning)))
        lines.append(f"| {figure(name, declared).label} | {bound}{digits(result.value)}{spread} | {words} |")
    which = f"checkpoint {about['checkpoint']}, {about['weights']} weights"
    return "\n".join([*lines, "", f"All of the {which}. `summary.json` has the whole protocol of each."])


def _training(config: Mapping[str, Any], summary: Mapping[str, Any], about: Mapping[str, Any]) -> str:
    facts: dict[str, Any] = {
        "experiment": (config.get("choices") or {}).get("experiment"),
        "parameters": _count(summary.get("parameters")),
        "images seen": _count(summary.get("images_seen")),
        "wall time": f"{summary['wall_seconds']:.0f} s" if "wall_seconds" in summary else None,
        "device": (summary.get("environment") or {}).get("device"),
        "seed": config.get("seed"),
        "started from": config.get("init_sha256") and f"weights with the sha256 {config['init_sha256']}",
        "weights (sha256)": about["sha256"],
    }
    lines = [f"* {name}: {value}" for name, value in facts.items() if value is not None]
    return "\n".join([*lines, "", "`config.yaml` is the whole config of the run."])


def _count(value: Any) -> str | None:
    return f"{value:,}" if isinstance(value, int) else None
