"""How a breach of the contract is told, and the data that components are shown."""

from __future__ import annotations

import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from histoflow.components import Component, DataInfo, Task

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def expect(condition: bool, component: Component[Any], breach: str) -> None:
    """Raise AssertionError that names the component, unless the condition holds."""
    if not condition:
        raise AssertionError(f"{component.kind} '{component.name}': {breach}")


@contextmanager
def calling(component: Component[Any], what: str) -> Iterator[None]:
    """Tell an exception from the component's own code as a breach of the contract."""
    try:
        yield
    except AssertionError:
        raise
    except Exception as error:
        raise AssertionError(
            f"{component.kind} '{component.name}': {what} raised {type(error).__name__}: {error}"
        ) from error


@contextmanager
def leaving_global_chance_alone(component: Component[Any]) -> Iterator[None]:
    """Whoever draws from the global generators makes results depend on what ran before."""
    before = _global_chance()
    yield
    after = _global_chance()
    touched = [name for name in before if before[name] != after[name]]
    expect(
        not touched,
        component,
        f"draws from the global generator of {' and '.join(touched)}. "
        f"Take chance from the generator handed in, or from one of your own with a fixed seed.",
    )


def _global_chance() -> dict[str, bytes]:
    import numpy as np
    import torch

    return {
        "random": pickle.dumps(random.getstate()),
        "numpy": pickle.dumps(np.random.get_state()),
        "torch": torch.get_rng_state().numpy().tobytes(),
    }


def example_data(task: Task, channels: int = 3, side: int = 32) -> DataInfo:
    """Data of two or five classes, of which the second is rare."""
    counts = (60, 4) if task == "binary" else (40, 4, 20, 30, 26)
    return DataInfo(
        task=task,
        classes=tuple(f"class_{index}" for index in range(len(counts))),
        channels=channels,
        size=(side, side),
        train_counts=counts,
        train_images=70 if task == "multilabel" else sum(counts),
    )


def example_labels(task: Task, classes: int, images: int) -> NDArray[np.int64]:
    """Of all classes; in ``multilabel`` tasks the first image shows all, the second none, others some."""
    import numpy as np

    numbers = np.arange(images, dtype=np.int64)
    if task != "multilabel":
        return numbers % classes
    shown: NDArray[np.int64] = (numbers[:, None] % np.arange(2, classes + 2) == 0).astype(np.int64)
    return shown


def complaints(component: Component[Any], params: Any, data: DataInfo) -> list[str]:
    """What the component's own ``check`` says; what it refuses it need not be able to do."""
    with calling(component, "check"):
        found = list(component.check(params, data))
    expect(
        all(isinstance(complaint, str) for complaint in found),
        component,
        f"check must yield strings. Got {found}.",
    )
    return found
