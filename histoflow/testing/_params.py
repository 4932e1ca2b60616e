"""Parameters: with sound defaults, and the same after a trip through JSON."""

from __future__ import annotations

from typing import Any

from pydantic.fields import FieldInfo

from histoflow.components import Component, P
from histoflow.testing._common import calling, expect
from histoflow.tunable import KEY
from histoflow.tuning.specs import BadSpec, domain_of


def check_params(component: Component[P], given: P | None) -> P:
    """Check the class of the parameters; return those given, or else the defaults."""
    expect(bool(component.summary.strip()), component, "summary must say in a line what it is. Got nothing.")
    for name, field in component.params.model_fields.items():
        _check_field(component, name, field)
    expect(
        given is None or isinstance(given, component.params),
        component,
        f"params must be a {component.params.__name__}. Got {given!r}.",
    )
    with calling(component, f"{component.params.__name__}()"):
        defaults = component.params()
    _check_round_trip(component, defaults)
    _check_marks(component)
    return defaults if given is None else given


def _check_field(component: Component[Any], name: str, field: FieldInfo) -> None:
    expect(
        not field.is_required(),
        component,
        f"the parameter '{name}' has no default. Give it one, so that the name alone chooses the component.",
    )


def _check_round_trip(component: Component[P], params: P) -> None:
    """Experiments are written into each run and read back; defaults must stand their own bounds, too."""
    with calling(component, "reading the default parameters back from JSON"):
        component.params.model_json_schema()
        again = component.params.model_validate_json(params.model_dump_json())
    expect(again == params, component, f"the default parameters come back from JSON as {again!r}.")


def _check_marks(component: Component[Any]) -> None:
    """What is marked as tunable can be searched, and the parameter takes both ends of it."""
    for name, schema in component.params.model_json_schema().get("properties", {}).items():
        if KEY not in schema:
            continue
        try:
            domain = domain_of(schema[KEY], schema)
        except BadSpec as error:
            raise AssertionError(
                f"{component.kind} '{component.name}': tunable(…) of '{name}' {error}"
            ) from error
        for value in map(domain.value, domain.ends()):
            with calling(component, f"its parameters with the tunable {name}={value!r}"):
                component.params.model_validate({name: value})
