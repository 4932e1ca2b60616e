"""Reporters: they write into the run's folder, leave what is there, and name what they wrote."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import chdir
from pathlib import Path
from typing import Any

from histoflow.components import Reporter, Results, Task
from histoflow.testing._common import calling, expect, leaving_global_chance_alone
from histoflow.testing._results import example_results


def check(reporter: Reporter[Any], params: Any) -> None:
    """On results of one label an image, and of several."""
    _check_on("multiclass", reporter, params)
    _check_on("multilabel", reporter, params)


def _check_on(task: Task, reporter: Reporter[Any], params: Any) -> None:
    with tempfile.TemporaryDirectory() as name:
        root = Path(name).resolve()
        folder, elsewhere = root / "run", root / "elsewhere"
        folder.mkdir()
        elsewhere.mkdir()
        results = example_results(folder, task)
        before = _content(root)
        with chdir(elsewhere), leaving_global_chance_alone(reporter), calling(reporter, "write"):
            paths = [Path(path) for path in reporter.write(params, results)]
        _check_returned(reporter, results, paths)
        _check_written(reporter, root, before, paths)


def _check_returned(reporter: Reporter[Any], results: Results, paths: list[Path]) -> None:
    expect(bool(paths), reporter, "write must return the paths of its files. Got none.")
    for path in paths:
        inside = path.is_absolute() and results.folder in path.resolve().parents
        expect(inside, reporter, f"writes to {path}, which is outside of results.folder.")
        expect(path.is_file(), reporter, f"names the file {path.name}, which is not there.")


def _check_written(
    reporter: Reporter[Any], root: Path, before: dict[Path, bytes], returned: list[Path]
) -> None:
    after = _content(root)
    changed = [str(path.relative_to(root)) for path in before if after.get(path) != before[path]]
    expect(not changed, reporter, f"changes files that are not its own: {', '.join(changed)}.")
    stray = [str(path.relative_to(root)) for path in after if path.is_relative_to(root / "elsewhere")]
    expect(not stray, reporter, f"writes outside of results.folder: {', '.join(stray)}.")


def _content(root: Path) -> dict[Path, bytes]:
    return dict(_files(root))


def _files(root: Path) -> Iterator[tuple[Path, bytes]]:
    for path in root.rglob("*"):
        if path.is_file():
            yield path, path.read_bytes()
