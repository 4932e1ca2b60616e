"""What is decided for which machine, and why."""

from __future__ import annotations

from collections.abc import Generator
from dataclasses import replace
from typing import Any

import pytest
import torch

from histoflow.engine.device import Machine, cores, machine_of
from histoflow.engine.modes import computed, computing
from histoflow.engine.plan import COMPILING_REPAYS_AFTER, Plan, Workload, decide
from histoflow.errors import DeviceError
from histoflow.experiment import Compute

GPU = Machine(
    device=torch.device("cuda"),
    name="NVIDIA H200",
    memory=140 * 10**9,
    host_memory=128 * 10**9,
    cores=16,
    bf16=True,
    fp16=True,
    tf32=True,
    compiles=True,
)
OLD_GPU = replace(GPU, name="Tesla T4", memory=16 * 10**9, bf16=False, tf32=False)
LAPTOP = replace(
    GPU,
    device=torch.device("cpu"),
    name="CPU with 2 cores",
    memory=24 * 10**9,
    host_memory=24 * 10**9,
    cores=2,
    bf16=False,
    fp16=False,
    tf32=False,
)
XEON = replace(LAPTOP, bf16=True)
WORK = Workload(epochs=10, steps_per_epoch=700, image_bytes=10**9)


def plan(machine: Machine = GPU, work: Workload = WORK, **wishes: Any) -> Plan:
    return decide(Compute(**wishes), machine, work)


@pytest.mark.parametrize(
    ("machine", "precision", "dtype"),
    [
        (GPU, "bf16", torch.bfloat16),
        (OLD_GPU, "fp16", torch.float16),
        (LAPTOP, "fp32", None),
        (XEON, "fp32", None),
    ],
)
def test_precision_is_the_fastest_that_the_hardware_has(
    machine: Machine, precision: str, dtype: torch.dtype | None
) -> None:
    found = plan(machine)
    assert (found.precision.value, found.dtype) == (precision, dtype)


@pytest.mark.parametrize(
    ("machine", "asked", "legal"),
    [
        (
            LAPTOP,
            "bf16",
            "auto, fp32 on this device .CPU with 2 cores.. Got bf16. Emulated, bf16 is up to 25 times",
        ),
        (LAPTOP, "fp16", "auto, fp32 on this device .* Got fp16. Use compute.precision=auto"),
        (OLD_GPU, "tf32", "auto, fp32, fp16 on this device .Tesla T4.. Got tf32"),
    ],
)
def test_a_precision_that_the_hardware_lacks_is_refused(machine: Machine, asked: str, legal: str) -> None:
    with pytest.raises(DeviceError, match=legal):
        plan(machine, precision=asked)


def test_bf16_is_given_where_it_is_asked_for_and_there() -> None:
    assert plan(XEON, precision="bf16").precision.why == "asked for"


@pytest.mark.parametrize(
    ("machine", "images", "place"),
    [
        (GPU, 10**9, "device"),
        (GPU, 80 * 10**9, "device"),
        (GPU, 90 * 10**9, "stream"),
        (replace(GPU, host_memory=10**12), 90 * 10**9, "host"),
        (LAPTOP, 10**9, "host"),
        (LAPTOP, 20 * 10**9, "stream"),
    ],
)
def test_images_lie_as_near_as_they_fit(machine: Machine, images: int, place: str) -> None:
    assert plan(machine, replace(WORK, image_bytes=images)).data.value == place


def test_the_margin_that_images_may_fill_is_a_setting() -> None:
    half = replace(WORK, image_bytes=70 * 10**9)
    assert plan(GPU, half, memory_share=0.6).data.value == "device"
    assert plan(GPU, half, memory_share=0.4).data.value == "stream"


def test_compiling_is_for_long_runs_on_a_gpu() -> None:
    long = replace(WORK, epochs=1, steps_per_epoch=COMPILING_REPAYS_AFTER)
    short = replace(long, steps_per_epoch=COMPILING_REPAYS_AFTER - 1)
    assert plan(GPU, long).compile.value
    assert not plan(GPU, short).compile.value
    assert not plan(LAPTOP, long).compile.value
    assert not plan(replace(GPU, compiles=False), long).compile.value
    assert plan(LAPTOP, short, compile="on").compile.value


@pytest.mark.parametrize(
    ("machine", "wishes", "obstacle"),
    [
        (LAPTOP, {}, "only CUDA devices"),
        (GPU, {"devices": 2}, "several devices"),
        (GPU, {"precision": "fp16"}, "scaling the losses"),
        (GPU, {"data": "host"}, "the images do not lie in the device's memory"),
        (replace(GPU, memory=10**9), {}, "the images do not lie in the device's memory"),
    ],
)
def test_graphs_are_recorded_unless_something_stands_against_it(
    machine: Machine, wishes: dict[str, Any], obstacle: str
) -> None:
    assert plan(GPU).graphs.value
    assert not plan(GPU, graphs="off").graphs.value
    assert obstacle in plan(machine, **wishes).graphs.why
    with pytest.raises(
        DeviceError, match=f"compute.graphs cannot be on: .*{obstacle}.* Use compute.graphs=auto"
    ):
        plan(machine, graphs="on", **wishes)


def test_processes_on_one_cpu_share_its_cores() -> None:
    many = replace(LAPTOP, cores=8)
    assert plan(many).threads.value == 8
    assert plan(many, devices=4).threads.value == 2
    assert plan(LAPTOP, devices=4).threads.value == 1
    assert plan(many, threads=3).threads.value == 3


def test_before_packing_what_depends_on_the_data_is_said_to_come() -> None:
    unknown = plan(GPU, Workload(epochs=3, steps_per_epoch=None, image_bytes=None))
    assert "once the data are packed" in unknown.data.why
    assert "once the data are packed" in unknown.compile.why


def test_every_decision_has_a_reason() -> None:
    for machine in (GPU, OLD_GPU, LAPTOP, XEON):
        for name, decision in plan(machine):
            assert decision.why, name


def test_this_machine_is_found_out() -> None:
    here = machine_of(torch.device("cpu"))
    assert here.cores == cores() >= 1
    assert here.memory == here.host_memory > 10**8
    assert not here.is_gpu


def test_the_process_computes_as_planned_and_afterwards_as_before() -> None:
    before = torch.get_num_threads()
    with computing(plan(LAPTOP, threads=before + 1), torch.device("cpu"), deterministic=False):
        assert torch.get_num_threads() == before + 1
    assert torch.get_num_threads() == before


def test_a_gpus_switches_are_set_and_put_back() -> None:
    """They can be set without one."""
    device = torch.device("cuda")
    products, convolutions = torch.backends.cuda.matmul, torch.backends.cudnn.conv
    before = (products.fp32_precision, convolutions.fp32_precision)
    with computing(plan(GPU, precision="fp32"), device, deterministic=True):
        assert (products.fp32_precision, convolutions.fp32_precision) == ("ieee", "ieee")
        assert torch.are_deterministic_algorithms_enabled()
        assert not torch.backends.cudnn.benchmark
    assert (products.fp32_precision, convolutions.fp32_precision) == before
    assert not torch.are_deterministic_algorithms_enabled()
    with computing(plan(GPU), device, deterministic=False):
        assert (products.fp32_precision, convolutions.fp32_precision) == ("tf32", "tf32")
        assert torch.backends.cudnn.benchmark
    assert (products.fp32_precision, convolutions.fp32_precision) == before


def test_who_takes_the_items_of_work_computes_between_them_as_before() -> None:
    before, seen = torch.get_num_threads(), []

    def work() -> Generator[int, None, str]:
        for item in range(2):
            seen.append(torch.get_num_threads())
            yield item
        return "done"

    def taking() -> Generator[int, None, str]:
        threads = plan(LAPTOP, threads=before + 1)
        return (yield from computed(work(), threads, torch.device("cpu"), deterministic=False))

    items = taking()
    for _ in range(2):
        next(items)
        assert torch.get_num_threads() == before
    with pytest.raises(StopIteration, match="done"):
        next(items)
    assert seen == [before + 1] * 2
