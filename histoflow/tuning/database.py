"""Optuna's side of a study: its database, and what proposes and prunes trials."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import optuna
from optuna.pruners import BasePruner, HyperbandPruner, MedianPruner, NopPruner, SuccessiveHalvingPruner
from optuna.samplers import BaseSampler, RandomSampler, TPESampler
from optuna.storages import RDBStorage

from histoflow.errors import StorageError, UserError
from histoflow.seeds import derive
from histoflow.tuning.settings import PrunerName, SamplerName

if TYPE_CHECKING:
    from collections.abc import Sequence

BUSY_TIMEOUT = 60.0
"""Seconds that a trial waits for its turn to write: SQLite lets one process write at a time."""
optuna.logging.set_verbosity(optuna.logging.WARNING)


def address_of(folder: Path, storage: str | None) -> str:
    """The database's address: the one given, or a file in the study's folder."""
    return storage or f"sqlite:///{folder / 'study.db'}"


@contextmanager
def opened(address: str, name: str, directions: Sequence[bool], pruner: BasePruner) -> Iterator[optuna.Study]:
    """The study of this name, made where it is not there; ``directions`` tell whether higher is better."""
    with _told_as_ours(address):
        storage = _storage(address)
        study = optuna.create_study(
            storage=storage,
            study_name=name,
            directions=["maximize" if higher else "minimize" for higher in directions],
            load_if_exists=True,
            sampler=RandomSampler(),
            pruner=pruner,
        )
    try:
        with _told_as_ours(address):
            yield study
    finally:
        storage.remove_session()
        storage.engine.dispose()


def trial_of(study: optuna.Study, number: int) -> optuna.Trial:
    """A trial that was begun, to report on it from another process than the one that drew it."""
    return optuna.Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _storage(address: str) -> RDBStorage:
    engine = {"connect_args": {"timeout": BUSY_TIMEOUT}} if address.startswith("sqlite") else {}
    return RDBStorage(address, engine_kwargs={"pool_pre_ping": True, **engine})


@contextmanager
def _told_as_ours(address: str) -> Iterator[None]:
    from sqlalchemy.exc import ArgumentError, SQLAlchemyError

    try:
        yield
    except (ArgumentError, ImportError) as error:
        raise UserError(
            f"The storage of a study must be the address of a database that SQLAlchemy can open, such as "
            f"sqlite:////data/study.db or postgresql://host/name with its driver installed. "
            f"Got '{address}': {str(error).splitlines()[0]}"
        ) from error
    except (SQLAlchemyError, optuna.exceptions.StorageInternalError) as error:
        raise StorageError(
            f"The study's database {address} cannot be used: {str(error).splitlines()[0]} "
            f"See that it is there and may be written to, and run again."
        ) from error


def sampler_of(name: SamplerName, seed: int, number: int, *, jointly: bool) -> BaseSampler:
    """What proposes the trial of this number; its chance follows from the two numbers alone.

    So a search that was killed and goes on proposes what it would have proposed. A grid is laid down
    beforehand and proposes nothing. TPE looks at all dimensions ``jointly`` where each is always in play.
    """
    chance = derive(seed, number) % 2**32
    if name == "tpe":
        return TPESampler(seed=chance, multivariate=None if jointly else False)
    return RandomSampler(seed=chance)


def pruner_of(name: PrunerName, epochs: int) -> BasePruner:
    """What ends trials that fall behind; a step is an epoch, counted from 1."""
    if name == "median":
        return MedianPruner(n_startup_trials=4, n_warmup_steps=2)  # one epoch says too little
    if name == "hyperband":
        return HyperbandPruner(min_resource=1, max_resource=max(epochs, 1), reduction_factor=3)
    if name == "asha":
        return SuccessiveHalvingPruner(min_resource=1, reduction_factor=3)
    return NopPruner()
