"""Big blocks of memory are kept for the next step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FILL = """
import resource, sys, threading
from histoflow.engine.memory import keep_big_blocks
if sys.argv[1] == "keep":
    assert keep_big_blocks()
import torch
def fill():
    for _ in range(20):
        torch.empty(10_000_000).fill_(1)
def fill_and_count():
    fill()  # the first pages have to come from the kernel
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
thread = threading.Thread(target=fill_and_count)
thread.start()
thread.join()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_thread_that_takes_a_big_block_again_and_again_is_given_the_same_pages() -> None:
    def faults(how: str) -> int:
        done = subprocess.run([sys.executable, "-c", FILL, how], capture_output=True, text=True, check=True)
        return int(done.stdout)

    assert faults("keep") < faults("as it is") / 100
