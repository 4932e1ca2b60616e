"""Training that begins with the champion's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from histoflow import files, models, progress, stages
from histoflow import registry as plugins
from histoflow.errors import UserError

if TYPE_CHECKING:
    from histoflow.models import Version
    from histoflow.registry import Registry
    from histoflow.runs import Run

_FROM = "from.json"
"""In the folder of the start: whose weights these are."""


def warm_start(
    run: Run, name: str, packed: stages.Packed, raw: stages.RawData, registry: Registry | None = None
) -> None:
    """Have the run begin with the champion's weights, if there is a champion and training has not begun.

    Refused where the champion, or what it began from, has learned test or validation images of these data.
    """
    from histoflow.data.store import PackedStore
    from histoflow.engine import checkpoint

    champion = models.champion(name)
    if run.start.is_dir():
        _note(run)
    elif champion is not None and checkpoint.find(run.checkpoints, "last") is None:
        models.verify(champion)
        store = PackedStore(packed.folder)
        _refuse_other_kind(champion, run.read().experiment, store.manifest.classes)
        _refuse_learned(run, champion, store, raw, registry or plugins.installed())
        _lay_down(run, champion)
        _note(run)
        progress.say(f"Training begins with the weights of {champion.reference}.")


def _refuse_learned(run: Run, champion: Version, store: Any, raw: stages.RawData, registry: Registry) -> None:
    from histoflow.retraining.known_images import NewData, ancestry, refuse_learned

    new = NewData(stages.experiment_of(run, registry), raw, registry)
    for note in refuse_learned(ancestry(champion.reference), store, new):
        progress.say(note)


def _lay_down(run: Run, champion: Version) -> None:
    from histoflow.engine import checkpoint
    from histoflow.engine.model_only import keep_model

    best = checkpoint.find(champion.run.checkpoints, "best")
    assert best is not None, "verified"
    files.remove_unfinished(run.start)
    with files.atomic_folder(run.start) as temporary:
        keep_model(best, temporary)
        files.write_json(temporary / _FROM, {"version": champion.reference})


def _note(run: Run) -> None:
    """In the run's record as well, also where the process was killed before it came to that."""
    if run.read().warm_from is None:
        run.update(warm_from=files.read_json(run.start / _FROM)["version"])


def _refuse_other_kind(champion: Version, experiment: dict[str, Any], classes: tuple[str, ...]) -> None:
    former = champion.run.read().experiment
    differing = [part for part in ("architecture", "loss", "split") if former[part] != experiment[part]]
    differing += ["classes"] if champion.record.classes != classes else []
    if differing:
        raise UserError(
            f"A warm start begins with the weights of the champion {champion.reference}, so these must be as "
            f"they were for it: {', '.join(differing)}. Make them so, or start without its weights."
        )
