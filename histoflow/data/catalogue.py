"""What a data set held when it was last fetched, so that the next fetch can tell what has changed."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from histoflow.components import Row, Samples
from histoflow.files import atomic_file

_COLUMNS = ("source", "label", "group", "split", "content")


@dataclass(frozen=True, slots=True)
class Entry:
    """One image, without its pixels."""

    label: str
    group: str | None
    split: str | None
    content: str | None
    """The hash of its file; None where images share a file."""


@dataclass(frozen=True, kw_only=True)
class Catalogue:
    """The images of a data set by their sources, at one time."""

    digest: str
    """Of all files."""
    made: datetime
    entries: Mapping[str, Entry]


def catalogue_of(samples: Samples, contents: Mapping[Path, str], digest: str) -> Catalogue:
    """What these samples are; ``contents`` are the hashes of files by absolute path."""
    paths: Iterable[Path | None] = samples.files if samples.files is not None else [None] * len(samples.rows)
    entries = {
        _storable(row.source): Entry(
            _label(row, samples.classes), row.group, row.split, contents.get(path) if path else None
        )
        for row, path in zip(samples.rows, paths, strict=True)
    }
    return Catalogue(digest=digest, made=datetime.now(UTC), entries=entries)


def _label(row: Row, classes: Sequence[str]) -> str:
    if isinstance(row.label, tuple):
        return " + ".join(classes[label] for label in row.label) or "none"
    return classes[row.label]


def write(catalogue: Catalogue, path: Path) -> None:
    entries = catalogue.entries
    table = pa.table(
        {
            "source": pa.array(list(entries), pa.string()),
            **{
                name: pa.array([getattr(entry, name) for entry in entries.values()], pa.string())
                for name in _COLUMNS[1:]
            },
        },
        metadata={"digest": catalogue.digest, "made": catalogue.made.isoformat()},
    )
    with atomic_file(path) as temporary:
        pq.write_table(table, temporary, compression="zstd")


def _storable(source: str) -> str:
    """The name of a file need not be text."""
    return source.encode("utf-8", "backslashreplace").decode()


def digest_in(path: Path) -> str | None:
    """The digest of the catalogue in this file, read without its entries; None where there is none."""
    if not path.is_file():
        return None
    return str(pq.read_schema(path).metadata[b"digest"].decode())


def read(path: Path) -> Catalogue:
    table = pq.read_table(path)
    made = datetime.fromisoformat(table.schema.metadata[b"made"].decode())
    source, *columns = (table.column(name).to_pylist() for name in _COLUMNS)
    entries = {name: Entry(*values) for name, *values in zip(source, *columns, strict=True)}
    return Catalogue(digest=table.schema.metadata[b"digest"].decode(), made=made, entries=entries)


# ── What has changed ────────────────────────────────────────────────────────────────────────────


@dataclass(frozen=True, kw_only=True)
class Changes:
    """Sources of images that differ between two catalogues; each stands in one list of the first four."""

    added: tuple[str, ...]
    """Labels of the images that came."""
    removed: tuple[str, ...]
    """Labels of those that went."""
    relabelled: tuple[tuple[str, str], ...]
    """Label before and label now."""
    renamed: int
    """The same file under another name, and the same label."""
    replaced: int
    """The same name with other content."""
    regrouped: int
    resplit: int

    def __bool__(self) -> bool:
        counts = (self.renamed, self.replaced, self.regrouped, self.resplit)
        return bool(self.added or self.removed or self.relabelled or any(counts))

    def words(self) -> list[str]:
        """Each kind of change, with its number and the classes concerned."""
        relabelled = [f"{old} → {new}" for old, new in self.relabelled]
        told = [
            _count(len(self.added), "added", self.added),
            _count(len(self.removed), "removed", self.removed),
            _count(len(relabelled), "relabelled", relabelled),
            _count(self.replaced, "with other content under the same name"),
            _count(self.renamed, "under another name"),
            _count(self.regrouped, "in another group"),
            _count(self.resplit, "in another split"),
        ]
        return [text for text in told if text]


def _count(number: int, what: str, members: Sequence[str] = ()) -> str:
    if not number:
        return ""
    tally = ", ".join(f"{count:,} {name}" for name, count in sorted(Counter(members).items()))
    return f"{number:,} {what}{f' ({tally})' if tally else ''}"


def compare(before: Catalogue, now: Catalogue) -> Changes:
    """What became of the images; one that moved to another name is known again by its content."""
    old, new = before.entries, now.entries
    gone, come = [s for s in old if s not in new], [s for s in new if s not in old]
    stayed = [(old[source], new[source]) for source in old if source in new]
    moved, gone, come = _moved(old, new, gone, come)
    pairs = stayed + moved
    return Changes(
        added=tuple(new[source].label for source in come),
        removed=tuple(old[source].label for source in gone),
        relabelled=tuple((was.label, is_.label) for was, is_ in pairs if was.label != is_.label),
        renamed=sum(was.label == is_.label for was, is_ in moved),
        replaced=sum(was.content != is_.content for was, is_ in stayed if was.content and is_.content),
        regrouped=sum(was.group != is_.group for was, is_ in pairs),
        resplit=sum(was.split != is_.split for was, is_ in pairs),
    )


def _moved(
    old: Mapping[str, Entry], new: Mapping[str, Entry], gone: Sequence[str], come: Sequence[str]
) -> tuple[list[tuple[Entry, Entry]], list[str], list[str]]:
    """Pairs of what went and what came with the same content; and what is left of both."""
    waiting: dict[str, list[str]] = defaultdict(list)
    for source in reversed(gone):
        if content := old[source].content:
            waiting[content].append(source)
    pairs, found, new_ones = [], set(), []
    for source in come:
        candidates = waiting.get(new[source].content or "")
        if candidates:
            former = candidates.pop()
            found.add(former)
            pairs.append((old[former], new[source]))
        else:
            new_ones.append(source)
    return pairs, [source for source in gone if source not in found], new_ones


def tell(name: str, before: Catalogue, now: Catalogue) -> str:
    """The changes as a sentence or two."""
    since = f"Data set '{name}' has changed since {before.made.astimezone():%Y-%m-%d %H:%M}"
    size = f"It had {len(before.entries):,} images and has {len(now.entries):,}."
    words = list(_of_classes(before, now)) + compare(before, now).words()
    if not words:
        return f"{since}: its files have other content under the same names and labels. {size}"
    return f"{since}: {'; '.join(words)}. {size}"


def _of_classes(before: Catalogue, now: Catalogue) -> Iterator[str]:
    old, new = ({entry.label for entry in catalogue.entries.values()} for catalogue in (before, now))
    if new - old:
        yield f"new labels {', '.join(sorted(new - old))}"
    if old - new:
        yield f"no more {', '.join(sorted(old - new))}"
