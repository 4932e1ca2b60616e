"""Bundles that are not what was written, or do not fit what is installed, are refused with the reason."""

from __future__ import annotations

import json
import random
import shutil
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from exported import bundle as bundle_of_the_run
from exported import repacked, rewritten
from histoflow import files
from histoflow.bundles.loading import Model, load_model
from histoflow.bundles.requirements import that_do
from histoflow.errors import BundleError
from histoflow.registry import Provider, Registry, installed


@pytest.fixture(scope="module")
def model() -> Model:
    return load_model(bundle_of_the_run(), device="cpu")


def flip(content: bytes, place: int) -> bytes:
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda entries: entries.update({"weights.safetensors": flip(entries["weights.safetensors"], -9)}),
            r"weights\.safetensors in .* was changed after it was written: its hash differs",
        ),
        (
            lambda entries: entries.update(
                {"manifest.json": entries["manifest.json"].replace(b'"tumour"', b'"tumoux"')}
            ),
            r"manifest\.json in .* was changed after it was written",
        ),
        (lambda entries: entries.pop("README.md"), r"lacks README\.md\. Get the bundle again"),
        (lambda entries: entries.pop("manifest.json"), r"has no manifest\.json, so it is no bundle"),
        (
            lambda entries: entries.update({"extra.bin": b""}),
            r"holds extra\.bin, of which its manifest knows",
        ),
        (lambda entries: entries.update({"../up.bin": b""}), r"plain names.* '\.\./up\.bin'"),
        (lambda entries: entries.update({"/etc/up": b""}), r"plain names.* '/etc/up'"),
        (lambda entries: entries.update({"a/b.bin": b""}), r"plain names.* 'a/b\.bin'"),
        (lambda entries: entries.update({"manifest.json": b"[]"}), r"manifest\.json of .* is damaged"),
        (lambda entries: entries.update({"manifest.json": b"{"}), "is damaged, or no bundle at all"),
    ],
)
def test_a_changed_bundle_is_refused(
    tmp_path: Path, change: Callable[[dict[str, bytes]], Any], message: str
) -> None:
    with pytest.raises(BundleError, match=message):
        load_model(repacked(tmp_path, change))


def test_a_bundle_packed_by_another_program_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BundleError, match="was packed anew"):
        load_model(repacked(tmp_path, lambda entries: None, zipfile.ZIP_DEFLATED))


def test_an_entry_that_is_there_twice_is_refused(tmp_path: Path) -> None:
    path = shutil.copy(bundle_of_the_run(), tmp_path / "twice.histoflow")
    with zipfile.ZipFile(path, "a") as archive, pytest.warns(UserWarning, match="Duplicate name"):
        archive.writestr("README.md", "another")
    with pytest.raises(BundleError, match=r"each there once\. .* 'README\.md'"):
        load_model(path)


def test_a_file_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.histoflow").write_bytes(b"weights")
    with pytest.raises(BundleError, match="is damaged, or no bundle at all"):
        load_model(tmp_path / "a.histoflow")
    with pytest.raises(BundleError, match=r"There is no file .*b\.histoflow\. Check the path"):
        load_model(tmp_path / "b.histoflow")


def test_wherever_a_byte_differs_it_is_refused_or_says_the_same(tmp_path: Path, model: Model) -> None:
    """Some bytes of a zip file mean nothing, such as the time of an entry."""
    whole, path = bundle_of_the_run().read_bytes(), tmp_path / "a.histoflow"
    images = np.random.default_rng(0).integers(0, 256, (9, 32, 32, 3), np.uint8)
    expected, refused = model.predict(images).probabilities, 0
    for place in random.Random(0).sample(range(len(whole)), 60):
        path.write_bytes(flip(whole, place))
        try:
            found = load_model(path).predict(images).probabilities
        except BundleError:
            refused += 1
        else:
            assert (found == expected).all(), place
    assert refused > 50


def test_a_bundle_cut_short_is_refused(tmp_path: Path) -> None:
    whole, path = bundle_of_the_run().read_bytes(), tmp_path / "a.histoflow"
    for share in (0.1, 0.5, 0.999):
        path.write_bytes(whole[: int(share * len(whole))])
        with pytest.raises(BundleError, match="is damaged, or no bundle at all"):
            load_model(path)


def test_the_hash_that_was_told_beforehand_is_insisted_on(model: Model) -> None:
    path = bundle_of_the_run()
    assert load_model(path, sha256=model.manifest.sha256).classes == model.classes
    with pytest.raises(BundleError, match=r"sha256 must be the hash of the bundle.*Got 12ab"):
        load_model(path, sha256="12ab")


def test_another_format_is_refused(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda data: data | {"format": 2, "histoflow": "3.0"})
    with pytest.raises(BundleError, match=r"has format 2, written by histoflow 3\.0, .* reads format 1"):
        load_model(path)


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    other = {"model": "0" * 64}
    path = rewritten(tmp_path, lambda data: data | other | {"fitted": data["fitted"] | other})
    with pytest.raises(BundleError, match="does not hold the weights of the model that it describes"):
        load_model(path)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"classes": ["a", "b", "c"]}, "a binary task has 2 classes, and there are 3"),
        ({"classes": ["a", "a"]}, r"the classes of a binary task cannot be \('a', 'a'\)"),
        ({"task": "multiclass", "classes": ["a"]}, "the classes of a multiclass task cannot be"),
        ({"task": "multilabel"}, "fitted is of a binary task, and the model of a multilabel one"),
        ({"mean": [0.5]}, "mean must have a figure for each of 3 channels, and has 1"),
        ({"channels": 1}, "mean must have a figure for each of 1 channels, and has 3"),
        ({"std": [0.2, 0, 0.2]}, r"damaged at std\.1: Input should be greater than 0"),
        ({"size": [0, 24]}, r"damaged at size\.0: Input should be greater than 0"),
        ({"train_counts": [4]}, "train_counts must have a figure for each of 2 classes"),
        ({"fitted": {"model": "0" * 64}}, "fitted is of model 0000000000000000, and not of"),
        ({"fitted": {"temperature": -1}}, r"damaged at fitted\.temperature: Input should be greater than 0"),
        ({"fitted": {"levels": [0.1]}}, "damaged at fitted: there must be a level for each of 2 classes"),
        ({"fitted": {"schema_version": 99}}, r"fitted\.schema_version: it must be 1 .* and is 99"),
    ],
)
def test_a_manifest_that_does_not_fit_together_is_refused(
    tmp_path: Path, changed: dict[str, Any], message: str
) -> None:
    def change(entries: dict[str, bytes]) -> None:
        data = json.loads(entries["manifest.json"])
        fitted = data["fitted"] | changed.get("fitted", {})
        entries["manifest.json"] = json.dumps(data | changed | {"fitted": fitted}).encode()

    with pytest.raises(BundleError, match=message):
        load_model(repacked(tmp_path, change))


# ── Plugins that are missing or are others ──────────────────────────────────────────────────────


def registry_with(kind: str, name: str, **changes: Any) -> Registry:
    """The installed one, of which a component is gone, or is from elsewhere."""
    known = dict(installed().components)
    if changes:
        known[kind, name] = replace(known[kind, name], **changes)
    else:
        del known[kind, name]
    return Registry(known)


def of_ourlab(version: str) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """As if the network were of a plugin of its own."""

    def change(data: dict[str, Any]) -> dict[str, Any]:
        part = data["architecture"] | {"package": "histoflow-ourlab", "version": version}
        return data | {"architecture": part, "requires": {"histoflow-ourlab": that_do(version)}}

    return change


def test_a_missing_plugin_is_named_with_how_to_get_it(tmp_path: Path) -> None:
    path = rewritten(tmp_path, of_ourlab("1.4.2"))
    message = r"of run patches-run cannot be used .*\n.*architecture 'cnn' is missing.*'histoflow-ourlab>=1\.4\.2,<2'"
    with pytest.raises(BundleError, match=message):
        load_model(path, registry=registry_with("architecture", "cnn"))
    with pytest.raises(BundleError, match="must come from histoflow-ourlab, and comes from histoflow 0.1.0"):
        load_model(path)


@pytest.mark.parametrize(
    ("version", "fits"), [("1.4.2", True), ("1.9", True), ("1.3", False), ("2.0", False)]
)
def test_a_plugin_must_be_of_a_version_that_fits(tmp_path: Path, version: str, fits: bool) -> None:
    path = rewritten(tmp_path, of_ourlab("1.4.2"))
    registry = registry_with("architecture", "cnn", provider=Provider("ours", "histoflow-ourlab", version))
    if fits:
        assert load_model(path, registry=registry).classes == ("normal", "tumour")
        return
    message = rf"histoflow-ourlab must be >=1\.4\.2,<2, and {version} is installed: pip install"
    with pytest.raises(BundleError, match=message):
        load_model(path, registry=registry)


def test_all_that_is_missing_is_told_at_once(tmp_path: Path) -> None:
    path = rewritten(tmp_path, lambda data: data | {"requires": {"histoflow": ">=7"}})
    known = {key: one for key, one in installed().components.items() if key[1] not in ("cnn", "resize")}
    with pytest.raises(BundleError) as told:
        load_model(path, registry=Registry(known))
    assert "histoflow must be >=7" in str(told.value)
    assert "transform 'resize' is missing" in str(told.value)
    assert "architecture 'cnn' is missing" in str(told.value)


def test_a_preprocessing_that_gives_other_images_is_refused() -> None:
    component = installed().components["transform", "resize"].component
    registry = registry_with("transform", "resize", component=replace(component, version=2))  # type: ignore[call-arg]
    with pytest.raises(
        BundleError, match="'resize' gives other images than it did: it was revision 1 and is 2"
    ):
        load_model(bundle_of_the_run(), registry=registry)


@pytest.mark.parametrize(
    ("version", "wanted"),
    [
        ("1.4.2", ">=1.4.2,<2"),
        ("0.3", ">=0.3,<0.4"),
        ("2.0.1+cu12", ">=2.0.1,<3"),
        ("unknown", ""),
    ],
)
def test_versions_fit_up_to_the_next_that_may_break_something(version: str, wanted: str) -> None:
    assert that_do(version) == wanted


def test_parameters_that_a_plugin_no_longer_knows_are_told(tmp_path: Path) -> None:
    def change(data: dict[str, Any]) -> dict[str, Any]:
        part = data["architecture"]
        return data | {"architecture": part | {"params": part["params"] | {"heads": 3}}}

    with pytest.raises(
        BundleError, match=r"'cnn' does not take the parameters .*heads.*Install histoflow 0\.1\.0"
    ):
        load_model(rewritten(tmp_path, change))


def test_the_hash_of_a_manifest_is_that_of_its_content(model: Model) -> None:
    plain = model.manifest.model_dump(mode="json", exclude={"sha256"})
    assert files.digest_of_data(plain) == model.manifest.sha256
