"""Measures several ways to do one thing, alternating in one process, and prints figures with their spread."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date

Way = Callable[[], int]
"""Does the work once and returns how many units of it were done."""


def compare(
    title: str, unit: str, ways: Mapping[str, Way], runs: int = 7, before: Callable[[], object] = lambda: None
) -> None:
    """Print the rate of each way, and its ratio to the last one, which is the peer.

    ``before`` is called before each run and takes none of its time.
    """
    for way in ways.values():
        way()  # warm up
    rates: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(runs):
        for name, way in ways.items():
            before()
            begin = time.perf_counter()
            done = way()
            rates[name].append(done / (time.perf_counter() - begin))
    _print(title, unit, rates)


def _print(title: str, unit: str, rates: Mapping[str, list[float]]) -> None:
    peer = list(rates)[-1]
    print(describe(title, len(rates[peer])))
    for name, found in rates.items():
        ratios = [mine / theirs for mine, theirs in zip(found, rates[peer], strict=True)]
        print(
            f"  {name:34} {_figure(found, ',.0f')} {unit}/s"
            + ("" if name == peer else f"   {_figure(ratios, '.2f')} × {peer}")
        )


def describe(title: str, runs: int) -> str:
    """What stands over a block of figures."""
    return f"\n{title}\n{date.today()}, {_hardware()}\n{runs} alternating runs each: median (least to most)"


def _figure(values: list[float], form: str) -> str:
    return f"{statistics.median(values):{form}} ({min(values):{form}} to {max(values):{form}})"


def _hardware() -> str:
    import torch

    device = torch.cuda.get_device_name() if torch.cuda.is_available() else "no GPU"
    return f"{_processor()}, {os.cpu_count()} cores, {device}, torch {torch.__version__}"


def _processor() -> str:
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as file:  # noqa: PTH123
            return next(line.split(":")[1].strip() for line in file if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
