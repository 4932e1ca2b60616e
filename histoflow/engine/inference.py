"""Makes a network ready for inference alone: the same outputs, sooner.

A batch norm that follows a convolution is folded into it. On a CPU with oneDNN, images then stay in the
blocked layout in which that library computes, from one convolution to the next, and weights are brought
into it once; otherwise each layer converts to and fro.
"""

from __future__ import annotations

import operator
from collections import Counter
from collections.abc import Callable
from copy import deepcopy
from typing import Literal, cast

import torch
from torch import Tensor, fx, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from histoflow.errors import CheckpointError

Tta = Literal["none", "flips", "dihedral"]
View = Callable[[Tensor], Tensor]
Change = Callable[[fx.GraphModule], fx.GraphModule]

_TOLERANCE = 1e-4
"""Of the largest output. Rounding is far below it, a fold that went wrong far above."""
_TAKE_BLOCKED = (nn.ReLU, nn.MaxPool2d, nn.AvgPool2d, nn.Identity, nn.Dropout)
_FUNCTIONS_TAKE_BLOCKED = (operator.add, operator.iadd, torch.add, torch.relu, functional.relu)


def views(tta: Tta) -> tuple[View, ...]:
    """The ways to look at a batch N×C×H×W, over which probabilities are averaged.

    Those of ``dihedral`` need square images.
    """
    if tta == "none":
        return (lambda images: images,)
    flips = (_turned(0, False), _turned(0, True), _turned(2, False), _turned(2, True))
    if tta == "flips":
        return flips
    return (*flips, _turned(1, False), _turned(1, True), _turned(3, False), _turned(3, True))


def _turned(quarters: int, mirrored: bool) -> View:
    def view(images: Tensor) -> Tensor:
        turned = torch.rot90(images, quarters, (2, 3))
        return turned.flip(3) if mirrored else turned

    return view


def prepare(
    model: nn.Module,
    device: torch.device,
    size: tuple[int, int, int],
    *,
    channels_last: bool = True,
    fold: bool = True,
    blocked: bool | None = None,
) -> nn.Module:
    """A copy of the model for inference with images of this ``size``, channels × height × width.

    Each change is kept only where the outputs for random images stay the same. ``blocked`` layout is for
    float32 on a CPU; None takes it where oneDNN is there. The model itself is left as it was.
    """
    # Folded on the CPU: there float32 is exact, so that the comparison tells rounding from a mistake.
    ready = deepcopy(model).cpu().eval()
    images = torch.randn(2, *size, generator=torch.Generator().manual_seed(0))
    _refuse_infinite(ready, images)
    if fold:
        ready = _changed(ready, images, _folded)
    if device.type == "cpu" and (_has_onednn() if blocked is None else blocked):
        in_blocks = _changed(ready, images, _in_blocks)
        if in_blocks is not ready:
            return in_blocks
    last = torch.channels_last if channels_last else torch.contiguous_format
    return ready.to(device).to(memory_format=last)


@torch.no_grad()
def _refuse_infinite(model: nn.Module, images: Tensor) -> None:
    if not model(images.clone()).isfinite().all():
        raise CheckpointError(
            "A network must give finite numbers for images. This one gives others, even for random ones: its "
            "weights are damaged, or its training diverged. Train it again, or take another run or version."
        )


def _has_onednn() -> bool:
    return bool(torch.backends.mkldnn.is_available())  # type: ignore[no-untyped-call]


@torch.no_grad()
def _changed(model: nn.Module, images: Tensor, change: Change) -> nn.Module:
    """The changed copy; the model as it is where it cannot be traced, or would say something else."""
    expected = model(images.clone())
    try:
        changed = change(fx.symbolic_trace(deepcopy(model)))
        found = changed(images)
    except Exception:  # any code may stand in a plugin's network, and fail in any way when traced
        return model
    furthest = _TOLERANCE * float(expected.abs().max())
    return changed if torch.allclose(found, expected, rtol=0, atol=furthest) else model


# ── Folding ─────────────────────────────────────────────────────────────────────────────────────


def _folded(traced: fx.GraphModule) -> fx.GraphModule:
    calls = Counter(node.target for node in traced.graph.nodes if node.op == "call_module")
    for node in list(traced.graph.nodes):
        norm, before = _module(traced, node), _first_input(node)
        convolution = _module(traced, before)
        if not isinstance(norm, nn.BatchNorm2d) or not isinstance(convolution, nn.Conv2d):
            continue
        used_once = calls[node.target] == calls[before.target] == len(before.users) == 1
        if used_once and norm.track_running_stats:
            traced.set_submodule(str(before.target), fuse_conv_bn_eval(convolution, norm))
            node.replace_all_uses_with(before)
            traced.graph.erase_node(node)
    return _recompiled(traced)


def _first_input(node: fx.Node) -> fx.Node:
    """What the node works on first; the node itself where it has no input."""
    return next(iter(node.all_input_nodes), node)


def _module(traced: fx.GraphModule, node: fx.Node) -> nn.Module | None:
    """What this node calls, if it calls a module."""
    return traced.get_submodule(str(node.target)) if node.op == "call_module" else None


def _recompiled(traced: fx.GraphModule) -> fx.GraphModule:
    traced.graph.lint()
    traced.delete_all_unused_submodules()
    traced.recompile()
    return traced


# ── The blocked layout ──────────────────────────────────────────────────────────────────────────


class _BlockedConvolution(nn.Module):
    """A convolution of blocked images, whose weights lie as oneDNN wants them."""

    def __init__(self, convolution: nn.Conv2d) -> None:
        super().__init__()
        self._stride, self._padding = convolution.stride, convolution.padding
        self._dilation, self._groups = convolution.dilation, convolution.groups
        # Not as parameters: this layout can neither be saved nor moved.
        self._weight = torch._C._nn.mkldnn_reorder_conv2d_weight(
            convolution.weight.detach().to_mkldnn(),
            list(convolution.padding),
            list(convolution.stride),
            list(convolution.dilation),
            convolution.groups,
        )
        bias = convolution.bias
        self._bias = (torch.zeros(len(convolution.weight)) if bias is None else bias.detach()).to_mkldnn()

    def forward(self, images: Tensor) -> Tensor:
        return torch.conv2d(
            images, self._weight, self._bias, self._stride, self._padding, self._dilation, self._groups
        )


def _in_blocks(traced: fx.GraphModule) -> fx.GraphModule:
    """Blocked images from convolution to convolution, and plain ones for whatever takes no others."""
    in_blocks: set[fx.Node] = set()
    for node in list(traced.graph.nodes):
        module = _module(traced, node)
        if _can_be_blocked(module) or (
            _takes_blocked(node, module) and in_blocks.intersection(node.all_input_nodes)
        ):
            _convert_inputs(node, [one for one in node.all_input_nodes if one not in in_blocks], "to_mkldnn")
            in_blocks.add(node)
        else:
            _convert_inputs(node, [one for one in node.all_input_nodes if one in in_blocks], "to_dense")
    _block_convolutions(traced)
    return _recompiled(traced)


def _block_convolutions(traced: fx.GraphModule) -> None:
    for name, module in list(traced.named_modules()):
        if _can_be_blocked(module):
            traced.set_submodule(name, _BlockedConvolution(cast("nn.Conv2d", module)))


def _can_be_blocked(module: nn.Module | None) -> bool:
    return isinstance(module, nn.Conv2d) and module.padding_mode == "zeros"


def _takes_blocked(node: fx.Node, module: nn.Module | None) -> bool:
    if node.op == "call_function":
        return node.target in _FUNCTIONS_TAKE_BLOCKED
    return isinstance(module, _TAKE_BLOCKED)


def _convert_inputs(node: fx.Node, inputs: list[fx.Node], method: str) -> None:
    for one in inputs:
        with node.graph.inserting_before(node):
            node.replace_input_with(one, node.graph.call_method(method, (one,)))
