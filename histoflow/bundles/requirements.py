"""Which versions of a plugin will do for a model that was made with one of them."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from packaging.specifiers import SpecifierSet
from packaging.version import InvalidVersion, Version

from histoflow import __version__
from histoflow.bundles.bundle import Manifest, Part
from histoflow.components import Architecture, Component, Loss, Transform
from histoflow.errors import BundleError
from histoflow.registry import Registered, Registry

OWN = "histoflow"


def that_do(version: str) -> str:
    """From this version on, up to the next that may break something: 1.4 → >=1.4,<2 and 0.3 → >=0.3,<0.4.

    A version that is none by the rules of Python packages asks for nothing.
    """
    try:
        known = Version(version)
    except InvalidVersion:
        return ""
    beyond = str(known.major + 1) if known.major else f"0.{known.minor + 1}"
    return f">={known.public},<{beyond}"


def of_parts(parts: Iterable[Part]) -> dict[str, str]:
    """The distributions that these components come from, and histoflow."""
    versions = {OWN: __version__, **{part.package: part.version for part in parts}}
    return {package: that_do(version) for package, version in sorted(versions.items())}


def refuse_unfit(manifest: Manifest, registry: Registry) -> None:
    """Tell all that the model needs and that is not installed, or not as it was."""
    problems = list(dict.fromkeys(_problems(manifest, registry)))
    if problems:
        raise BundleError(
            f"The model of run {manifest.run} cannot be used with what is installed here:\n"
            + "\n".join(f"  {problem}" for problem in problems)
        )


def _problems(manifest: Manifest, registry: Registry) -> Iterator[str]:
    yield from _unfit_version(OWN, __version__, manifest.requires)
    kinds: list[tuple[type[Component[Any]], Part]] = [
        *((Transform, part) for part in manifest.preprocess),
        (Architecture, manifest.architecture),
        (Loss, manifest.loss),
    ]
    for kind, part in kinds:
        found = registry.components.get((kind.kind, part.name))
        if found is None or found.rivals:
            yield _absence(kind, part, registry, manifest.requires)
        else:
            yield from _unfit(kind, part, found, manifest.requires)


def _absence(kind: type[Component[Any]], part: Part, registry: Registry, requires: Mapping[str, str]) -> str:
    if (kind.kind, part.name) in registry.components:
        return f"the {kind.kind} {registry.explain_absence(kind, part.name, ())}"
    wanted = f"{part.package}{requires.get(part.package, '')}"
    broken = [failure for failure in registry.failures if failure.provider.package == part.package]
    if broken:
        return f"the {kind.kind} '{part.name}' of {wanted}: the plugin is broken ({broken[0].reason})"
    return f"the {kind.kind} '{part.name}' is missing. Install the plugin: pip install '{wanted}'"


def _unfit(
    kind: type[Component[Any]], part: Part, found: Registered, requires: Mapping[str, str]
) -> Iterator[str]:
    provider = found.provider
    if provider.package != part.package:
        yield (
            f"the {kind.kind} '{part.name}' must come from {part.package}, and comes from {provider} here. "
            f"Uninstall that, and install the other: pip install '{part.package}"
            f"{requires.get(part.package, '')}'"
        )
        return
    yield from _unfit_version(provider.package, provider.version, requires)
    revision = getattr(found.component, "version", None)
    if revision != part.revision:
        yield (
            f"the {kind.kind} '{part.name}' gives other images than it did: it was revision {part.revision} "
            f"and is {revision}. Install {part.package} {part.version}, with which the model was trained"
        )


def _unfit_version(package: str, version: str, requires: Mapping[str, str]) -> Iterator[str]:
    wanted = requires.get(package, "")
    if wanted and not _is_among(version, wanted):
        yield f"{package} must be {wanted}, and {version} is installed: pip install '{package}{wanted}'"


def _is_among(version: str, wanted: str) -> bool:
    try:
        return SpecifierSet(wanted).contains(Version(version), prereleases=True)
    except InvalidVersion:
        return False
