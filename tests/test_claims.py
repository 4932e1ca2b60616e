"""A claim has one holder, and none once the holder has ended."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from histoflow.claims import STALE, Claim, ClaimedError


@contextmanager
def another_process(path: Path) -> Iterator[subprocess.Popen[str]]:
    """Holds the claim until it is ended."""
    script = f"""
from pathlib import Path
from histoflow.claims import Claim
claim = Claim(Path({str(path)!r}))
claim.take()
print("held", flush=True)
input()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stdout=pipe, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "held\n"
        try:
            yield process
        finally:
            process.kill()


def test_what_another_process_holds_cannot_be_taken_and_its_holder_is_named(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "it")
    with another_process(tmp_path / "it") as process:
        assert claim.holder() is not None
        with pytest.raises(ClaimedError, match=f"process {process.pid} on {socket.gethostname()}"):
            claim.take()


def test_a_killed_holder_holds_nothing_any_more(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "it")
    with another_process(tmp_path / "it") as process:
        process.send_signal(signal.SIGKILL)
        process.wait()
        assert claim.holder() is None
        claim.take()
        claim.give_up()


def test_a_process_may_take_it_again_and_holds_it_until_the_last_is_given_up(tmp_path: Path) -> None:
    first, second = Claim(tmp_path / "it"), Claim(tmp_path / "it")
    first.take()
    second.take()
    second.give_up()
    assert (tmp_path / "it.beat").exists()
    first.give_up()
    assert not (tmp_path / "it.beat").exists()
    assert first.holder() is None


@pytest.mark.parametrize(("age", "held"), [(0, True), (STALE + 5, False)])
def test_a_holder_on_another_machine_is_known_by_its_beat(tmp_path: Path, age: float, held: bool) -> None:
    beat = tmp_path / "it.beat"
    beat.write_text(json.dumps({"host": "another-machine", "pid": 7}))
    touched = beat.stat().st_mtime - age
    os.utime(beat, (touched, touched))
    claim = Claim(tmp_path / "it")
    assert (claim.holder() is not None) is held
    if held:
        with pytest.raises(ClaimedError, match="process 7 on another-machine"):
            claim.take()
    else:
        claim.take()
        claim.give_up()


def test_a_holder_that_slept_while_another_machine_took_over_ends_at_once(tmp_path: Path) -> None:
    script = f"""
from pathlib import Path
from histoflow import claims
claims.BEAT = 0.05
claims.Claim(Path({str(tmp_path / "it")!r})).take()
Path({str(tmp_path / "it.beat")!r}).write_text('{{"host": "another-machine", "pid": 7}}')
input()
"""
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", script], stdin=pipe, stderr=pipe, text=True) as process:
        assert process.wait(30) == 1
        assert process.stderr is not None
        assert "was taken by process 7 on another-machine" in process.stderr.read()
    assert (tmp_path / "it.beat").exists(), "the other one's claim is left alone"


def test_what_was_taken_exists_until_it_is_forgotten(tmp_path: Path) -> None:
    claim = Claim(tmp_path / "it")
    assert claim.holder() is None
    assert not claim.exists(), "looking takes nothing"
    claim.take()
    assert claim.exists()
    claim.give_up()
    claim.forget()
    assert list(tmp_path.iterdir()) == []
