"""Downloads, against a real server that misbehaves."""

from __future__ import annotations

import gzip
import hashlib
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from histoflow.download import Patience, download, download_gzipped, unpack
from histoflow.errors import DataError, StorageError
from histoflow.progress import LogListener, listening
from servers import (
    Server,
    answers,
    breaks_off,
    gives,
    in_turn,
    serving,
    slowly,
    stalls,
)

BODY = bytes(range(256)) * 1000
MD5 = hashlib.md5(BODY).hexdigest()
SHA256 = hashlib.sha256(BODY).hexdigest()
PACKED = gzip.compress(BODY, compresslevel=0, mtime=0)
PACKED_MD5 = hashlib.md5(PACKED).hexdigest()
BRISK = Patience(silence=0.3, pauses=(0.01, 0.01))


class Listener(LogListener):
    """Remembers what it was told."""

    def __init__(self) -> None:
        super().__init__()
        self.said: list[str] = []

    def say(self, message: str) -> None:
        self.said.append(message)


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with serving() as running:
        yield running


@pytest.fixture
def said() -> Iterator[list[str]]:
    listener = Listener()
    with listening(listener):
        yield listener.said


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "raw" / "patches.npz"


def part_of(target: Path) -> Path:
    return target.with_name("patches.npz.part")


def leave_part(target: Path, content: bytes) -> None:
    target.parent.mkdir(parents=True)
    part_of(target).write_bytes(content)


def refusal(urls: list[str], target: Path, **hashes: str) -> str:
    with pytest.raises(DataError) as caught:
        download(urls, target, patience=BRISK, **hashes)
    assert not target.exists()
    return str(caught.value)


# ── What goes well ──────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("hashes", [{}, {"md5": MD5}, {"md5": MD5.upper()}, {"md5": MD5, "sha256": SHA256}])
def test_brings_the_file(server: Server, target: Path, hashes: dict[str, str]) -> None:
    assert download([server.at("a", gives(BODY))], target, **hashes) == target  # type: ignore[arg-type]
    assert target.read_bytes() == BODY
    assert not part_of(target).exists()


def test_brings_an_empty_file_where_a_hash_says_that_it_is_empty(server: Server, target: Path) -> None:
    url = server.at("a", gives(b""))
    assert download([url], target, md5=hashlib.md5(b"").hexdigest()).read_bytes() == b""


def test_tells_how_many_bytes(server: Server, target: Path, said: list[str]) -> None:
    download([server.at("a", gives(BODY))], target)
    assert said[0].startswith("Downloading patches.npz: 256,000 bytes in")


def test_follows_redirects(server: Server, target: Path) -> None:
    url = server.at("old", answers(302, Location=server.at("new", gives(BODY))))
    assert download([url], target, md5=MD5).read_bytes() == BODY


@pytest.mark.parametrize("hashes", [{}, {"sha256": SHA256}])
def test_asks_nobody_for_a_file_that_is_there(server: Server, target: Path, hashes: dict[str, str]) -> None:
    url = server.at("a", gives(BODY))
    for _ in range(2):
        download([url], target, **hashes)  # type: ignore[arg-type]
    assert len(server.asked) == 1


def test_replaces_a_file_with_another_hash(server: Server, target: Path, said: list[str]) -> None:
    target.parent.mkdir()
    target.write_bytes(b"an older version")
    assert download([server.at("a", gives(BODY))], target, md5=MD5).read_bytes() == BODY
    assert MD5 in said[0]


# ── What goes wrong and can be mended ───────────────────────────────────────────────────────────


def test_a_later_mirror_helps_out(server: Server, target: Path) -> None:
    urls = [server.at("gone", answers(404)), server.at("page", gives(b"<html>")), server.at("a", gives(BODY))]
    assert download(urls, target, md5=MD5).read_bytes() == BODY
    assert [path for path, _ in server.asked] == ["gone", "page", "a"]


@pytest.mark.parametrize("status", [429, 500, 503])
def test_comes_back_to_a_busy_server(server: Server, target: Path, status: int, said: list[str]) -> None:
    url = server.at("a", in_turn(answers(status), answers(status), gives(BODY)))
    assert download([url], target, patience=BRISK).read_bytes() == BODY
    assert f"answered {status}" in said[0]
    assert "Trying again in 0.01 s" in said[0]


def test_goes_on_where_the_connection_broke(server: Server, target: Path) -> None:
    url = server.at("a", in_turn(breaks_off(BODY, 1000), breaks_off(BODY, 500), gives(BODY)))
    assert download([url], target, md5=MD5, patience=BRISK).read_bytes() == BODY
    assert [offset for _, offset in server.asked] == [None, 1000, 1500]


def test_patience_is_counted_anew_while_more_arrives(server: Server, target: Path) -> None:
    url = server.at("a", breaks_off(BODY, len(BODY) // 9))
    assert download([url], target, md5=MD5, patience=BRISK).read_bytes() == BODY
    assert len(server.asked) == 10


def test_goes_on_after_a_stall(server: Server, target: Path) -> None:
    url = server.at("a", in_turn(stalls(BODY, 1000), gives(BODY)))
    assert download([url], target, md5=MD5, patience=BRISK).read_bytes() == BODY
    assert server.asked[1] == ("a", 1000)


def test_starts_again_where_ranges_are_not_honoured(server: Server, target: Path) -> None:
    url = server.at("a", in_turn(breaks_off(BODY, 1000), gives(BODY, ranges=False)))
    assert download([url], target, md5=MD5, patience=BRISK).read_bytes() == BODY


def test_goes_on_with_what_an_earlier_process_left(server: Server, target: Path, said: list[str]) -> None:
    leave_part(target, BODY[:4000])
    assert download([server.at("a", gives(BODY))], target, md5=MD5).read_bytes() == BODY
    assert server.asked == [("a", 4000)]
    assert said[0].startswith("Downloading patches.npz: 256,000 bytes")


def test_a_part_that_is_whole_needs_no_more(server: Server, target: Path) -> None:
    leave_part(target, BODY)
    assert download([server.at("a", gives(BODY))], target, md5=MD5).read_bytes() == BODY
    assert server.asked == [("a", len(BODY))]


@pytest.mark.parametrize("left", [b"of another version", BODY + b"and more"])
def test_a_part_that_does_not_fit_is_thrown_away(server: Server, target: Path, left: bytes) -> None:
    leave_part(target, left)
    assert download([server.at("a", gives(BODY))], target, md5=MD5).read_bytes() == BODY
    assert server.asked == [("a", len(left)), ("a", None)]


def test_without_a_hash_no_old_part_is_trusted(server: Server, target: Path) -> None:
    leave_part(target, BODY[:4000])
    assert download([server.at("a", gives(BODY))], target).read_bytes() == BODY
    assert server.asked == [("a", None)]


# ── What goes wrong for good ────────────────────────────────────────────────────────────────────


def test_a_wrong_hash_is_refused(server: Server, target: Path) -> None:
    url = server.at("a", gives(b"corrupt"))
    message = refusal([url], target, md5=MD5)
    got = hashlib.md5(b"corrupt").hexdigest()
    assert f"{url}: its MD5 must be {MD5}. Got {got}" in message
    assert f"place it at {target}" in message
    assert not part_of(target).exists()


def test_without_a_hash_an_empty_file_is_refused(server: Server, target: Path) -> None:
    url = server.at("a", gives(b""))
    assert f"{url}: it gave an empty file" in refusal([url], target)
    assert not part_of(target).exists()
    assert download([url, server.at("b", gives(BODY))], target).read_bytes() == BODY


@pytest.mark.parametrize("hashes", [{}, {"md5": MD5}])
@pytest.mark.parametrize("status", [202, 204, 205])
def test_an_answer_without_a_file_is_refused(
    server: Server, target: Path, status: int, hashes: dict[str, str]
) -> None:
    url = server.at("a", answers(status))
    assert f"{url}: the server answered {status} " in refusal([url], target, **hashes)
    assert len(server.asked) == 1
    assert not part_of(target).exists()


def test_every_mirror_is_named_with_its_reason(server: Server, target: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    urls = [
        server.at("gone", answers(404)),
        server.at("busy", answers(503)),
        server.at("round", answers(302, Location=f"{server.url}/round")),
        f"http://127.0.0.1:{port}/nobody",
        "ftp://127.0.0.1/old",
    ]
    message = refusal(urls, target)
    reasons = dict(line.strip().split(": ", 1) for line in message.splitlines()[1:-1])
    assert reasons[urls[0]] == "the server answered 404 Not Found"
    assert reasons[urls[1]] == "the server answered 503 Service Unavailable"
    assert reasons[urls[2]].startswith("TooManyRedirects")
    assert reasons[urls[3]].startswith("ConnectError")
    assert reasons[urls[4]].startswith("UnsupportedProtocol")
    assert "the data set's 'path' parameter" in message
    assert [path for path, _ in server.asked].count("gone") == 1
    assert [path for path, _ in server.asked].count("busy") == 1 + len(BRISK.pauses)


def test_a_server_that_stays_silent_is_left(server: Server, target: Path) -> None:
    assert "ReadTimeout" in refusal([server.at("a", stalls(BODY, 0))], target)


def test_a_server_that_always_breaks_off_is_left(server: Server, target: Path) -> None:
    url = server.at("a", breaks_off(BODY, 1000, ranges=False))
    assert "RemoteProtocolError" in refusal([url], target, md5=MD5)
    assert len(server.asked) == 1 + len(BRISK.pauses)


def test_no_address_at_all(target: Path) -> None:
    assert "no address is known" in refusal([], target)


def test_a_full_disk_is_told_and_left_clean(server: Server, target: Path) -> None:
    resource = pytest.importorskip("resource")  # a limit on a file's size fails a write as a full disk does
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(BODY) // 2, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"No room to write .*patches\.npz\.part"):
            download([server.at("a", gives(BODY))], target, md5=MD5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert sorted(path.name for path in target.parent.iterdir()) == ["patches.npz.lock"]


# ── Gzip files ──────────────────────────────────────────────────────────────────────────────────


def bring_gzipped(url: str, target: Path, patience: Patience = BRISK) -> Path:
    return download_gzipped([url], target, md5=PACKED_MD5, unpacked_md5=MD5, patience=patience)


def kept(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir() if path.suffix != ".lock")


def test_a_gzip_file_is_unpacked_and_not_kept(server: Server, target: Path, said: list[str]) -> None:
    url = server.at("a", in_turn(stalls(PACKED, 1000), breaks_off(PACKED, 500), gives(PACKED)))
    for _ in range(2):
        assert bring_gzipped(url, target).read_bytes() == BODY
    assert [offset for _, offset in server.asked] == [None, 1000, 1500]
    assert kept(target) == ["patches.npz"]
    assert any(line.startswith(f"Unpacking patches.npz.gz: {len(PACKED):,} bytes in") for line in said)


def test_what_was_unpacked_and_then_damaged_is_brought_anew(server: Server, target: Path) -> None:
    url = server.at("a", gives(PACKED))
    bring_gzipped(url, target).write_bytes(BODY[:-1])
    assert bring_gzipped(url, target).read_bytes() == BODY
    assert len(server.asked) == 2


def test_an_archive_that_was_brought_before_is_only_unpacked(server: Server, target: Path) -> None:
    target.parent.mkdir()
    target.with_name("patches.npz.gz").write_bytes(PACKED)
    target.with_name(".patches.npz.killed").write_bytes(BODY[:100])
    assert bring_gzipped(f"{server.url}/a", target).read_bytes() == BODY
    assert not server.asked
    assert kept(target) == ["patches.npz"]


def test_an_archive_of_something_else_is_refused(server: Server, target: Path) -> None:
    with pytest.raises(DataError, match=rf"does not hold the file wanted: its MD5 must be {SHA256[:32]}"):
        download_gzipped(
            [server.at("a", gives(PACKED))], target, md5=PACKED_MD5, unpacked_md5=SHA256[:32], patience=BRISK
        )
    assert kept(target) == ["patches.npz.gz"]


@pytest.mark.parametrize(
    "content", [b"", b"no gzip file", PACKED[:-1], PACKED[:5000], PACKED[:-9] + b"?" * 9]
)
def test_a_damaged_archive_leaves_nothing_unpacked(tmp_path: Path, content: bytes) -> None:
    archive = tmp_path / "own.gz"
    archive.write_bytes(content)
    target = tmp_path / "unpacked" / "own"
    with pytest.raises(DataError, match=r"own\.gz is damaged or no gzip file"):
        unpack(archive, target)
    assert kept(target) == []


def test_a_disk_that_fills_while_unpacking_is_told_and_left_clean(server: Server, target: Path) -> None:
    resource = pytest.importorskip("resource")
    archive = gzip.compress(bytes(10**6))
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    url = server.at("a", gives(archive))
    resource.setrlimit(resource.RLIMIT_FSIZE, (10**5, limits[1]))
    try:
        with pytest.raises(StorageError, match=r"No room to write .*patches\.npz"):
            download_gzipped([url], target, md5=hashlib.md5(archive).hexdigest(), unpacked_md5=MD5)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert kept(target) == ["patches.npz.gz"]


def test_of_two_that_want_it_unpacked_one_asks(server: Server, target: Path) -> None:
    url = server.at("a", slowly(PACKED, 0.3))
    other = threading.Thread(target=bring_gzipped, args=(url, target, Patience()))
    other.start()
    bring_gzipped(url, target, Patience())
    other.join()
    assert len(server.asked) == 1
    assert kept(target) == ["patches.npz"]


# ── Several at once ─────────────────────────────────────────────────────────────────────────────


def test_two_processes_ask_once(server: Server, target: Path) -> None:
    url = server.at("a", slowly(BODY, 1.5))
    code = "import sys; from pathlib import Path; from histoflow.download import download; "
    code += "download([sys.argv[1]], Path(sys.argv[2]), md5=sys.argv[3])"
    command = [sys.executable, "-c", code, url, str(target), MD5]
    both = [subprocess.Popen(command) for _ in range(2)]
    assert [process.wait(60) for process in both] == [0, 0]
    assert target.read_bytes() == BODY
    assert len(server.asked) == 1


def test_who_waits_is_told(server: Server, target: Path, said: list[str]) -> None:
    url = server.at("a", slowly(BODY, 0.5))
    other = threading.Thread(target=download, args=([url], target), kwargs={"md5": MD5})
    other.start()
    while not server.asked:
        time.sleep(0.01)
    download([url], target, md5=MD5)
    other.join()
    assert said == ["Another process brings patches.npz; waiting for it."]
    assert len(server.asked) == 1
