"""The shipped compose file as tests read it: with variables filled in as `docker compose` fills them in."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

DEPLOYMENTS = Path(__file__).parents[1] / "deployments"
FILE = DEPLOYMENTS / "compose.yaml"
_VARIABLE = re.compile(r"\$\{(?P<name>\w+)(?::(?P<kind>[-?])(?P<text>[^}]*))?\}")


class MissingVariable(Exception):
    """A variable that the file demands is not set; the message is the file's own."""


def services(variables: Mapping[str, str]) -> dict[str, Any]:
    text = _VARIABLE.sub(lambda match: _value(match, variables), FILE.read_text())
    found: dict[str, Any] = YAML(typ="safe", pure=True).load(text)["services"]
    return found


def names() -> dict[str, str]:
    """Each variable in the file with what stands in its place when it is not set; '' where it is demanded."""
    return {
        match["name"]: match["text"] if match["kind"] == "-" else ""
        for match in _VARIABLE.finditer(FILE.read_text())
    }


def _value(match: re.Match[str], variables: Mapping[str, str]) -> str:
    if variables.get(match["name"]):
        return variables[match["name"]]
    if match["kind"] == "?":
        raise MissingVariable(match["text"])
    return str(match["text"])
