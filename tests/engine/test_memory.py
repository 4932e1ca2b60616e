"""Big blocks of memory are kept for the next step."""

from __future__ import annotations

import platform
import subprocess
import sys

import pytest

FILL = """
import resource, threading
import torch
from histoflow.engine.memory import keep_big_blocks
def fill():
    for _ in range(20):
        torch.empty(10_000_000).fill_(1)
def fill_and_count():
    fill()  # the first pages have to come from the kernel
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    fill()
    print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
def in_a_thread():
    thread = threading.Thread(target=fill_and_count)
    thread.start()
    thread.join()
in_a_thread()
assert keep_big_blocks()
in_a_thread()
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
def test_a_thread_that_takes_a_big_block_again_and_again_is_given_the_same_pages() -> None:
    done = subprocess.run([sys.executable, "-c", FILL], capture_output=True, text=True, check=True)
    as_it_was, kept = map(int, done.stdout.split())
    assert kept < as_it_was / 100
