"""Changes to an experiment's data from the command line: ``--set training.epochs=3``."""

from __future__ import annotations

from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from histoflow.errors import ExperimentError, Problem, UserError


def apply_override(data: dict[str, Any], override: str) -> None:
    """Set one value in place: ``training.epochs=3``, ``augment.0=flips``, ``architecture.name=cnn``.

    Another name for a component starts from that component's defaults: the old one's parameters
    would not be its own.
    """
    path, equals, value_text = override.partition("=")
    keys = path.strip().split(".")
    if not equals or not all(keys):
        raise UserError(f"An override must look like training.epochs=3. Got '{override}'.")
    value = _yaml_value(value_text, override)
    if keys[-1] == "name" and len(keys) > 1:
        keys = keys[:-1]
        value = _at(data, keys) if _name_at(data, keys) == value else {"name": value}
    _assign(data, keys, value, override)


def _yaml_value(text: str, override: str) -> Any:
    try:
        return YAML(typ="safe", pure=True).load(text) if text.strip() else None
    except YAMLError as error:
        raise UserError(
            f"The value of the override '{override}' is not valid YAML. Give it as in the file, "
            f"such as augment=[flips] or loss={{name: focal, gamma: 1}}."
        ) from error


def _at(data: Any, keys: list[str]) -> Any:
    for key in keys:
        try:
            data = data[int(key)] if isinstance(data, list) else data.get(key)
        except (ValueError, IndexError, AttributeError):
            return None
    return data


def _name_at(data: Any, keys: list[str]) -> Any:
    chosen = _at(data, keys)
    return chosen.get("name") if isinstance(chosen, dict) else chosen


def _assign(data: Any, keys: list[str], value: Any, override: str) -> None:
    *way, last = keys
    for depth, key in enumerate(way, start=1):
        data = _step_into(data, key, ".".join(keys[:depth]), override)
    data[_place(data, last, override)] = value


def _step_into(data: Any, key: str, path: str, override: str) -> Any:
    place = _place(data, key, override)
    inner = data[place] if isinstance(data, list) else data.get(place)
    if inner is None:
        inner = {}
    if isinstance(inner, str):
        inner = {"name": inner}  # a bare string names a component; its parameters can now be set
    if not isinstance(inner, dict | list):
        problem = Problem(path, f"holds {inner!r}, which has no parts to set.")
        raise ExperimentError([problem], f"--set {override}")
    data[place] = inner
    return inner


def _place(data: Any, key: str, override: str) -> Any:
    """The key itself, or a list's index."""
    if not isinstance(data, list):
        return key
    if not key.isdigit() or int(key) >= len(data):
        raise UserError(
            f"The override '{override}' must name an item of the list by 0 to {len(data) - 1}. Got '{key}'."
        )
    return int(key)
