"""Complete experiments by name, and the reading of experiment files."""

from __future__ import annotations

import difflib
from importlib.resources import files
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from histoflow.errors import UserError


def names() -> list[str]:
    return sorted(
        Path(entry.name).stem for entry in files(__name__).iterdir() if entry.name.endswith(".yaml")
    )


def text(name: str) -> str:
    """The YAML of a shipped recipe."""
    return files(__name__).joinpath(f"{name}.yaml").read_text(encoding="utf-8")


def read(source: str | Path) -> dict[str, Any]:
    """The data of a YAML file, or of the recipe of that name."""
    path = Path(source)
    if str(source) in names():
        return _parse_yaml(text(str(source)), f"recipe '{source}'")
    if not _is_file(path):
        near = difflib.get_close_matches(str(source), names(), n=1)
        hint = f" Did you mean '{near[0]}'?" if near else ""
        raise UserError(
            f"The experiment must be a YAML file or one of the recipes {', '.join(names())}. "
            f"Got '{source}', which is neither.{hint}"
        )
    return read_file(path, "experiment file")


def read_file(path: Path, what: str) -> dict[str, Any]:
    """The mapping in a YAML file."""
    try:
        return _parse_yaml(path.read_text(encoding="utf-8"), str(path))
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"The {what} {path} cannot be read: {error}.") from error


def _where(error: YAMLError) -> str:
    """What is wrong and in which line, without the library's own advice."""
    mark = getattr(error, "problem_mark", None)
    problem = getattr(error, "problem", None) or str(error)
    return f"{problem}, line {mark.line + 1}" if mark else problem


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except OSError:  # a name too long to be one
        return False


def _parse_yaml(content: str, source: str) -> dict[str, Any]:
    try:
        data = YAML(typ="safe", pure=True).load(content)
    except YAMLError as error:
        raise UserError(f"{source} is not valid YAML: {_where(error)}.") from error
    if not isinstance(data, dict):
        raise UserError(f"{source} must hold a mapping of settings, such as 'dataset: tissue'. Got {data!r}.")
    return data
