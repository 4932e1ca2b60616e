"""A GPU's slot is held while work is done, and asked for with patience."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from urllib.parse import urlsplit

import httpx
import pytest
from prefect import flow
from prefect.client.orchestration import get_client
from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
from prefect.settings import PREFECT_API_URL, temporary_settings

from histoflow_flows import slots
from histoflow_flows.slots import LIMIT, gpu_slot
from proxy import Proxy


@pytest.fixture
def server(prefect_server: str) -> Iterator[str]:
    with temporary_settings({PREFECT_API_URL: prefect_server}):
        yield prefect_server


def taken() -> int:
    with get_client(sync_client=True) as client:
        return int(client.read_global_concurrency_limit_by_name(LIMIT).active_slots)


@flow
def work(devices: int = 1) -> int:
    with gpu_slot(devices):
        return taken()


def test_a_slot_is_held_while_work_is_done_and_given_back(server: str) -> None:
    with get_client(sync_client=True) as client:
        made = client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=LIMIT, limit=3))
        try:
            assert work() == 1
            assert work(devices=2) == 2
            assert work(devices=8) == 3, "no more than there are"
            assert taken() == 0
        finally:
            client.request("DELETE", "/v2/concurrency_limits/{id}", path_params={"id": made})


def test_nothing_is_limited_where_the_server_keeps_no_such_limit(server: str) -> None:
    @flow
    def unlimited() -> str:
        with gpu_slot():
            return "done"

    assert unlimited() == "done"


def test_without_a_flow_no_server_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "OUTAGE", 0.0)
    worked = []
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}), gpu_slot():
        worked.append("asking would have failed here, where no server is")
    assert worked


def test_a_server_that_is_away_for_a_while_is_asked_again(
    prefect_server: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots, "ASK_EVERY", 0.1)
    network = Proxy(urlsplit(prefect_server).port or 0)
    network.refuse()
    threading.Timer(1.0, network.restore).start()
    with temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{network.port}/api"}):
        assert slots._patiently(slots._slots) == 0
    network.close()


def test_a_server_that_stays_away_is_not_asked_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "OUTAGE", 0.0)
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        pytest.raises(httpx.ConnectError),
    ):
        slots._patiently(slots._slots)
