"""A model's graph as an ONNX file, compared with PyTorch before anyone gets it."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from genlab.composition.explaining import first_line
from genlab.composition.failures import chain
from genlab.errors import InputError
from genlab.models.abilities import HasGraph
from genlab.models.base import GenerativeModel
from genlab.models.graph import Graph

NAME = "model.onnx"
TOLERANCE = 1e-4  # largest difference from PyTorch of any number
BATCHES = (1, 3)  # numbers of examples that are compared, other than the traced one


def check_installed() -> None:
    """Check that the libraries that write and run ONNX are installed.

    Raises:
        InputError: if one is not.
    """
    try:
        import onnx  # noqa: F401
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise InputError(f"form=onnx needs {error.name}: pip install 'genlab[onnx]'") from error


def graph_of(model: GenerativeModel) -> Graph:
    """Give the part of a model that is exported as a graph.

    Args:
        model: trained model, on the CPU.

    Raises:
        InputError: if the model has none.
    """
    if not isinstance(model, HasGraph):
        raise InputError(f"form=onnx: {type(model).__name__} has no graph to export; it has the form safetensors")
    return model.graph()


def write_graph(model: GenerativeModel, path: Path) -> dict[str, Any]:
    """Write a model's graph as ONNX, with a dynamic number of examples, and compare it with PyTorch in onnxruntime.

    Args:
        model: trained model, on the CPU and in evaluation mode.
        path: path of the file.

    Returns:
        What the graph computes, the names and shapes of its inputs and outputs, and the largest difference.

    Raises:
        InputError: if the model has no graph, torch cannot write it, or its results differ from PyTorch's.
    """
    graph = graph_of(model)
    dynamic = tuple({0: "batch"} | ({1: graph.lengths[name]} if name in graph.lengths else {}) for name in graph.inputs)
    name = type(model).__name__
    with _quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                graph.module.eval(),
                tuple(graph.inputs.values()),
                dynamo=True,
                verbose=False,
                input_names=list(graph.inputs),
                output_names=list(graph.outputs),
                dynamic_shapes=(dynamic,),
            )
            assert program is not None
            program.save(path)
        except Exception as error:  # of torch.export, of the translation, of the optimizer: each has its own kinds
            cause = list(chain(error))[-1]
            reason = f"{type(cause).__name__}: {first_line(cause)}"
            raise InputError(
                f"form=onnx: torch cannot write {name} as ONNX ({reason[:200]}); it has the form safetensors"
            ) from error
    difference, shapes = _compared(graph, path)
    if not difference <= TOLERANCE:
        raise InputError(
            f"form=onnx: onnxruntime and PyTorch differ by {difference:.1e} for {name}, and {TOLERANCE:g} is allowed; "
            "it has the form safetensors"
        )
    import onnxruntime

    return {
        "file": path.name,
        "about": graph.about,
        "inputs": {
            given.name: {"type": given.type, "shape": list(given.shape)} for given in _session(path).get_inputs()
        },
        "outputs": shapes,
        "opset": program.model.opset_imports.get(""),
        "max_difference": difference,
        "tolerance": TOLERANCE,
        "batches": list(BATCHES),
        "versions": {"torch": str(torch.__version__), "onnxruntime": onnxruntime.__version__},
    }


def _session(path: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _compared(graph: Graph, path: Path) -> tuple[float, dict[str, list[int]]]:
    """Compute the largest difference from PyTorch over several batches, and the shapes of one example's outputs."""
    session = _session(path)
    worst, shapes = 0.0, dict[str, list[int]]()
    for num in BATCHES:
        given = {name: _other_size(graph, name, value, num) for name, value in graph.inputs.items()}
        with torch.no_grad():
            found = graph.module(*given.values())
        expected = found if isinstance(found, tuple) else (found,)
        results = session.run(None, {name: value.numpy() for name, value in given.items()})
        for name, ours, theirs in zip(graph.outputs, expected, results, strict=True):
            difference = (ours.double() - torch.from_numpy(theirs).double()).abs().max()
            worst = max(worst, float(difference.nan_to_num(torch.inf)))
            shapes[name] = [*ours.shape[1:]]
    return worst, shapes


def _other_size(graph: Graph, name: str, value: Tensor, num: int) -> Tensor:
    """Give ``num`` typical examples, and a second dimension of any size with another size than the traced one."""
    of_size = torch.cat([value] * num)[:num]
    return of_size[:, : max(1, value.shape[1] - 1)] if name in graph.lengths else of_size


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence what torch's exporter says about itself."""
    level = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(level)
