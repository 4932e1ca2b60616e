"""The whole audit: every question is answered, what a policy drops is left out of what follows."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest

from auditing import examined, in_turn, noise
from histoflow.data.audit import policy
from histoflow.data.audit.checks import audit
from histoflow.data.audit.features import describe
from histoflow.data.audit.finding import Finding
from histoflow.data.audit.quarantine import by_reason
from histoflow.errors import AuditError
from histoflow.experiment import Audit

SPLITS = in_turn(400, "train", "train", "val", "test")
LABELS = np.arange(400) // 4 % 2


def test_every_setting_of_the_audit_is_asked_about_and_clean_data_are_fine() -> None:
    made = examined(LABELS, SPLITS, noise(400, side=16), [f"slide-{place}" for place in range(400)])
    found = audit(made, {}, asked_shares={"val": 0.25, "test": 0.25})
    assert {finding.setting for finding in found.findings} == set(Audit.model_fields)
    assert {finding.severity for finding in found.findings} == {"ok"}
    assert found.dropped == {}


def with_copies():
    """Three images of test stand in train as well, and nowhere is anything else amiss."""
    pixels = noise(400, side=16)
    places = np.flatnonzero(np.array(SPLITS) == "test")[:3]
    pixels[places - 3] = pixels[places]
    made = examined(LABELS, SPLITS, pixels)
    hashes = made.hashes.copy()
    hashes[places - 3] = hashes[places]
    return replace(made, hashes=hashes), (places - 3).tolist()


def leaks(found) -> Finding:
    (finding,) = (one for one in found.findings if one.setting == "leaks_into_test" and one.severity != "ok")
    return finding


def test_what_is_found_is_stored_the_same_whether_it_is_warned_of_or_refused() -> None:
    made, _ = with_copies()
    warned, refused = (audit(made, {"leaks_into_test": policy}) for policy in ("warn", "refuse"))
    assert (warned.findings, warned.dropped) == (refused.findings, refused.dropped)
    assert leaks(warned).severity == "warning"
    assert leaks(warned).examples


def test_what_is_dropped_is_named_with_its_reason_and_missing_from_the_counts() -> None:
    made, training = with_copies()
    made = replace(
        made, labels=np.where(np.isin(np.arange(400), training), 2, LABELS), classes=("a", "b", "c")
    )
    whole, cut = (audit(made, {"leaks_into_test": what}) for what in ("warn", "drop"))
    assert list(cut.dropped) == training
    assert "test" in cut.dropped[training[0]]
    assert leaks(cut).severity == "note"
    assert "3 images were left out" in leaks(cut).message
    missing = "The train split has no image of class 'c'."
    assert missing not in [finding.message for finding in whole.findings]
    assert missing in [finding.message for finding in cut.findings]


def test_images_that_hang_together_as_copies_are_told_whatever_their_splits() -> None:
    made, training = with_copies()
    turned = made.images(np.arange(400))
    turned[2] = np.rot90(turned[training[1]])
    made = replace(made, features=describe(turned), images=lambda places: turned[places])
    copies = audit(made, {}).copies
    assert training == [0, 4, 8]
    assert copies[[2, 4, 7]].tolist() == [2, 2, 2]
    assert copies[[0, 3, 8, 11]].tolist() == [0, 0, 8, 8]
    assert (copies < 0).sum() == 400 - 7


def test_where_all_of_a_split_would_be_left_out_nothing_is_asked_of_the_rest() -> None:
    black = np.array(SPLITS) == "train"
    pixels = noise(400, side=16) // np.where(black, 255, 1).astype(np.uint8)[:, None, None, None]
    found = audit(examined(LABELS, SPLITS, pixels), {"black": "drop"}, asked_shares={"val": 0.25})
    assert list(found.dropped) == np.flatnonzero(black).tolist()
    assert {finding.check for finding in found.findings}.isdisjoint({"shift", "missing_class"})


def test_images_that_could_not_be_read_are_counted_with_their_reasons() -> None:
    made = examined(LABELS, SPLITS)
    found = audit(made, {}, unreadable=[("a.png", "it ends early"), ("b.png", "it ends early")]).findings[0]
    assert (found.check, found.setting, found.severity) == ("unreadable", "unreadable", "warning")
    assert found.images == 2
    assert found.examples == ("a.png", "b.png")
    assert "2 images cannot be used and were left out: it ends early." in found.message


def test_findings_are_plain_data() -> None:
    made, _ = with_copies()
    quality = np.where(LABELS == 1, 75.0, np.nan)
    findings = audit(replace(made, files={"quality": quality}), {}, asked_shares={"val": 0.1}).findings
    json.dumps([asdict(finding) for finding in findings], allow_nan=False)


@pytest.mark.parametrize("count", [1, 2, 3, 12])
def test_a_handful_of_images_is_no_stumbling_block(count: int) -> None:
    labels, splits = np.arange(count) % 2, in_turn(count, "train", "val", "test")
    assert audit(examined(labels, splits, classes=("a", "b")), {}, asked_shares={"val": 0.2}).findings
    lone = examined(labels, splits, groups=["slide"] * count, classes=("a", "b"))
    assert audit(lone, {}, asked_shares={"val": 0.2}).findings


# ── Policies ────────────────────────────────────────────────────────────────────────────────────

LEAK = Finding(check="copies", message="3 images leak.", setting="leaks_into_test", images=3)
SHIFT = Finding(check="shift", message="They differ.", setting="shift")
POLICIES = Audit().model_dump()


def test_a_warning_is_refused_where_its_setting_says_so() -> None:
    note = replace(LEAK, severity="note")
    found = policy.judged([LEAK, SHIFT, note], POLICIES)
    assert [finding.severity for finding in found] == ["refused", "warning", "note"]
    policy.refuse([SHIFT, note], POLICIES, Path("packed"))
    policy.refuse([LEAK], POLICIES | {"leaks_into_test": "warn"}, Path("packed"))


def test_a_refusal_names_everything_and_each_way_to_go_on() -> None:
    with pytest.raises(AuditError) as refused:
        policy.refuse([LEAK, SHIFT], POLICIES | {"shift": "refuse"}, Path("/data/packed"))
    message = str(refused.value)
    assert "leaks_into_test: 3 images leak." in message
    assert "shift: They differ." in message
    assert "--set audit.leaks_into_test=warn --set audit.shift=warn" in message
    assert "--set audit.leaks_into_test=drop leaves out those in train and val" in message
    assert "audit.shift=drop" not in message
    assert "histoflow audit /data/packed" in message


# ── Quarantine ──────────────────────────────────────────────────────────────────────────────────


def test_reasons_that_differ_in_numbers_alone_are_one() -> None:
    early = [(f"{size}.png", f"it ends early: {size:,} of 8,310 bytes") for size in (1024, 77, 4000, 12)]
    alone = ("white.png", "all of 96 rows are white")
    first, second = by_reason([alone, *early])
    assert (first.reason, first.images) == ("it ends early: … of … bytes", 4)
    assert first.examples == ("1024.png", "77.png", "4000.png")
    assert (second.reason, second.images, second.examples) == (alone[1], 1, ("white.png",))
