"""Switches of torch that belong to the whole process, set while a run is computed and put back afterwards."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch

from histoflow.engine.memory import keep_big_blocks
from histoflow.engine.plan import Plan


@contextmanager
def computing(plan: Plan, device: torch.device, *, deterministic: bool) -> Iterator[None]:
    """Compute as the plan says."""
    before = _read()
    if device.type == "cpu":
        keep_big_blocks()
        wanted = before
    else:
        wanted = _on_a_gpu(plan, deterministic)
    try:
        _write({**wanted, "threads": plan.threads.value})
        yield
    finally:
        _write(before)


def _on_a_gpu(plan: Plan, deterministic: bool) -> Mapping[str, int]:
    tf32 = plan.precision.value != "fp32"
    if deterministic:
        # cuBLAS reads it when it is first used; its default workspaces give other sums each time.
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    return {
        "convolutions_tf32": tf32,
        "products_tf32": tf32,
        # Trying all algorithms of a convolution takes the fastest, which may be another one each time.
        "benchmark": not deterministic,
        "deterministic": deterministic,
    }


def _read() -> Mapping[str, int]:
    return {
        "threads": torch.get_num_threads(),
        "convolutions_tf32": torch.backends.cudnn.allow_tf32,
        "products_tf32": torch.backends.cuda.matmul.allow_tf32,
        "benchmark": torch.backends.cudnn.benchmark,
        "deterministic": torch.are_deterministic_algorithms_enabled(),
    }


def _write(switches: Mapping[str, int]) -> None:
    torch.set_num_threads(switches["threads"])
    torch.backends.cudnn.allow_tf32 = bool(switches["convolutions_tf32"])
    torch.backends.cuda.matmul.allow_tf32 = bool(switches["products_tf32"])
    torch.backends.cudnn.benchmark = bool(switches["benchmark"])
    torch.use_deterministic_algorithms(bool(switches["deterministic"]))
