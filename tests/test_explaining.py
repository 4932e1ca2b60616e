"""What an experiment comes to here, told before anything of it is done."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from torch import Tensor, nn

from histoflow import registry
from histoflow.data.store import PackedStore
from histoflow.engine.device import choose_device, machine_of
from histoflow.errors import DeviceError
from histoflow.experiment import Experiment, parse
from histoflow.explaining import Explained, explain, memory_line
from histoflow.planning import plan_for
from histoflow.registry import Registry
from histoflow.workshop import Workshop
from support import preprocessed, small_experiment


def explained(experiment: Experiment, known: Registry | None = None) -> dict[str, Explained]:
    return {row.setting: row for row in explain(experiment, known or registry.installed())}


def test_every_decision_of_the_plan_is_told_with_its_reason() -> None:
    experiment = small_experiment(compute={"device": "cpu", "threads": 1, "channels_last": "off"})
    rows = explained(experiment)
    plan = plan_for(experiment, machine_of(choose_device("cpu")))
    assert {f"compute.{name}" for name, _ in plan} < set(rows)
    assert all(row.why for row in rows.values())
    threads, channels = rows["compute.threads"], rows["compute.channels_last"]
    assert (threads.asked, threads.here, threads.why) == ("1", "1", "asked for")
    assert (channels.asked, channels.here) == ("off", "off")
    assert rows["compute.graphs"].here == "off"


def test_the_data_sets_own_figures_stand_for_data_not_packed_yet(home: Path) -> None:
    row = explained(small_experiment())["compute.data"]
    # 85 % of 180 images of 32 × 32 pixels.
    assert row.why.startswith("the images' 0.47 MB fit into the host's")
    assert not (home / "data").exists(), "no data are touched"


@pytest.mark.parametrize(
    ("training", "here", "why"),
    [
        ({"batch_size": 32}, "32", "asked for"),
        ({"batch_size": 32, "accumulate": 4}, "32", "asked for, in 4 parts"),
        ({"batch_size": "auto"}, "found at the start", "by trial steps: the smallest that is about as fast"),
    ],
)
def test_the_batch_size_is_told(training: dict[str, Any], here: str, why: str) -> None:
    row = explained(small_experiment(training=training))["training.batch_size"]
    assert row.here == here
    assert row.why.startswith(why)


def test_parts_take_less_memory_and_an_averaged_model_more() -> None:
    def told(**training: Any) -> Explained:
        return explained(small_experiment(training={"batch_size": 512, **training}))["peak memory"]

    whole, parts, averaged = told(), told(accumulate=4), told(average="ema")
    assert "512 images on their way" in whole.why
    assert "128 images on their way" in parts.why
    assert float(parts.here.split()[0]) < float(whole.here.split()[0]) / 3, "both in MB"
    weights = [float(re.search(r"([0-9.]+) MB for weights", row.why)[1]) for row in (whole, averaged)]  # type: ignore[index]
    assert weights[1] == pytest.approx(2 * weights[0], rel=0.01)


def test_a_start_of_training_tells_its_memory_in_a_line() -> None:
    experiment = small_experiment()
    store = PackedStore(preprocessed(experiment).folder)
    device = choose_device("cpu")
    plan = plan_for(experiment, machine_of(device), store.manifest)
    line = memory_line(Workshop(experiment, registry.installed(), store.manifest, device, plan, 32))
    assert line.startswith("About ")
    assert "MB of memory: " in line
    assert "32 images on their way through the network" in line


class Curious(nn.Module):
    """A network that looks at the values of its images."""

    def __init__(self, outputs: int) -> None:
        super().__init__()
        self.layer = nn.Linear(3 * 32 * 32, outputs)

    def forward(self, images: Tensor) -> Tensor:
        found: Tensor = self.layer(images.flatten(1))
        return found if found.max().item() > 0 else -found


def with_cnn(build: Callable[..., nn.Module]) -> Registry:
    """The installed plugins, but for the network that ``cnn`` builds."""
    known, key = registry.installed(), ("architecture", "cnn")
    entry = known.components[key]
    other = replace(entry, component=replace(entry.component, build=build, skeleton=None))  # type: ignore[call-arg]
    return replace(known, components={**known.components, key: other})


def test_where_a_network_cannot_be_measured_the_reason_is_told() -> None:
    known = with_cnn(lambda params, data, outputs: Curious(outputs))
    row = explained(small_experiment(), known)["peak memory"]
    assert row.here == "unknown"
    assert row.why.startswith("the network cannot be measured without content (")


def test_what_is_not_known_before_packing_is_said_to_be_so(tmp_path: Path) -> None:
    experiment = parse(
        {"dataset": {"name": "image_folder", "path": str(tmp_path / "later")}, "compute": {"device": "cpu"}}
    )
    rows = explained(experiment)
    assert rows["peak memory"].here == "unknown"
    assert "once it is packed" in rows["peak memory"].why
    assert rows["compute.data"].why == "decided once the data are packed"


def test_a_device_that_is_not_here_is_an_error() -> None:
    with pytest.raises(DeviceError, match="torch sees"):
        explained(small_experiment(compute={"device": "cuda:63"}))
