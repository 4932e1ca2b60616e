"""A card on a flow run's page, and the place where it is kept: one Prefect artifact a key."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal
from uuid import UUID

import httpx
from prefect.client.orchestration import SyncPrefectClient
from prefect.client.schemas.actions import ArtifactCreate, ArtifactUpdate
from prefect.client.schemas.filters import ArtifactFilter, ArtifactFilterFlowRunId, ArtifactFilterKey
from prefect.client.schemas.sorting import ArtifactSort


@dataclass(frozen=True)
class Card:
    key: str
    """Lower case letters, digits, dashes; one card of a flow run has it."""
    kind: Literal["progress", "table", "markdown"]
    data: float | str
    """Per cent, the rows as JSON, or the text."""
    description: str = ""


Draw = Callable[[], Card]


@dataclass(frozen=True)
class Owner:
    """The run whose page shows the cards."""

    flow_run_id: UUID
    task_run_id: UUID | None


class Board:
    """The cards of one flow run, also those of an earlier attempt at it."""

    def __init__(self, owner: Owner) -> None:
        self._owner = owner
        self._ids: dict[str, UUID] = {}

    def put(self, client: SyncPrefectClient, card: Card) -> None:
        """Update the card, or make it where there is none; raises what the client raises."""
        known = self._ids.pop(card.key, None) or self._find(client, card.key)
        if known is None or not _update(client, known, card):
            known = self._create(client, card)
        self._ids[card.key] = known

    def _find(self, client: SyncPrefectClient, key: str) -> UUID | None:
        wanted = ArtifactFilter(
            flow_run_id=ArtifactFilterFlowRunId(any_=[self._owner.flow_run_id]),
            key=ArtifactFilterKey(any_=[key]),
        )
        found = client.read_artifacts(artifact_filter=wanted, limit=1, sort=ArtifactSort.CREATED_DESC)
        return found[0].id if found else None

    def _create(self, client: SyncPrefectClient, card: Card) -> UUID:
        artifact = ArtifactCreate(
            key=card.key,
            type=card.kind,
            data=card.data,
            description=card.description,
            flow_run_id=self._owner.flow_run_id,
            task_run_id=self._owner.task_run_id,
        )
        return client.create_artifact(artifact).id


def _update(client: SyncPrefectClient, artifact_id: UUID, card: Card) -> bool:
    """False where somebody has deleted it.

    Not by ``client.update_artifact``, which besides sends all the data as an event, to be stored as well.
    """
    change = ArtifactUpdate(data=card.data, description=card.description)
    body = change.model_dump(mode="json", exclude_unset=True)
    try:
        client.request("PATCH", "/artifacts/{id}", json=body, path_params={"id": artifact_id})
    except httpx.HTTPStatusError as error:
        if error.response.status_code == httpx.codes.NOT_FOUND:
            return False
        raise
    return True
