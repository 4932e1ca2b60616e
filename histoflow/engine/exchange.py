"""A model as one graph of torch's operations: stored pixels in, calibrated probabilities out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from histoflow.errors import BundleError

_LEAST, _LEAST_OF_NO = torch.finfo(torch.float32).tiny, 1e-12
"""Of a probability, and of what is left to 1, as where temperatures are fitted."""
INPUT, OUTPUT = "images", "probabilities"
_EXTRA = "histoflow[onnx]"
Program = Any
"""A ``torch.export.ExportedProgram``."""


class Graph(nn.Module):
    """The network between the normalisation of its images and what its outputs mean."""

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        link: Callable[[Tensor], Tensor],
        mean: Sequence[float],
        std: Sequence[float],
        temperature: float,
        *,
        several: bool,
    ) -> None:
        super().__init__()
        self.network, self._link = network, link
        self._temperature, self._several = temperature, several
        spread = torch.tensor(std, dtype=torch.float64)
        self.register_buffer("scale", (1 / (255 * spread)).float()[:, None, None])
        shift = -torch.tensor(mean, dtype=torch.float64) / spread
        self.register_buffer("shift", shift.float()[:, None, None])

    def forward(self, images: Tensor) -> Tensor:
        """uint8, images × height × width × channels, to float32, images × classes."""
        floats = images.permute(0, 3, 1, 2).float() * self.scale + self.shift
        probabilities = self._link(self.network(floats).float())
        return probabilities if self._temperature == 1 else self._tempered(probabilities)

    def _tempered(self, probabilities: Tensor) -> Tensor:
        of_yes = probabilities.clamp(min=_LEAST).log() / self._temperature
        if not self._several:
            return of_yes.softmax(dim=1)
        of_no = (1 - probabilities).clamp(min=_LEAST_OF_NO).log() / self._temperature
        return (of_yes - of_no).sigmoid()


def traced(graph: Graph, shape: tuple[int, int, int]) -> Program:
    """The program of the graph, for batches of any size of images height × width × channels.

    It holds neither an image that anyone took nor the path of a file on this machine.
    """
    images = torch.zeros((2, *shape), dtype=torch.uint8)
    dynamic = {INPUT: {0: torch.export.Dim("batch")}}
    try:
        program = torch.export.export(graph.eval().requires_grad_(False), (images,), dynamic_shapes=dynamic)
    except Exception as error:  # any code may stand in a plugin's network, and fail in any way when traced
        raise _cannot(
            "torch.export, on which both forms rest", "--no-onnx --no-torch-export", error
        ) from error
    return _without_paths(program)


def _without_paths(program: Program) -> Program:
    """Each operation keeps which line of which file it came from."""
    for part in program.graph_module.modules():
        for node in part.graph.nodes if isinstance(part, torch.fx.GraphModule) else ():
            node.meta.pop("stack_trace", None)
    return program


def write_program(program: Program, path: Path) -> str:
    """Returns what it was made by."""
    try:
        torch.export.save(program, path)
    except Exception as error:
        raise _cannot("a file of torch.export", "--no-torch-export", error) from error
    return f"torch {torch.__version__}"


def run_program(path: Path, images: Tensor) -> Tensor:
    found: Tensor = torch.export.load(path).module()(images)
    return found


def refuse_without_onnx() -> None:
    """Before any work: what writes ONNX, and what checks it, come with an extra."""
    try:
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        raise BundleError(
            f"ONNX needs packages that are not installed ({error}). Install them: pip install '{_EXTRA}', "
            f"or leave that form out: --no-onnx"
        ) from error


def write_onnx(program: Program, path: Path, told: dict[str, str]) -> str:
    """What is ``told`` goes into the file's metadata. Returns what it was made by."""
    try:
        made: Any = torch.onnx.export(
            program, input_names=[INPUT], output_names=[OUTPUT], dynamo=True, verbose=False
        )
        made.model.metadata_props.update(told)
        made.save(path, external_data=False)
    except Exception as error:
        raise _cannot("ONNX", "--no-onnx", error) from error
    return f"torch {torch.__version__}, opset {made.model.opset_imports['']}"


def run_onnx(path: Path, images: Tensor) -> Tensor:
    import onnxruntime

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run([OUTPUT], {INPUT: images.numpy()})
    return torch.from_numpy(found)


def _cannot(form: str, option: str, error: Exception) -> BundleError:
    first = (str(error) or type(error).__name__).strip().splitlines()[0]
    return BundleError(
        f"This network cannot be brought into the form of {form}: {first} "
        f"A bundle without it is written with {option}."
    )
