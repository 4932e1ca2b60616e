"""What the experiment's policies make of findings that are stored as they were found."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import get_args

from histoflow.data.audit.finding import Finding
from histoflow.errors import AuditError
from histoflow.experiment import Audit, Policy


def judged(findings: Iterable[Finding], policies: Mapping[str, str]) -> tuple[Finding, ...]:
    """The same findings; a warning whose setting says refuse is ``refused``."""
    return tuple(
        replace(found, severity="refused")
        if found.severity == "warning" and policies.get(found.setting) == "refuse"
        else found
        for found in findings
    )


def refuse(findings: Iterable[Finding], policies: Mapping[str, str], folder: Path) -> None:
    """Raise AuditError with all that the policies refuse, if they refuse anything."""
    refused = [found for found in judged(findings, policies) if found.severity == "refused"]
    if refused:
        raise AuditError(_message(refused, folder))


def _message(refused: Sequence[Finding], folder: Path) -> str:
    things = "one thing that was" if len(refused) == 1 else f"{len(refused)} things that were"
    lines = [f"  {found.setting}: {found.message} {found.advice}".rstrip() for found in refused]
    settings = list(dict.fromkeys(found.setting for found in refused))
    return "\n".join(
        [
            f"The audit refuses to train on these data, for {things} found in them:",
            *lines,
            f"To go on all the same: {_all_to('warn', settings)}",
            *(
                f"To go on in another way: --set audit.{name}=drop {what}"
                for name in settings
                if (what := _what_drop_does(name))
            ),
            f"To see all that was found: histoflow audit {folder}",
        ]
    )


def _all_to(policy: str, settings: Sequence[str]) -> str:
    return " ".join(f"--set audit.{name}={policy}" for name in settings)


def _what_drop_does(setting: str) -> str:
    """In the words of the setting's own description; nothing where images cannot be dropped."""
    field = Audit.model_fields[setting]
    if set(get_args(field.annotation)) != set(get_args(Policy)):
        return ""
    told = (field.description or "").partition("; drop ")[2].rstrip(".")
    return told or "leaves those images out"
