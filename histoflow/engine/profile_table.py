"""What a profile says, as a table that reads well in a terminal."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

_PHASES = (
    "data",
    "forward and loss",
    "backward",
    "optimizer",
    "rest of the step",
    "whole step as one CUDA graph",
)
_TOP = 15


@dataclass(frozen=True, kw_only=True)
class Costs:
    """Means of what was measured, in seconds."""

    phases: Mapping[str, float]
    """In a step."""
    aside: Mapping[str, float]
    """In an epoch, of what belongs to no step."""
    steps: int
    """In an epoch."""
    measured: int
    """Steps that the means are of."""
    undisturbed: bool
    """Whether those were taken without the profiler."""


@dataclass(frozen=True, kw_only=True)
class Operator:
    name: str
    on_gpu: bool
    seconds: float
    """Its own, without the operators that it calls."""
    calls: int


def table(about: str, costs: Costs, operators: Sequence[Operator], *, kernels: bool) -> str:
    """``kernels`` says whether a GPU did the work, whose kernels should be among the operators."""
    lines = [*_of_phases(about, costs), *_of_operators(operators)]
    if kernels and not any(one.on_gpu for one in operators):
        lines += ["", "No GPU kernel was recorded: KINETO_LOG_LEVEL=0 in the environment tells why."]
    return "\n".join(lines) + "\n"


def _of_phases(about: str, costs: Costs) -> Iterator[str]:
    how = "without the profiler" if costs.undisturbed else "partly under the profiler, which slows them"
    yield f"Where the time of an epoch goes: {about}, {costs.steps:,} steps"
    yield f"Means of {costs.measured:,} steps {how}"
    yield ""
    yield _row("", "share", "seconds", "ms a step")
    of_steps = {name: costs.phases[name] * costs.steps for name in _PHASES if name in costs.phases}
    whole = sum(of_steps.values()) + sum(costs.aside.values())
    for name, seconds in {**of_steps, **costs.aside}.items():
        ms = f"{1000 * costs.phases[name]:.3f}" if name in costs.phases else ""
        yield _row(name, _share(seconds, whole), f"{seconds:.3f}", ms)
    yield _row("an epoch", _share(whole, whole), f"{whole:.3f}", f"{1000 * sum(costs.phases.values()):.3f}")


def _of_operators(operators: Sequence[Operator]) -> Iterator[str]:
    for on_gpu, what in ((True, "GPU kernels"), (False, "CPU operators")):
        found = [one for one in operators if one.on_gpu == on_gpu and one.seconds > 0]
        whole = sum(one.seconds for one in found)
        if found:
            yield ""
            yield _row(f"{what} in the recorded steps", "share", "seconds", "calls")
        for one in sorted(found, key=lambda one: -one.seconds)[:_TOP]:
            yield _row(one.name, _share(one.seconds, whole), f"{one.seconds:.4f}", f"{one.calls:,}")


def _share(part: float, whole: float) -> str:
    return f"{part / whole:.1%}" if whole else "–"


def _row(name: str, *cells: str) -> str:
    shortened = name if len(name) <= 44 else f"{name[:43]}…"
    return f"{shortened:<44}" + "".join(f"{cell:>11}" for cell in cells)
