"""The commands about models: which there are, which is in use, and which takes its place or comes back."""

from __future__ import annotations

import getpass
import json
import os
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.padding import Padding
from rich.text import Text

from histoflow import home, models, progress, runs
from histoflow.errors import HistoflowError, UserError
from histoflow.markdown import plain
from histoflow_flows import display
from histoflow_flows.interrupts import interruptible

if TYPE_CHECKING:
    from histoflow.comparing import Comparison
    from histoflow.models import Change, Line, Version

_WHY = "Why; kept in the change record."
_INDENT = 3
_BECAME = {"promote": "the champion", "rollback": "the champion again", "reject": "rejected", "hold": "held"}


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command("models")(list_models)
    app.command()(promote)
    app.command()(reject)
    app.command()(rollback)


# ── Looking ─────────────────────────────────────────────────────────────────────────────────────


def list_models(
    name: Annotated[
        str | None, typer.Argument(metavar="[NAME]", help="Tell the versions of this model, and its changes.")
    ] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Read every file of the versions, and check its hash.")
    ] = False,
    restore: Annotated[
        bool, typer.Option("--restore", help="Make the lost state.json of NAME anew from its changes.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print data for other programs.")] = False,
) -> None:
    """All models with their champions; or the versions of one, and every change."""
    if restore:
        _restore(name)
    shown = [models.find_line(name)] if name else models.listing()
    if verify:
        _verify(shown)
    rows = [_line(line, detailed=name is not None) for line in shown]
    if as_json:
        typer.echo(json.dumps(rows[0] if name else rows, indent=2))
    elif name:
        _show_line(rows[0])
    elif not rows:
        display.out.print("No models yet. Register one with: histoflow promote RUN")
    else:
        _show_lines(rows)
    if verify and not as_json:
        display.out.print("Every file is the one that was registered.")


def _restore(name: str | None) -> None:
    if name is None:
        raise UserError("--restore needs the name of a model: histoflow models NAME --restore")
    models.restore(name)


def _verify(shown: list[Line]) -> None:
    for line in shown:
        for version in line.versions:
            models.verify(version)


def _line(line: Line, *, detailed: bool) -> dict[str, Any]:
    try:
        state, versions = line.state, line.versions
        there = {one.number: one for one in versions}
        champion = there.get(state.champion or 0) if detailed else line.champion
        row = {
            "name": line.name,
            "versions": len(versions),
            "champion": _version(champion) if champion else None,
            "since": _since(state.changes),
        }
        if detailed:
            row["versions"] = [_version(one) for one in versions]
            row["changes"] = [{**one.model_dump(mode="json"), "path": str(one.path)} for one in state.changes]
    except HistoflowError as error:
        if detailed:
            raise
        return {"name": line.name, "unreadable": str(error)}
    return row


def _since(changes: tuple[Change, ...]) -> str | None:
    """When the champion became it."""
    return next((one.time for one in reversed(changes) if one.what in ("promote", "rollback")), None)


def _version(version: Version) -> dict[str, Any]:
    record = version.record
    return {
        "reference": version.reference,
        "stage": version.stage,
        "folder": str(version.folder),
        **record.model_dump(mode="json", exclude={"files", "schema_version", "name"}),
    }


def _show_lines(rows: list[dict[str, Any]]) -> None:
    columns = ("name", "champion", "run", "test", "since")
    display.out.print(display.table("Models", columns, [_line_cells(row) for row in rows]))


def _line_cells(row: dict[str, Any]) -> tuple[str, ...]:
    if "unreadable" in row:
        return row["name"], "unreadable", row["unreadable"], "", ""
    champion = row["champion"]
    if champion is None:
        return row["name"], f"none of {row['versions']}", "", "", ""
    number = f"{champion['number']} of {row['versions']}"
    return row["name"], number, champion["run"], _main_figure(champion), _moment(row["since"])


def _show_line(row: dict[str, Any]) -> None:
    columns = ("version", "stage", "run", "test", "registered", "parent")
    cells = [
        (
            str(one["number"]),
            one["stage"],
            one["run"],
            _main_figure(one),
            _moment(one["created"]),
            str(one["parent"] or display.figure(None)),
        )
        for one in row["versions"]
    ]
    display.out.print(display.table(f"Versions of {row['name']}", columns, cells))
    if row["changes"]:
        display.out.print("Changes", style="bold")
        for one in row["changes"]:
            _show_change(one)


def _show_change(change: dict[str, Any]) -> None:
    """The reason on lines of its own: it may be long."""
    instead = f" for {change['replaced']}" if change["replaced"] else ""
    head = (str(change["number"]), _moment(change["time"]), f"{change['what']} {change['version']}{instead}")
    _say("  ".join((*head, f"by {change['by']}")))
    display.out.print(Padding(Text(change["why"]), (0, 0, 0, _INDENT)))


def _main_figure(version: dict[str, Any]) -> str:
    """The figure that decides, with its interval."""
    name, figure = next(iter(version["metrics"].items()))
    return f"{name.replace('_', ' ')} {models.Figure.model_validate(figure).words}"


def _moment(time: str) -> str:
    return f"{time[:16].replace('T', ' ')} UTC"


# ── Changing ────────────────────────────────────────────────────────────────────────────────────


def promote(
    reference: Annotated[
        str,
        typer.Argument(
            metavar="RUN|NAME@VERSION",
            help="An evaluated run (id, part of it, its folder, or 'latest'), or a version such as colon@3.",
        ),
    ],
    name: Annotated[
        str | None, typer.Option(help="The model that the run is a version of. Else named as its experiment.")
    ] = None,
    why: Annotated[str, typer.Option(help=_WHY)] = "promoted by hand",
    anyway: Annotated[
        bool,
        typer.Option(
            "--anyway",
            help="Also if it is worse than the champion, cannot be compared with it, or was rejected.",
        ),
    ] = False,
) -> None:
    """Make a run, or a version of a model, the champion, unless the champion there is does better."""
    version = _version_of(reference, name)
    champion = models.champion(version.name)
    if champion == version:
        _say(f"{version.reference} is the champion already; nothing was changed.")
        return
    told, objection = _beside(champion, version)
    objection = " ".join(filter(None, (_turned_down(version), objection)))
    if told:
        _say(told)
    if objection and not anyway:
        raise UserError(
            f"{version.reference} was not promoted, and is {version.stage}: {objection} "
            f"To promote it all the same: histoflow promote {version.reference} --anyway"
        )
    change = models.promote(
        version.name,
        version.number,
        why=why,
        by=_user(),
        record=_section(told, objection),
        over=champion.number if champion else 0,
        anyway=anyway,
    )
    _say_done(version, change)


def reject(
    reference: Annotated[str, typer.Argument(metavar="NAME@VERSION", help="A version such as colon@4.")],
    why: Annotated[str, typer.Option(help=_WHY)] = "rejected by hand",
) -> None:
    """Turn down a version that is held, or any other but the champion; then only --anyway promotes it."""
    version = models.find(reference)
    _say_done(version, models.reject(version.name, version.number, why=why, by=_user()))


def rollback(
    name: Annotated[str, typer.Argument(help="The model.")],
    why: Annotated[str, typer.Option(help=_WHY)] = "rolled back by hand",
) -> None:
    """Make the champion before this one champion again; once more goes one further back."""
    _say_change(models.rollback(name, why=why, by=_user()))


def _version_of(reference: str, name: str | None) -> Version:
    if "@" not in reference:
        run = runs.find(home.runs(), reference)
        with interruptible("Promote it again when you like."):
            return models.register(run, name)
    if name is not None:
        raise UserError(
            f"--name says of which model a run is a version; {reference} is one already. Leave it out."
        )
    return models.find(reference)


def _beside(champion: Version | None, version: Version) -> tuple[str, str]:
    """How the version does beside the champion, and what speaks against promoting it; both may be empty."""
    if champion is None:
        return "", ""
    from histoflow.retraining.judging import kept_verdict

    kept = kept_verdict(version, champion)
    if kept is not None:  # on images that both could predict, of which the two runs alone may have none
        told = f"The gate compared {version.reference} with {champion.reference}: {kept.decision}. {kept.why}"
        return told, kept.why if kept.decision == "reject" else ""
    with (
        interruptible("Promote it again when you like."),
        display.showing() as listener,
        progress.listening(listener),
    ):
        from histoflow.comparing import compare_runs

        try:
            found = compare_runs(champion.run, version.run)
        except UserError as error:
            return "", f"it cannot be compared with the champion {champion.reference}.\n{error}\n"
    told = " ".join(
        (f"A is the champion {champion.reference}, B is {version.reference}.", found.words, *found.notes)
    )
    return told, _against(found, champion)


def _turned_down(version: Version) -> str:
    """That it was rejected, and why; else nothing."""
    if version.stage != "rejected":
        return ""
    changes = models.find_line(version.name).state.changes
    why = next(change.why for change in reversed(changes) if change.version == version.number)
    return f"it was rejected ({why.rstrip('.')})."


def _against(found: Comparison, champion: Version) -> str:
    """What speaks for the champion, if anything does."""
    if found.verdict == "worse":
        return f"the champion {champion.reference} is better."
    main = found.differences.metrics[found.differences.main]
    if main.difference and main.low is None and (main.difference < 0) == main.higher_is_better:
        return f"its figure is worse, and there is no telling whether by chance: {main.note}."
    return ""


def _section(told: str, objection: str) -> str:
    """What the change record says of the comparison."""
    lines = [plain(told), *([f"It was promoted all the same: {plain(objection)}"] if objection else [])]
    return "\n\n".join(["## Beside the champion until then", *filter(None, lines)]) if any(lines) else ""


def _say_done(version: Version, change: Change) -> None:
    """The report of the version's run tells it, too."""
    from histoflow.retraining import deciding

    _say_change(change)
    with display.showing() as listener, progress.listening(listener):
        deciding.tell_run(version, change)


def _say_change(change: Change) -> None:
    instead = f", in place of version {change.replaced}" if change.replaced else ""
    _say(f"{change.line.name}@{change.version} is {_BECAME[change.what]}{instead}.")
    _say(f"Change record: {change.path}")


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container need not know its user by name
        return f"user {os.getuid()}"


def _say(line: str) -> None:
    display.out.print(line, markup=False, highlight=False, soft_wrap=True)
