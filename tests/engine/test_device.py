"""The device asked for is used, or its absence is told."""

from __future__ import annotations

import pytest
import torch

from histoflow.engine.device import choose_device
from histoflow.errors import DeviceError


def test_auto_takes_a_gpu_where_there_is_one() -> None:
    assert choose_device("auto").type == ("cuda" if torch.cuda.is_available() else "cpu")
    assert choose_device("cpu").type == "cpu"


def test_a_device_that_is_not_here_is_refused_with_the_way_out() -> None:
    with pytest.raises(DeviceError, match=r"torch sees \d+ CUDA devices. Got 'cuda:99'. Use auto or cpu"):
        choose_device("cuda:99")
