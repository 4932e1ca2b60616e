"""The command that shows what the audit found in data. It needs no Prefect."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from pydantic import ValidationError
from rich.console import Group
from rich.table import Table
from rich.text import Text

from histoflow import progress, recipes, registry
from histoflow._overrides import apply_override
from histoflow.components import Dataset
from histoflow.errors import AuditError, UserError
from histoflow.experiment import Audit, Experiment, load, parse
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible

if TYPE_CHECKING:
    from histoflow.data.audit.finding import Finding
    from histoflow.data.audit.quarantine import Reason
    from histoflow.data.store import Manifest

_STYLES = {"ok": "green", "note": "cyan", "warning": "yellow", "refused": "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command of this module."""
    app.command()(audit)


@dataclass(frozen=True)
class _Told:
    """What is known of packed data, under the policies that were asked for."""

    folder: Path
    manifest: Manifest
    policies: dict[str, str]
    findings: tuple[Finding, ...]
    reasons: list[Reason]
    refusal: str


def audit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="RECIPE|FILE|DATASET|FOLDER",
            help="A recipe, an experiment's YAML, a data set's name, or a folder of packed data.",
        ),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="A.B=C", help="Change one setting, such as audit.blank=drop."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print data for other programs.")] = False,
) -> None:
    """Show what the audit found in data, which are fetched and packed if they are not yet.

    Exit code 0, or 1 where the policies refuse to train on them.
    """
    with (
        interruptible("What was packed stays; audit again to go on."),
        display.showing(display.err if as_json else display.out) as listener,
        progress.listening(listener),
    ):
        told = (
            _told(Path(source), overrides or ()) if _is_folder(source) else _packed(source, overrides or ())
        )
    if as_json:
        typer.echo(json.dumps(_data(told), indent=2))
    else:
        _show(told)
    if told.refusal:
        raise typer.Exit(1)


def _is_folder(source: str) -> bool:
    return source not in recipes.names() and Path(source).is_dir()


def _packed(source: str, overrides: Sequence[str]) -> _Told:
    from histoflow import stages

    experiment = _experiment(source, overrides)
    packed = stages.pack(experiment, stages.fetch(experiment))
    return _judge(packed.folder, experiment.audit)


def _experiment(source: str, overrides: Sequence[str]) -> Experiment:
    """Of a recipe or a file; where a data set is named, the shortest experiment that has it."""
    names = registry.installed().of_kind(Dataset).keys() - set(recipes.names())
    if source not in names or Path(source).is_file():
        return load(source, overrides)
    data: dict[str, Any] = {"dataset": source}
    for override in overrides:
        apply_override(data, override)
    return parse(data, source=f"data set '{source}'")


def _told(folder: Path, overrides: Sequence[str]) -> _Told:
    if not (folder / "manifest.json").is_file():
        raise UserError(
            f"A folder to audit must hold packed data, with a manifest.json. {folder} has none. "
            f"For a folder of images, write an experiment that begins with "
            f"dataset: {{name: image_folder, path: {folder}}}, and audit that."
        )
    return _judge(folder, _policies(overrides))


def _policies(overrides: Sequence[str]) -> Audit:
    """For data that are packed already, under no experiment."""
    data: dict[str, Any] = {}
    for override in overrides:
        apply_override(data, override)
    try:
        policies = Audit.model_validate(data.pop("audit", {}))
    except ValidationError as error:
        raise UserError(_mistakes(error)) from None
    if data or policies.dropped:
        raise UserError(
            f"Packed data are as they were packed: of a folder, only audit.…=warn and audit.…=refuse can be "
            f"set. Got {', '.join(overrides)}. To pack anew, name the experiment in place of the folder."
        )
    return policies


def _mistakes(error: ValidationError) -> str:
    lines = [
        f"audit.{'.'.join(map(str, detail['loc']))}: {detail['msg']}. Got {detail['input']!r}."
        for detail in error.errors()
    ]
    return "\n".join([*lines, f"The settings of audit are {', '.join(Audit.model_fields)}."])


def _judge(folder: Path, policies: Audit) -> _Told:
    from histoflow.data.audit import policy
    from histoflow.data.audit.quarantine import by_reason
    from histoflow.data.store import read_manifest

    manifest, wanted = read_manifest(folder), policies.model_dump()
    try:
        policy.refuse(manifest.findings, wanted, folder)
        refusal = ""
    except AuditError as error:
        refusal = str(error)
    return _Told(
        folder=folder,
        manifest=manifest,
        policies=wanted,
        findings=policy.judged(manifest.findings, wanted),
        reasons=by_reason((image.source, image.reason) for image in manifest.quarantine),
        refusal=refusal,
    )


def _data(told: _Told) -> dict[str, Any]:
    return {
        "folder": str(told.folder),
        "fingerprint": told.manifest.fingerprint,
        "images": {split: facts.images for split, facts in told.manifest.splits.items()},
        "findings": [
            {**asdict(found), "policy": told.policies.get(found.setting)} for found in told.findings
        ],
        "quarantine": [asdict(reason) for reason in told.reasons],
        "refused": bool(told.refusal),
    }


# ── As tables ───────────────────────────────────────────────────────────────────────────────────


def _show(told: _Told) -> None:
    images = ", ".join(f"{split} {facts.images:,}" for split, facts in told.manifest.splits.items())
    _say(f"{told.folder}: {images} images")
    parts = [_findings(told), _probes(told.findings), _comparisons(told.findings), _quarantine(told.reasons)]
    for part in filter(None, parts):
        display.out.print(part)
    _say(_sound(told.findings))
    if told.refusal:
        _say(told.refusal)
    else:
        _say("Nothing that was found stops a training; --set audit.NAME=refuse would, where it is warned of.")


def _findings(told: _Told) -> Table | None:
    from histoflow.data.audit.tables import gravest_first, title

    if all(found.severity == "ok" for found in told.findings):
        return None
    drawn = Table(title="Audit", title_justify="left", title_style="bold")
    drawn.add_column("check", overflow="fold", max_width=24)
    drawn.add_column("found", overflow="fold", ratio=1)
    for found in gravest_first(asdict(finding) for finding in told.findings if finding.severity != "ok"):
        drawn.add_row(
            _head(title(found), found, told.policies.get(found["setting"], "")),
            _message(found),
            end_section=True,
        )
    return drawn


def _head(name: str, found: Mapping[str, Any], policy: str) -> Group:
    """The check, its verdict, how many images it concerns, and the setting that says what is done."""
    lines = [Text(name, style="bold"), Text(found["severity"], style=_STYLES.get(found["severity"], ""))]
    if found["images"]:
        lines.append(Text(f"{found['images']:,} {'image' if found['images'] == 1 else 'images'}"))
    if policy:
        lines.append(Text(f"{found['setting']}: {policy}", style="dim"))
    return Group(*lines)


def _sound(findings: Sequence[Finding]) -> str:
    """What was asked as well, in one line."""
    from histoflow.data.audit.tables import title

    names = dict.fromkeys(title(asdict(found)) for found in findings if found.severity == "ok")
    return f"Nothing to tell of: {', '.join(names)}." if names else ""


def _message(found: Mapping[str, Any]) -> Group:
    from histoflow.data.audit.tables import further_examples, told

    examples = further_examples(found)
    named = [Text(f"such as {', '.join(examples)}", style="dim")] if examples else []
    return Group(Text(told(found)), *named)


def _probes(findings: Sequence[Finding]) -> Table | None:
    from histoflow.data.audit.tables import probes_table

    table = probes_table([asdict(found) for found in findings])
    if table is None:
        return None
    rows = [[row["name"], *row["figures"]] for row in table["rows"]]
    return display.table("How far colour alone gets on val", ("told", *table["columns"]), rows)


def _comparisons(findings: Sequence[Finding]) -> Table | None:
    from histoflow.data.audit.tables import FAMILIES, comparisons_table

    table = comparisons_table([asdict(found) for found in findings])
    if not table:
        return None
    rows = [
        [row["name"], row["all"], *(row["families"][name] for name in FAMILIES), row["by_chance"]]
        for row in table
    ]
    columns = ("splits", "all", *FAMILIES, "random cuts")
    return display.table("How well splits can be told apart: AUC, 0.5 is guessing", columns, rows)


def _quarantine(reasons: Sequence[Reason]) -> Table | None:
    if not reasons:
        return None
    rows = [(f"{one.images:,}", one.reason, ", ".join(one.examples)) for one in reasons]
    return display.table("Quarantine", ("images", "reason", "such as"), rows)


def _say(line: str) -> None:
    display.out.print(line, markup=False, highlight=False, soft_wrap=True)
