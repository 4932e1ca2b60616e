"""Switches of torch that belong to the whole process, set while a run is computed and put back afterwards."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any, TypeVar

import torch
from torch.utils import deterministic as _deterministic

from histoflow.engine.memory import keep_big_blocks
from histoflow.engine.plan import Plan

_WORKSPACES = (":4096:8", ":16:8")
"""Those with which cuBLAS gives the same sums each time."""

_memory: Any = _deterministic

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def computing(plan: Plan, device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Compute as the plan says."""
    with ExitStack() as switches:
        switches.callback(torch.set_num_threads, torch.get_num_threads())
        torch.set_num_threads(plan.threads.value)
        if device.type == "cpu":
            keep_big_blocks()
        else:
            switches.enter_context(_precision("tf32" if plan.precision.value != "fp32" else "ieee"))
            switches.enter_context(_algorithms(deterministic))
        yield


def computed(
    work: Generator[Item, None, Result], plan: Plan, device: torch.device, *, deterministic: bool
) -> Generator[Item, None, Result]:
    """The same work, computed so; who takes its items computes between them as before."""
    try:
        while True:
            with computing(plan, device, deterministic=deterministic):
                try:
                    item = next(work)
                except StopIteration as end:
                    result: Result = end.value
                    return result
            yield item
    finally:
        work.close()


@contextmanager
def _precision(wanted: str) -> Iterator[None]:
    """How products and convolutions of 32-bit numbers are rounded on a GPU."""
    cuda: Any = torch.backends
    backends = [cuda.cuda.matmul, cuda.cudnn.conv]
    before = [backend.fp32_precision for backend in backends]
    try:
        for backend in backends:
            backend.fp32_precision = wanted
        yield
    finally:
        for backend, former in zip(backends, before, strict=True):
            backend.fp32_precision = former


@contextmanager
def _algorithms(deterministic: bool) -> Iterator[None]:
    """Whether a GPU's algorithms must give the same sums each time."""
    tried, strict = torch.backends.cudnn.benchmark, torch.are_deterministic_algorithms_enabled()
    filled = _memory.fill_uninitialized_memory
    try:
        # Trying all algorithms of a convolution takes the fastest, which may be another one each time.
        torch.backends.cudnn.benchmark = not deterministic
        _memory.fill_uninitialized_memory = False  # nothing here reads what it did not write
        if deterministic and os.environ.get("CUBLAS_WORKSPACE_CONFIG") not in _WORKSPACES:
            os.environ["CUBLAS_WORKSPACE_CONFIG"] = _WORKSPACES[0]  # read when cuBLAS is first used
        torch.use_deterministic_algorithms(deterministic)
        yield
    finally:
        torch.backends.cudnn.benchmark = tried
        _memory.fill_uninitialized_memory = filled
        torch.use_deterministic_algorithms(strict)
