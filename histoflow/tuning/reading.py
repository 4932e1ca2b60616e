"""Reads a search space: what a file says of it, on top of what the chosen components mark as tunable."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from histoflow.components import FIELD_KINDS, Component
from histoflow.errors import PluginError, Problem
from histoflow.experiment import Experiment
from histoflow.registry import Registry
from histoflow.tunable import KEY
from histoflow.tuning.space import Dimension, Label, Options, Range, Space
from histoflow.tuning.specs import BadSpec, domain_of, is_searched, labels_of, shown

MARKS_COUNT_IN = ("architecture", "loss", "optimizer", "scheduler")
"""Whose marks are followed without being asked; those of data and metrics would change the question."""

Kind = type[Component[Any]]
Needs = tuple[str, Label] | None


def read_space(
    experiment: Experiment, given: Mapping[str, Any], derives: bool, registry: Registry
) -> tuple[Space, list[Problem]]:
    """The space as far as it can be read, and everything that is wrong with it."""
    reader = _Reader(experiment, given, derives, registry)
    dimensions: list[Dimension] = []
    problems: list[Problem] = []
    for path in sorted(given, key=lambda path: path.count(".")):  # a component stands before what lies in it
        try:
            dimensions.extend(reader.entry(path, given[path]))
        except BadSpec as error:
            problems.append(Problem(f"search.space.{path}", str(error)))
    if derives:
        dimensions.extend(reader.marks())
    return Space(tuple(dimensions)), problems


@dataclass(frozen=True)
class _Reader:
    experiment: Experiment
    given: Mapping[str, Any]
    derives: bool
    registry: Registry

    def entry(self, path: str, spec: Any) -> Iterator[Dimension]:
        kind = _kind_at(path)
        if spec == "fixed":
            return
        if kind is None:
            yield Dimension(path, path, domain_of(spec, self._schema_at(path)))
        elif spec == "auto":
            yield from self._marked(path, kind, self._chosen(path)["name"])
        else:
            yield from self._choice(path, kind, spec)

    def marks(self) -> Iterator[Dimension]:
        """What is searched in components that the file does not speak of."""
        for path in MARKS_COUNT_IN:
            if path not in self.given:
                yield from self._marked(path, FIELD_KINDS[path], self._chosen(path)["name"])

    def _choice(self, path: str, kind: Kind, spec: Any) -> Iterator[Dimension]:
        """A choice between whole components, then what is searched within each of them."""
        offered = spec.get("choices") if isinstance(spec, Mapping) else spec
        if not isinstance(offered, list) or not offered:
            raise BadSpec(f"must be a list of components, auto or fixed. Got {shown(spec)}.")
        options = [self._option(path, item) for item in offered]
        values = [
            {key: value for key, value in option.items() if not is_searched(value)} for option in options
        ]
        labels = labels_of(values)
        yield Dimension(path, path, Options(labels, tuple(values)))
        for label, option in zip(labels, options, strict=True):
            yield from self._inside(path, kind, label, option)

    def _option(self, path: str, item: Any) -> dict[str, Any]:
        if isinstance(item, str):
            chosen = self._chosen(path)
            return chosen if chosen["name"] == item else {"name": item}
        if isinstance(item, Mapping) and isinstance(item.get("name"), str):
            return dict(item)
        raise BadSpec(f"must list names of components, or mappings with a name. Got {shown(item)}.")

    def _inside(self, path: str, kind: Kind, label: Label, option: Mapping[str, Any]) -> Iterator[Dimension]:
        properties = self._properties(kind, option["name"])
        for key, spec in option.items():
            if f"{path}.{key}" in self.given and option != self._chosen(path):
                raise BadSpec(f"says {key} of '{label}', and so does {path}.{key}. Say it in one place.")
            if is_searched(spec):
                domain = domain_of(spec, properties.get(key, {}))
                yield Dimension(f"{path}.{label}.{key}", f"{path}.{key}", domain, (path, label))
        if self.derives:
            told = option if self._chosen(path) != option else ()
            for dimension in self._marked(path, kind, option["name"], (path, label)):
                if dimension.path.rsplit(".", 1)[-1] not in told:
                    yield dimension

    def _marked(self, path: str, kind: Kind, name: str, needs: Needs = None) -> Iterator[Dimension]:
        """What this component's author marked, less what the file speaks of itself."""
        prefix = f"{path}.{needs[1]}" if needs else path
        for field, schema in self._properties(kind, name).items():
            if KEY in schema and f"{path}.{field}" not in self.given:
                domain = self._mark(kind, name, field, schema)
                yield Dimension(f"{prefix}.{field}", f"{path}.{field}", domain, needs)

    def _mark(self, kind: Kind, name: str, field: str, schema: Mapping[str, Any]) -> Range | Options:
        try:
            return domain_of(schema[KEY], schema)
        except BadSpec as error:
            raise PluginError(
                f"The parameter '{field}' of {kind.kind} '{name}' of {self.registry.provider(kind, name)} is "
                f"marked as tunable in a way that cannot be: it {error}"
            ) from error

    def _properties(self, kind: Kind, name: str) -> dict[str, Any]:
        """The parameters of a component; none where it does not exist, which the experiment will tell."""
        component = self.registry.of_kind(kind).get(name)
        return component.params.model_json_schema().get("properties", {}) if component else {}

    def _chosen(self, path: str) -> dict[str, Any]:
        """The component that the experiment itself names here."""
        field, *place = path.split(".")
        chosen = self.experiment.to_data()[field]
        if place and int(place[0]) >= len(chosen):
            raise BadSpec(f"there is no {path}: the experiment has {len(chosen)} in {field}.")
        return dict(chosen[int(place[0])] if place else chosen)

    def _schema_at(self, path: str) -> dict[str, Any]:
        """The JSON schema of the field at this path; empty where the experiment has none."""
        holder: Any = self.experiment
        *way, last = path.split(".")
        for key in way:
            if isinstance(holder, tuple):
                holder = holder[int(key)] if key.isdigit() and int(key) < len(holder) else None
            else:
                holder = getattr(holder, key, None)
        if not isinstance(holder, BaseModel):
            return {}
        return dict(type(holder).model_json_schema().get("properties", {}).get(last, {}))


def _kind_at(path: str) -> Kind | None:
    """Which kind of component is chosen at this path, if any is."""
    field, *place = path.split(".")
    kind = FIELD_KINDS.get(field)
    several = isinstance(Experiment.model_fields[field].default, tuple) if kind else False
    is_one = (len(place) == 1 and place[0].isdigit()) if several else not place
    return kind if kind and is_one else None
