"""The contract, as tests that plugin authors run on their own components.

::

    import pytest
    from histoflow.testing import check_component

    from histoflow_ourlab import histoflow_architectures

    @pytest.mark.parametrize("component", histoflow_architectures(), ids=lambda c: c.name)
    def test_contract(component):
        check_component(component)

What is checked follows the docstrings of ``histoflow.components``. The examples that components
meet are small, so a check takes seconds where building the component does.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

from histoflow.components import KINDS, Component, P

__all__ = ["check_component"]


def check_component(component: Component[P], params: P | None = None) -> None:
    """Raise AssertionError, saying what and why, if the component breaks the contract of its kind.

    It is tried with the defaults of its parameters, or with the ``params`` given: those of a data
    set may name a small local copy.
    """
    from histoflow.testing._params import check_params

    names = ", ".join(kind.__name__ for kind in KINDS)
    assert isinstance(component, KINDS), f"A component must be one of {names}. Got {component!r}."
    chosen = check_params(component, params)
    _check_of(component)(component, chosen)


def _check_of(component: Component[Any]) -> Any:
    """The ``check`` function of this kind's module; its torch and numpy are imported only now."""
    return import_module(f"{__name__}._{component.plural}").check
