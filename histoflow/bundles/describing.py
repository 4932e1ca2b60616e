"""A trained model that is to leave the house, and what its bundle says of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor, nn

from histoflow import __version__, files
from histoflow.bundles import bundle, requirements
from histoflow.bundles.bundle import Figure, Form, Manifest, Part
from histoflow.components import Architecture, Component, Loss, Transform
from histoflow.engine import exchange
from histoflow.evaluation.fitting import Fitted
from histoflow.experiment import Choice
from histoflow.predictor import Predictor, terms_of
from histoflow.registry import Registry
from histoflow.runs import now
from histoflow.workshop import Workshop


@dataclass(frozen=True, kw_only=True, eq=False)
class Source:
    """A trained model, and what is known of it."""

    name: str
    """Of the run."""
    workshop: Workshop
    network: nn.Module
    weights: Path
    model_hash: str
    fitted: Fitted | None
    metrics: Mapping[str, Any] | None
    card: Path
    """Where its model card is, if it has one."""
    images: NDArray[np.uint8]
    """To check each form with."""
    are_real: bool
    """Whether they are images of the validation split."""

    @property
    def temperature(self) -> float:
        return self.fitted.temperature if self.fitted else 1.0

    def link(self, outputs: Tensor) -> Tensor:
        """Raw outputs to images × classes."""
        return self.workshop.loss.probabilities(self.workshop.experiment.loss, outputs)

    def probabilities(self) -> NDArray[np.float64]:
        """What the run's own network says of the images, calibrated."""
        terms = replace(terms_of(self.workshop), dtype=None)  # exact, whatever training computed in
        found = Predictor(terms, self.network, "none").probabilities(self.images)
        return self.fitted.calibrated(found) if self.fitted else found


def manifest_of(source: Source, forms: Mapping[str, Form]) -> Manifest:
    """All but the hashes of the files."""
    experiment, registry, data = (
        source.workshop.experiment,
        source.workshop.registry,
        source.workshop.manifest,
    )
    preprocess = tuple(_part(Transform, choice, registry) for choice in experiment.preprocess)
    architecture = _part(Architecture, experiment.architecture, registry)
    loss = _part(Loss, experiment.loss, registry)
    metrics = source.metrics or {}
    return Manifest(
        run=source.name,
        model=source.model_hash,
        histoflow=__version__,
        created=now(),
        task=data.task,
        classes=data.classes,
        channels=data.channels,
        size=data.size,
        mean=data.mean,
        std=data.std,
        train_counts=data.info.train_counts,
        train_images=data.info.train_images,
        seed=experiment.seed,
        preprocess=preprocess,
        architecture=architecture,
        loss=loss,
        requires=requirements.of_parts((*preprocess, architecture, loss)),
        fitted=source.fitted,
        figures={name: _figure(score) for name, score in metrics.get("scores", {}).items()},
        test_images=metrics.get("images"),
        data={
            "dataset": experiment.dataset.name,
            "fingerprint": data.fingerprint,
            "licence": data.licence,
            "citation": data.citation,
            "images": {name: facts.images for name, facts in data.splits.items()},
        },
        forms=dict(forms),
        files={},
    )


def _part(kind: type[Component[Any]], choice: Choice, registry: Registry) -> Part:
    provider = registry.provider(kind, choice.name)
    component = registry.components[kind.kind, choice.name].component
    params = {name: value for name, value in choice.model_dump(mode="json").items() if name != "name"}
    return Part(
        name=choice.name,
        params={name: _portable(getattr(choice, name), plain) for name, plain in params.items()},
        package=provider.package,
        version=provider.version,
        revision=getattr(component, "version", None),
    )


def _portable(value: Any, plain: Any) -> Any:
    """Where a file lies on this machine is nobody else's concern."""
    return value.name if isinstance(value, Path) else plain


def _figure(score: Mapping[str, Any]) -> Figure:
    note = score.get("undefined") or score.get("interval_note") or ""
    return Figure(value=score["value"], interval=score.get("interval"), note=note)


def form(source: Source, largest: float, by: str) -> Form:
    return Form(
        largest_difference=largest,
        images=len(source.images),
        checked_on="validation images" if source.are_real else "random images",
        made_by=by,
    )


def texts(manifest: Manifest, card: Path, folder: Path) -> dict[str, Path]:
    """What a person reads: how to use the bundle and, where there is one, the model card."""
    readme = files.write_text(folder / bundle.README, "\n".join(_lines(manifest)) + "\n")
    return {bundle.README: readme, **({bundle.CARD: card} if card.is_file() else {})}


def _lines(manifest: Manifest) -> Iterator[str]:
    file = f"{manifest.run}{bundle.SUFFIX}"
    needs = " ".join(f"'{package}{versions}'" for package, versions in manifest.requires.items())
    yield f"# {manifest.run}"
    yield f"\nAn image classifier ({manifest.task}): {', '.join(manifest.classes)}. Not a medical device."
    yield f"\nWith histoflow (`pip install {needs}`):\n\n```python\nimport histoflow\n"
    yield f'model = histoflow.load_model("{file}")\nfound = model.predict(["patch.png"])'
    yield "print(found.labels, found.probabilities, found.sets)\n```"
    if manifest.forms:
        names = " ".join(sorted(manifest.forms))
        yield f"\nWithout it, `unzip {file} {names}` gives graphs that take `{exchange.INPUT}`, uint8"
        yield f"of shape {_shape(manifest)}, and return calibrated `{exchange.OUTPUT}`, images × classes."
        yield f"Before that, images go through: {_chain(manifest)}."
    yield "\nWhat it was trained on, its figures on test, its thresholds and all else are in manifest.json."


def _shape(manifest: Manifest) -> str:
    height, width = manifest.size
    return f"N × {height} × {width} × {manifest.channels} (height × width × channels)"


def _chain(manifest: Manifest) -> str:
    return ", then ".join(f"{part.name} {part.params}" for part in manifest.preprocess) or "nothing"
