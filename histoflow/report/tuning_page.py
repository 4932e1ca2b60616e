"""Writes the report of a study: one HTML file that refers to nothing outside itself."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from histoflow import files
from histoflow.report import tuning_figures as figures
from histoflow.report import wording
from histoflow.report.page import rendered
from histoflow.report.pictures import Picture, picture
from histoflow.report.tuning_data import Axis, Tried, TuningResults


def write_tuning_page(results: TuningResults) -> Path:
    """Write tuning.html into the study's folder; a report that was there stays whole until then."""
    return files.write_text(results.folder / "tuning.html", rendered("tuning.html.j2", _content(results)))


def _content(results: TuningResults) -> dict[str, Any]:
    done = [trial for trial in results.trials if trial.state == "complete"]
    return {
        "title": {
            "name": f"{results.name}: tuning",
            "id": f"Study {results.study}",
            "created": wording.moment(results.created),
        },
        "searched": [_searched(axis, results) for axis in results.axes],
        "how": _how(results),
        "found": _found(results),
        "objectives": [_objective(name) for name in results.objectives],
        "rows": [_row(trial, results) for trial in best_first(results)],
        "histories": [_history(results, index) for index in range(len(results.objectives))] if done else [],
        "front": _front(results) if results.front else None,
        "importance": _importance(results) if results.importances else None,
        "parallel": _parallel(results) if done else None,
        "configuration": files.yaml_of(dict(results.configuration)) if results.configuration else "",
        "retrained": [_retrained(run.run, run.state, run.scores) for run in results.retrained],
        "looks": sum(1 for run in results.retrained if run.scores),
        "environment": results.environment,
    }


def _objective(name: str) -> str:
    return name.removeprefix("val_").replace("_", " ")


def _searched(axis: Axis, results: TuningResults) -> dict[str, str]:
    best = next((trial.point for trial in results.trials if trial.number == results.best), {})
    value = wording.brief(best[axis.name]) if axis.name in best else wording.NONE
    return {"name": axis.name, "domain": _domain(axis), "best": value}


def _domain(axis: Axis) -> str:
    if axis.choices is not None:
        return ", ".join(wording.plainly(choice) for choice in axis.choices)
    return f"{axis.low:g} to {axis.high:g}{', logarithmic' if axis.log else ''}"


def _how(results: TuningResults) -> list[tuple[str, str]]:
    search = results.search
    fidelity = ", ".join(f"{key} {wording.plainly(value)}" for key, value in search["fidelity"].items())
    ways = [
        f"{_objective(name)}, {'highest' if rising else 'lowest'}"
        for name, rising in zip(results.objectives, results.higher_is_better, strict=True)
    ]
    facts = {
        "for the best": "; ".join(ways),
        "sampler": search["sampler"],
        "pruner": search["pruner"],
        "trials with": fidelity or "all data and epochs",
        "at once": f"{search['parallel']}, {search['runner']}",
        "seed": str(search["seed"]),
    }
    return list(facts.items())


def _found(results: TuningResults) -> list[tuple[str, str]]:
    counts = {state: sum(trial.state == state for trial in results.trials) for state in _STATES}
    parts = [f"{number:,} {state}" for state, number in counts.items() if number]
    seconds = sum(trial.seconds or 0 for trial in results.trials)
    facts = {
        "trials": f"{len(results.trials):,} ({', '.join(parts)})",
        "time": f"{wording.duration(seconds)} of training",
    }
    best = next((trial for trial in results.trials if trial.number == results.best), None)
    if best is not None:
        facts["best"] = f"trial {best.number}: {best.label}"
        for name, value in zip(results.objectives, best.values, strict=True):
            facts[_objective(name)] = wording.figure(value)
    return list(facts.items())


_STATES = ("complete", "pruned", "failed", "running")


def best_first(results: TuningResults) -> list[Tried]:
    """The best first, then those that were pruned, failed or are under way."""
    sign = -1 if results.higher_is_better[0] else 1

    def place(trial: Tried) -> tuple[int, float, int]:
        return _STATES.index(trial.state), sign * trial.values[0] if trial.values else 0.0, trial.number

    return sorted(results.trials, key=place)


def _row(trial: Tried, results: TuningResults) -> dict[str, Any]:
    values = trial.values or (None,) * len(results.objectives)
    return {
        "number": trial.number,
        "label": trial.label,
        "state": trial.state,
        "values": [wording.figure(value) for value in values],
        "epochs": wording.NONE if trial.epochs is None else str(trial.epochs),
        "time": wording.NONE if trial.seconds is None else wording.duration(trial.seconds),
        "is_best": trial.number == results.best,
        "error": trial.error,
    }


def _retrained(run: str, state: str, scores: Mapping[str, float | None]) -> dict[str, Any]:
    return {
        "run": run,
        "state": state,
        "scores": ", ".join(
            f"{name.replace('_', ' ')} {wording.figure(value)}" for name, value in scores.items()
        ),
    }


# ── Pictures ────────────────────────────────────────────────────────────────────────────────────


def _history(results: TuningResults, index: int) -> Picture:
    name = _objective(results.objectives[index])
    done = [trial.values[index] for trial in results.trials if trial.state == "complete"]
    best = max(done) if results.higher_is_better[index] else min(done)
    alt = f"The {name} of {len(done)} finished trials, one dot each. The best is {wording.figure(best)}."
    caption = f"The {name} of each trial, in the epoch that it keeps, and the best until then"
    return picture(figures.history_chart(results, index), alt, caption)


def _front(results: TuningResults) -> Picture:
    names = " and ".join(_objective(name) for name in results.objectives[:2])
    numbers = ", ".join(str(number) for number in sorted(results.front))
    alt = f"Scatter chart of {names}. No other trial beats trials {numbers} in every objective."
    return picture(figures.front_chart(results), alt, f"{names.capitalize()} of each trial, by number")


def _importance(results: TuningResults) -> Picture:
    shares = ", ".join(f"{name} {share:.0%}" for name, share in results.importances.items())
    caption = (
        "How much each setting has to do with a trial being among the best (PED-ANOVA). "
        "Few trials make this a guess."
    )
    return picture(figures.importance_chart(results.importances), f"Bar chart: {shares}.", caption)


def _parallel(results: TuningResults) -> Picture:
    done = [trial for trial in results.trials if trial.state == "complete"]
    best = next(trial for trial in done if trial.number == results.best)
    alt = f"Parallel coordinates of {len(done)} finished trials. The best: {best.label}."
    caption = "A line for each finished trial: the better, the stronger, the best one in orange"
    return picture(figures.parallel_chart(results), alt, caption)
