"""Writes the report of a cross-validation: one HTML file that refers to nothing outside itself."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from histoflow import files
from histoflow.report import wording
from histoflow.report.page import rendered


def write_folds_page(folder: Path, record: Mapping[str, Any]) -> Path:
    """Write report.html into the folder of this folds.json."""
    return files.write_text(folder / "report.html", rendered("folds.html.j2", _content(record)))


def _content(record: Mapping[str, Any]) -> dict[str, Any]:
    experiment = record["experiment"]
    return {
        "title": {
            "name": f"{record['name']}: {record['folds']} folds",
            "id": f"Cross-validation {record['id']}",
            "created": wording.moment(record["created"]),
        },
        "warning": wording.NOT_A_STANDARD_ERROR,
        "asked": [
            (kind, " ".join(filter(None, wording.choice(experiment[kind]))))
            for kind in ("dataset", "architecture", "loss", "optimizer")
        ],
        "data": _data(record),
        "tables": [_table("val", record), _table("test", record)],
        "notes": wording.undefined(record),
        "configuration": files.yaml_of(experiment),
        "environment": record["environment"],
    }


def _data(record: Mapping[str, Any]) -> list[tuple[str, str]]:
    first = record["results"][0]
    return [
        ("images", f"{first['train_images'] + first['val_images']:,} in the folds"),
        ("test", f"{first['test_images']:,} images, opened once for each fold"),
        ("seed", str(record["experiment"]["split"]["seed"])),
        ("fingerprint", str(record["data_fingerprint"])[:16]),
    ]


_CAPTIONS = {
    "val": "On the fold that was held out, in the epoch that was kept. That epoch was chosen by these very "
    "images, so the figures are a little too good.",
    "test": "On the test split, which no fold trained on nor chose by.",
}


def _table(split: str, record: Mapping[str, Any]) -> dict[str, Any]:
    names = list(record["summary"][split])
    return {
        "title": {"val": "Held-out folds", "test": "Test split"}[split],
        "caption": _CAPTIONS[split],
        "names": [name.replace("_", " ") for name in names],
        "rows": [_row(result, split, names) for result in record["results"]],
        "overall": [wording.plus_minus(record["summary"][split][name]) for name in names],
    }


def _row(result: Mapping[str, Any], split: str, names: Sequence[str]) -> dict[str, Any]:
    return {
        "fold": result["fold"],
        "run": result["run"],
        "images": f"{result[f'{split}_images']:,}",
        "epoch": f"{result['best_epoch']} of {result['epochs']}",
        "figures": [wording.figure(result[split].get(name)) for name in names],
    }
