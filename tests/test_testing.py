"""The contract tests find what they are for: each breach, told in words that help."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from pydantic import Field
from torch import Tensor, nn
from torch.nn import functional
from torch.optim import lr_scheduler

from histoflow import (
    Architecture,
    Dataset,
    Facts,
    Loss,
    Metric,
    Optimizer,
    Params,
    Reporter,
    Row,
    Samples,
    Scheduler,
    Score,
    Task,
    Transform,
    UnreadableImage,
)
from histoflow.components import Component
from histoflow.testing import check_component


def refuses(component: Component[Any], words: str) -> None:
    with pytest.raises(AssertionError, match=words) as error:
        check_component(component)
    assert str(error.value).startswith(f"{component.kind} '{component.name}': ")


def test_the_face_of_the_package_imports_neither_torch_nor_numpy() -> None:
    code = "import histoflow.testing, sys; assert not {'torch', 'numpy'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_what_is_no_component_is_refused() -> None:
    with pytest.raises(AssertionError, match="must be one of Dataset, Transform"):
        check_component(Params())  # type: ignore[type-var, arg-type]


# ── Parameters ──────────────────────────────────────────────────────────────────────────────────


class NoDefault(Params):
    depth: int = Field(description="Layers")


class OwnBoundsBroken(Params):
    depth: int = Field(0, ge=1, description="Layers")


class Documented(Params):
    depth: int = 3
    """Layers."""


@pytest.mark.parametrize(
    ("params", "words"),
    [
        (NoDefault, "'depth' has no default"),
        (OwnBoundsBroken, "reading the default parameters back from JSON raised ValidationError"),
    ],
)
def test_parameters_have_sound_defaults(params: type[Params], words: str) -> None:
    refuses(replace(DIM, params=params), words)


def test_a_summary_is_needed() -> None:
    refuses(replace(DIM, summary=" "), "summary")


def test_params_given_must_be_those_of_the_component() -> None:
    with pytest.raises(AssertionError, match="params must be a Documented"):
        check_component(replace(DIM, params=Documented), Params())


# ── Data sets ───────────────────────────────────────────────────────────────────────────────────


class FolderParams(Params):
    path: Path | None = None
    """Where the images are."""


def _folder_files(params: FolderParams, folder: Path) -> list[Path]:
    assert params.path is not None
    return sorted(params.path.glob("*.png"))


def _open_folder(params: FolderParams, files: Any) -> Samples:
    rows = [Row(label=int(path.stem) % 2, source=path.name, group=path.stem) for path in files]
    return Samples(
        classes=("dark", "light"), rows=rows, read=lambda index: np.asarray(Image.open(files[index]))
    )


FOLDER = Dataset(
    name="folder",
    summary="Images in a folder",
    params=FolderParams,
    facts=lambda params: Facts(task="binary", size=(8, 8), channels=3, groups=True),
    fetch=_folder_files,
    open=_open_folder,
)


@pytest.fixture
def local(tmp_path: Path) -> FolderParams:
    for number in range(6):
        Image.new("RGB", (8, 8), (number, 0, 0)).save(tmp_path / f"{number}.png")
    return FolderParams(path=tmp_path)


def test_a_data_set_of_local_files_passes(local: FolderParams) -> None:
    check_component(FOLDER, local)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    missing = replace(FOLDER, fetch=lambda params, folder: [folder / "patches.h5"])
    refuses(missing, r"not there: .*patches\.h5")


def squares(facts: Facts | None = None, **samples: Any) -> Dataset[Params]:
    usual = {
        "classes": ("dark", "light"),
        "rows": [Row(label=index % 2, source=str(index)) for index in range(10)],
        "read": lambda index: np.full((8, 8, 3), index, np.uint8),
    }
    return Dataset(
        name="squares",
        summary="Squares",
        params=Params,
        facts=lambda params: facts or Facts(images=10),
        open=lambda params, files: Samples(**{**usual, **samples}),
    )


def _unreadable(index: int) -> Any:
    raise UnreadableImage("it is blank")


def _broken(index: int) -> Any:
    raise KeyError(index)


def _sometimes_unreadable(index: int) -> Any:
    return _unreadable(index) if index == 3 else np.zeros((8, 8, 3), np.uint8)


def _noise(index: int) -> Any:
    return np.random.default_rng().integers(0, 256, (8, 8, 3), np.uint8)


def _rows(**columns: Any) -> list[Row]:
    return [Row(label=index % 2, source=str(index), **columns) for index in range(10)]


def _showing(*labels: Any) -> list[Row]:
    return [Row(label=label, source="x") for label in labels]


@pytest.mark.parametrize(
    "dataset",
    [
        squares(),
        squares(Facts(task="binary", classes=("dark", "light"), channels=3, size=(8, 8), images=10)),
        squares(Facts(official_split=True, groups=True), rows=_rows(split="train", group="a")),
        squares(read=_sometimes_unreadable),
        squares(Facts(task="multilabel"), rows=_showing((0, 1), ()), task="multilabel"),
    ],
)
def test_data_sets_that_keep_the_contract_pass(dataset: Dataset[Params]) -> None:
    check_component(dataset)


@pytest.mark.parametrize(
    ("dataset", "words"),
    [
        (squares(Facts(images=11)), "facts say images 11. The samples have 10"),
        (squares(Facts(task="multiclass")), "facts say task 'multiclass'. The samples have 'binary'"),
        (squares(Facts(classes=("light", "dark"))), "facts say classes"),
        (squares(Facts(channels=1)), "facts say channels 1. The samples have 3"),
        (squares(Facts(size=(8, 9))), r"facts say size \(8, 9\). The samples have \(8, 8\)"),
        (squares(Facts(groups=True)), "facts say groups=True"),
        (squares(rows=_rows(group="a")), "facts say groups=False"),
        (squares(Facts(official_split=True)), "some rows have no split"),
        (squares(Facts(official_split=True), rows=_rows(split="val")), "no row is of the split 'train'"),
        (squares(rows=_rows(split="train")), "facts say official_split=False"),
        (squares(rows=[]), "has no images"),
        (squares(classes=("only",)), "needs two classes or more"),
        (squares(rows=[Row(label=2, source="x")] * 10), r"labels must be 0 to 1. Got \[2\]"),
        (squares(rows=_showing((0, 2)), task="multilabel"), r"labels must be 0 to 1. Got \[2\]"),
        (squares(rows=_showing((0,), 1), task="multilabel"), "labels must be tuples of classes, .* Got 1"),
        (squares(rows=_showing((0,), 1)), r"labels must be one number each. Got \(0,\)"),
        (squares(Facts(task="multilabel")), "facts say task 'multilabel'. The samples have 'binary'"),
        (squares(read=lambda index: np.zeros((8, 8, 3))), "array of uint8. Got float64"),
        (squares(read=lambda index: np.zeros((8, 8), np.uint8)), r"Got uint8 of shape \(8, 8\)"),
        (squares(read=lambda index: Image.new("RGB", (8, 8))), "Got Image"),
        (squares(read=_noise), "another image the second time"),
        (squares(read=_unreadable), "not one of the images"),
        (squares(read=_broken), r"read\(0\) raised KeyError"),
    ],
)
def test_breaches_of_data_sets(dataset: Dataset[Params], words: str) -> None:
    refuses(dataset, words)


def test_rows_that_change_are_found() -> None:
    openings = iter(range(10))

    def open_(params: Params, files: Any) -> Samples:
        number = next(openings)
        rows = [Row(label=index % 2, source=f"{number}-{index}") for index in range(10)]
        return Samples(classes=("a", "b"), rows=rows, read=lambda index: np.zeros((8, 8, 3), np.uint8))

    refuses(replace(squares(), open=open_), "rows differ")


# ── Transforms ──────────────────────────────────────────────────────────────────────────────────


def augmentation(augment: Callable[..., Any]) -> Transform[Params]:
    return Transform(
        name="dim", summary="Darker", params=Params, stage="augment", build=lambda params: augment
    )


def _amounts(images: Tensor, generator: torch.Generator) -> Tensor:
    return torch.rand(len(images), 1, 1, 1, generator=generator)


DIM = augmentation(lambda images, generator: images * _amounts(images, generator))


def test_a_sound_augmentation_passes() -> None:
    check_component(DIM)


def test_an_augmentation_for_colour_alone_says_so() -> None:
    def augment(images: Tensor, generator: torch.Generator) -> Tensor:
        return images * torch.rand(len(images), 3, 1, 1, generator=generator)

    refuses(replace(augmentation(augment), build=lambda params: _only_colour(augment)), "raised ValueError")
    check_component(
        replace(
            augmentation(augment),
            build=lambda params: _only_colour(augment),
            check=lambda params, data: [] if data.channels == 3 else ["dim takes colour images"],
        )
    )


def _only_colour(augment: Callable[..., Any]) -> Callable[..., Any]:
    def strict(images: Tensor, generator: torch.Generator) -> Any:
        if images.shape[1] != 3:
            raise ValueError("three channels wanted")
        return augment(images, generator)

    return strict


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (lambda images, generator: images * torch.rand(len(images), 1, 1, 1), "global generator of torch"),
        (lambda images, generator: images * random.random(), "global generator of random"),
        (lambda images, generator: images * np.random.rand(), "global generator of numpy"),
        (lambda images, generator: images + _amounts(images, generator), "within 0 to 1"),
        (lambda images, generator: images * _amounts(images, generator) / 0 * 0, "within 0 to 1. Got nan"),
        (
            lambda images, generator: (images * _amounts(images, generator)).double(),
            "must return torch.float32",
        ),
        (lambda images, generator: images[:, :, 1:], "must return torch.float32 of shape"),
        (lambda images, generator: images.mul_(_amounts(images, generator)), "changes the batch"),
        (lambda images, generator: images * 0.5, "the same whatever the generator"),
        (
            lambda images, generator: images * torch.rand(1, generator=generator),
            "all images of a batch alike",
        ),
        (
            lambda images, generator: images * torch.rand(1, generator=torch.Generator()),
            "batch alike|whatever",
        ),
        (lambda images: images, "raised TypeError"),
    ],
)
def test_breaches_of_augmentations(augment: Callable[..., Any], words: str) -> None:
    refuses(augmentation(augment), words)


MOVE = replace(DIM, build=lambda params: _moved, takes_bytes=True)


def _moved(images: Tensor, generator: torch.Generator) -> Tensor:
    chosen = torch.rand(len(images), 1, 1, 1, generator=generator) < 0.5
    return torch.where(chosen, images.roll(1, dims=3), images)


def test_what_moves_whole_pixels_may_take_bytes() -> None:
    check_component(MOVE)


@pytest.mark.parametrize(
    ("augment", "words"),
    [
        (lambda images, generator: images * _amounts(images, generator), "must return uint8 of shape"),
        (
            lambda images, generator: (images * _amounts(images, generator)).to(images.dtype),
            "something else of bytes than of the same pixels",
        ),
    ],
)
def test_breaches_of_what_takes_bytes(augment: Callable[..., Any], words: str) -> None:
    refuses(replace(augmentation(augment), takes_bytes=True), words)


def test_only_an_augmentation_takes_bytes() -> None:
    refuses(replace(MOVE, stage="mix"), "for the stage 'augment' alone. Got the stage 'mix'")


def test_only_a_preprocessing_may_decline() -> None:
    refuses(replace(DIM, may_decline=True), "for the stage 'preprocess' alone. Got the stage 'augment'")


def mixing(mix: Callable[..., Any]) -> Transform[Params]:
    return Transform(name="blend", summary="Two in one", params=Params, stage="mix", build=lambda params: mix)


def _blended(
    images: Tensor, generator: torch.Generator, *, own: Any = None, partners: Any = None, shares: Any = None
) -> Any:
    """A sound mix, of which each part may be replaced by an unsound one."""
    drawn = torch.rand(len(images), generator=generator)
    weights = drawn.view(-1, 1, 1, 1)
    mixed = weights * images + (1 - weights) * images.flip(0)
    return (
        own(mixed) if own else mixed,
        partners(images) if partners else torch.arange(len(images)).flip(0),
        shares(drawn) if shares else drawn,
    )


def test_a_sound_mix_passes() -> None:
    check_component(mixing(_blended))


@pytest.mark.parametrize(
    ("mix", "words"),
    [
        (lambda images, generator: _blended(images, generator)[0], "three tensors. Got Tensor"),
        (partial(_blended, own=lambda mixed: mixed[:, :1]), "must return torch.float32 of shape"),
        (partial(_blended, own=lambda mixed: mixed + 1), "within 0 to 1"),
        (partial(_blended, partners=lambda images: torch.zeros(len(images))), "partners of torch.int64"),
        (
            partial(_blended, partners=lambda images: torch.arange(len(images)) + 1),
            "partners from 0 to 5, the images of the batch",
        ),
        (partial(_blended, shares=lambda drawn: drawn.mean()), r"shares of floats of shape \(6,\)"),
        (partial(_blended, shares=lambda drawn: drawn + 1), "shares from 0 to 1. Got 1"),
        (partial(_blended, shares=lambda drawn: drawn / 0 * 0), "shares from 0 to 1. Got nan"),
        (partial(_blended, shares=torch.ones_like), "all is its own"),
        (
            lambda images, generator: _blended(images, torch.Generator().manual_seed(0)),
            "the same whatever the generator",
        ),
        (lambda images, generator: _blended(images, None), "global generator of torch"),
        (lambda images, generator: _blended(images.mul_(0.5), generator), "changes the batch"),
        (lambda images: images, "raised TypeError"),
    ],
)
def test_breaches_of_mixing(mix: Callable[..., Any], words: str) -> None:
    refuses(mixing(mix), words)


def preprocessing(step: Callable[..., Any]) -> Transform[Params]:
    return Transform(
        name="crop", summary="Smaller", params=Params, stage="preprocess", build=lambda params: step
    )


def _in_place(image: Any) -> Any:
    image[0] = 0
    return image


def _unseeded(image: Any) -> Any:
    return image // np.uint8(np.random.default_rng().integers(1, 200))


def test_a_sound_preprocessing_passes() -> None:
    check_component(preprocessing(lambda image: image[2:-2, 3:]))


@pytest.mark.parametrize(
    ("step", "words"),
    [
        (lambda image: image / 255, "array of uint8. Got float64"),
        (lambda image: image[:, :, 0], r"Got uint8 of shape \(224, 256\)"),
        (lambda image: image[:0], "must return an H×W×C array"),
        (lambda image: None, "Got NoneType"),
        (_in_place, "changes the image"),
        (_unseeded, "another result the second time"),
        (lambda image: image // np.random.randint(1, 9), "global generator of numpy"),
        (lambda image: image.resize(3), "raised ValueError"),
    ],
)
def test_breaches_of_preprocessing(step: Callable[..., Any], words: str) -> None:
    refuses(preprocessing(step), words)


# ── Architectures ───────────────────────────────────────────────────────────────────────────────


def architecture(
    wrap: Callable[[nn.Sequential], nn.Module] | None = None, **more: Any
) -> Architecture[Params]:
    def build(params: Params, data: Any, outputs: int) -> nn.Module:
        network = nn.Sequential(
            nn.Conv2d(data.channels, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(4, outputs),
        )
        return wrap(network) if wrap else network

    return Architecture(
        **{"name": "tiny", "summary": "Tiny", "params": Params, "build": build, "min_size": 4, **more}
    )


class Around(nn.Module):
    """A network, and what a subclass does wrong with its outputs."""

    def __init__(self, network: nn.Sequential) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> Tensor:
        return self.spoil(self.network(images))

    def spoil(self, outputs: Tensor) -> Tensor:
        return outputs


class Averages(Around):
    def spoil(self, outputs: Tensor) -> Tensor:
        return outputs - outputs.mean(dim=0)


class Infinite(Around):
    def spoil(self, outputs: Tensor) -> Tensor:
        return outputs / 0


class InfiniteSlope(Around):
    def spoil(self, outputs: Tensor) -> Tensor:
        return outputs.mul(0).pow(2).sqrt()


class Detached(Around):
    def spoil(self, outputs: Tensor) -> Tensor:
        return outputs.detach().requires_grad_()


class Noisy(Around):
    def spoil(self, outputs: Tensor) -> Tensor:
        return outputs + torch.rand_like(outputs)


class Hidden(Around):
    """Learns something in training that its state_dict does not hold."""

    offset = 0.0

    def spoil(self, outputs: Tensor) -> Tensor:
        self.offset += self.training
        return outputs + self.offset


class Tied(Around):
    def __init__(self, network: nn.Sequential) -> None:
        super().__init__(network)
        self.again = network[5].weight


def _unseeded_start(network: nn.Sequential) -> nn.Module:
    nn.init.constant_(network[5].bias, float(np.random.default_rng().random()))
    return network


def test_a_sound_architecture_passes() -> None:
    check_component(architecture())


def test_checking_leaves_the_generator_of_torch_alone() -> None:
    before = torch.get_rng_state()
    check_component(architecture())
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (architecture(min_size=1), "training on 2 images of 1×1 with 1 channels raised RuntimeError"),
        (architecture(min_size=0), "min_size must be 1 or more"),
        (architecture(spatial_layer="body"), "its spatial_layer must be the name of a module"),
        (architecture(lambda network: network[:-1]), r"must give 2×1 outputs .* Got \(2, 4\)"),
        (architecture(lambda network: [network]), "must return an nn.Module"),
        (architecture(Averages), "depend on the others of its batch"),
        (architecture(Infinite), "outputs that are not finite"),
        (architecture(InfiniteSlope), "gradients are not finite: network.0.weight"),
        (architecture(Detached), "no parameter gets a gradient"),
        (architecture(Noisy), "other outputs the second time"),
        (architecture(Hidden), "its state_dict lacks something"),
        (architecture(Tied), "saving its state_dict as safetensors raised RuntimeError"),
        (architecture(_unseeded_start), "first weights differ"),
        (architecture(check=lambda params, data: ["no"]), "refuses every example"),
        (architecture(check=lambda params, data: [1]), "check must yield strings"),
        (architecture(build=lambda params, data, outputs: 1 / 0), "build .* raised ZeroDivisionError"),
    ],
)
def test_breaches_of_architectures(broken: Architecture[Params], words: str) -> None:
    refuses(broken, words)


# ── Losses ──────────────────────────────────────────────────────────────────────────────────────


def loss(compute: Callable[[Tensor, Tensor], Tensor] | None = None, **more: Any) -> Loss[Params]:
    class Module(nn.Module):
        def forward(self, outputs: Tensor, labels: Tensor) -> Tensor:
            return (compute or _cross_entropy)(outputs, labels)

    usual = {
        "name": "plain",
        "summary": "Cross-entropy",
        "params": Params,
        "build": lambda params, data: Module(),
        "outputs": lambda params, data: len(data.classes),
        "probabilities": lambda params, outputs: outputs.softmax(dim=1),
    }
    return Loss(**{**usual, **more})


def _cross_entropy(outputs: Tensor, labels: Tensor) -> Tensor:
    return functional.cross_entropy(outputs, labels, reduction="none")


class LooseWeights(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weights = torch.ones(5)


def _picked(outputs: Tensor, labels: Tensor) -> Tensor:
    return outputs.softmax(dim=1).gather(1, labels[:, None]).flatten()


def _of_several(outputs: Tensor, labels: Tensor) -> Tensor:
    targets = labels.to(outputs.dtype)
    return functional.binary_cross_entropy_with_logits(outputs, targets, reduction="none").mean(dim=1)


def loss_of_several(
    compute: Callable[[Tensor, Tensor], Tensor] = _of_several,
    probabilities: Callable[[Params, Tensor], Tensor] = lambda params, outputs: outputs.sigmoid(),
) -> Loss[Params]:
    return loss(compute, probabilities=probabilities, tasks=frozenset(("multilabel",)))


def test_sound_losses_pass() -> None:
    check_component(loss())
    check_component(loss_of_several())
    check_component(loss(tasks=frozenset(("binary",))))


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (loss(lambda outputs, labels: functional.cross_entropy(outputs, labels)), "one loss per image"),
        (loss(lambda outputs, labels: -_picked(outputs, labels).log()), "losses that are not finite"),
        (
            loss(
                lambda outputs, labels: (
                    _cross_entropy(outputs, labels) + 0 * (outputs - outputs).norm(dim=1) ** 0.5
                )
            ),
            "gradients that are not finite",
        ),
        (
            loss(
                lambda outputs, labels: (
                    _cross_entropy(outputs, labels) / _cross_entropy(outputs, labels).sum()
                )
            ),
            "depends on the others",
        ),
        (
            loss(lambda outputs, labels: _cross_entropy(outputs, labels).detach()),
            "differentiating losses raised",
        ),
        (loss(build=lambda params, data: LooseWeights()), "do not move to the device with it: weights"),
        (loss(build=lambda params, data: functional.cross_entropy), "must return an nn.Module"),
        (loss(outputs=lambda params, data: 0), "outputs must be 1 or more"),
        (loss(probabilities=lambda params, outputs: outputs.sigmoid()), "sum to one"),
        (loss(probabilities=lambda params, outputs: outputs.softmax(dim=0)), "sum to one"),
        (
            loss(probabilities=lambda params, outputs: outputs.softmax(dim=1)[:, 1:]),
            "probabilities must be 12×2",
        ),
        (
            loss(probabilities=lambda params, outputs: outputs.softmax(dim=1).flip(1)),
            "do not raise the probability",
        ),
        (loss(check=lambda params, data: ["no"]), "refuses every example"),
        (loss_of_several(_cross_entropy), "computing losses raised"),
        (loss_of_several(probabilities=lambda params, outputs: outputs), "probabilities must be from 0 to 1"),
        (
            loss_of_several(probabilities=lambda params, outputs: (-outputs).sigmoid()),
            "do not raise the probability",
        ),
    ],
)
def test_breaches_of_losses(broken: Loss[Params], words: str) -> None:
    refuses(broken, words)


# ── Metrics ─────────────────────────────────────────────────────────────────────────────────────


def metric(score: Callable[[Any, Any, Any], Any], **more: Any) -> Metric[Params]:
    return Metric(**{"name": "share", "summary": "A share", "params": Params, "score": score, **more})


def _accuracy(params: Params, probabilities: Any, labels: Any) -> Score:
    return Score(value=float((probabilities.argmax(axis=1) == labels).mean()))


def _of_first_half(params: Params, probabilities: Any, labels: Any) -> Score:
    half = (len(labels) + 1) // 2
    return _accuracy(params, probabilities[:half], labels[:half])


def _sorting(params: Params, probabilities: Any, labels: Any) -> Score:
    labels.sort()
    return Score(value=0.5)


def _of_class_zero(params: Params, probabilities: Any, labels: Any) -> Score:
    return Score(value=float(np.sort(probabilities[labels == 0, 0])[0]))


def _recall_of_class_zero(params: Params, probabilities: Any, labels: Any) -> Score:
    of_class = labels == 0
    with np.errstate(invalid="ignore"):
        return Score(
            value=float(np.divide((probabilities[of_class].argmax(axis=1) == 0).sum(), of_class.sum()))
        )


def test_a_sound_metric_passes() -> None:
    check_component(metric(_accuracy))
    several = frozenset[Task](("multilabel",))
    check_component(
        metric(lambda _, given, labels: Score(value=float((given * labels).mean())), tasks=several)
    )
    refuses(metric(_accuracy, tasks=several), "scoring 60 images of 5 of 5 classes raised ValueError")


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        (metric(_of_first_half), "depends on the order of the images"),
        (metric(_sorting), "changes the arrays"),
        (
            metric(_accuracy, higher_is_better=False),
            "says higher_is_better=False, and gives 1 where all is right",
        ),
        (metric(lambda params, probabilities, labels: 0.5), "must return a Score. Got 0.5"),
        (metric(lambda *_: Score(value=None, undefined="never")), "has no value for 60 images"),
        (metric(lambda *_: Score(value=None)), "must say why in 'undefined'"),
        (metric(lambda *_: Score(value=0.5, per_class=(1.0,))), "per_class must have a figure for each of 2"),
        (metric(lambda *_: Score(value=float(np.random.rand()))), "global generator of numpy"),
        (metric(_of_class_zero), "scoring 30 images of 1 of 2 classes raised IndexError"),
        (metric(_recall_of_class_zero), r"must be finite numbers, or None where undefined. Got \[nan\]"),
    ],
)
def test_breaches_of_metrics(broken: Metric[Params], words: str) -> None:
    refuses(broken, words)


def _right(probabilities: Any, labels: Any) -> Any:
    return probabilities.argmax(axis=1) == labels


def _resampled_in_place(params: Params, probabilities: Any, labels: Any, weights: Any) -> Any:
    weights /= weights.sum(axis=1, keepdims=True)
    return weights @ _right(probabilities, labels)


def test_a_metric_of_many_resamples_at_once_passes() -> None:
    check_component(metric(_accuracy, resampled=lambda _, p, y, w: w @ _right(p, y) / w.sum(axis=1)))


@pytest.mark.parametrize(
    ("resampled", "words"),
    [
        (lambda _, p, y, w: np.full(len(w), _right(p, y).mean()), "resampled must say what score says"),
        (lambda _, p, y, w: _right(p, y).mean(), r"must return 4 figures for 4 resamples.*Got shape \(\)"),
        (lambda _, p, y, w: np.tile(_right(p, y).mean(), (len(w), 3)), "figures of classes, which its score"),
        (_resampled_in_place, "resampled changes the arrays"),
        (lambda _, p, y, w: w[:, 60], "resampled raised IndexError"),
    ],
)
def test_breaches_of_metrics_of_many_resamples(resampled: Any, words: str) -> None:
    refuses(metric(_accuracy, resampled=resampled), words)


# ── Optimizers ──────────────────────────────────────────────────────────────────────────────────


def optimizer(build: Callable[[Any, Any], Any]) -> Optimizer[Params]:
    return Optimizer(name="walk", summary="Walks", params=Params, build=build)


class Forgetful(torch.optim.SGD):
    """Keeps its momentum where state_dict does not look."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.01)
        self.taken = 0

    def step(self, closure: Any = None) -> None:
        self.taken += 1
        for group in self.param_groups:
            group["lr"] = 0.01 / self.taken
        super().step()


def _walks_twice(params: Params, parameters: Any) -> torch.optim.Optimizer:
    held = [parameters_then for parameters_then in parameters if parameters_then.ndim > 1]
    return torch.optim.SGD([{"params": held}, {"params": list(parameters), "lr": 0.1}], lr=0.1)


def _joins(params: Params, parameters: Any) -> torch.optim.Optimizer:
    given = list(parameters)
    flat = [p for item in given for p in (item["params"] if isinstance(item, dict) else [item])]
    return torch.optim.SGD(flat, lr=0.01)


class Stubborn(torch.optim.SGD):
    """Keeps to the learning rate that it began with."""

    def __init__(self, parameters: Any) -> None:
        super().__init__(parameters, lr=0.01)

    def step(self, closure: Any = None) -> None:
        rates = [group["lr"] for group in self.param_groups]
        for group in self.param_groups:
            group["lr"] = 0.01
        super().step()
        for group, rate in zip(self.param_groups, rates, strict=True):
            group["lr"] = rate


def test_a_sound_optimizer_passes() -> None:
    check_component(optimizer(lambda params, parameters: torch.optim.RMSprop(parameters, lr=0.01)))


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda params, parameters: torch.optim.SGD(parameters, lr=0.1, maximize=True),
            "does not go downhill",
        ),
        (_walks_twice, "must take all parameters"),
        (lambda params, parameters: Forgetful(parameters), "goes another way after its state was restored"),
        (lambda params, parameters: torch.optim.LBFGS(parameters), "taking steps raised TypeError"),
        (lambda params, parameters: list(parameters), "must return a torch.optim.Optimizer"),
        (
            lambda params, parameters: torch.optim.SGD([{"params": list(parameters)}], lr=0.01),
            "build with parameter groups raised TypeError",
        ),
        (_joins, "must keep parameter groups apart"),
        (lambda params, parameters: Stubborn(parameters), "in the same way at half the learning rate"),
    ],
)
def test_breaches_of_optimizers(build: Callable[[Any, Any], Any], words: str) -> None:
    refuses(optimizer(build), words)


# ── Schedulers ──────────────────────────────────────────────────────────────────────────────────


def scheduler(build: Callable[[Any, Any, Any], Any], every: Any = "step") -> Scheduler[Params]:
    return Scheduler(name="plan", summary="A plan", params=Params, build=build, every=every)


def _steps(span: Any) -> int:
    return int(span.epochs * span.steps_per_epoch)


class Counting(lr_scheduler.LRScheduler):
    """Counts where state_dict does not look."""

    def __init__(self, running: Any) -> None:
        self.count = [0]
        super().__init__(running)

    def get_lr(self) -> list[float | Tensor]:
        self.count[0] += 1
        return [lr / self.count[0] for lr in self.base_lrs]

    def state_dict(self) -> dict[str, Any]:
        return {"last_epoch": self.last_epoch}


class Replacing(lr_scheduler.ExponentialLR):
    """Sets the learning rates by itself, and as numbers."""

    def step(self, epoch: Any = None) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = float(group["lr"]) * self.gamma


@pytest.mark.parametrize("every", ["epoch", "step"])
def test_a_sound_scheduler_passes(every: Any) -> None:
    check_component(scheduler(lambda params, running, span: lr_scheduler.ExponentialLR(running, 0.9), every))


def test_a_sound_scheduler_of_the_validation_passes() -> None:
    check_component(
        scheduler(
            lambda params, running, span: lr_scheduler.ReduceLROnPlateau(running, patience=0), "validation"
        )
    )


def test_a_scheduler_is_stepped_at_a_known_time() -> None:
    plan = scheduler(lambda params, running, span: lr_scheduler.ExponentialLR(running, 0.9), "batch")
    refuses(plan, "every must be one of step, epoch, validation. Got 'batch'")


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (
            lambda params, running, span: lr_scheduler.OneCycleLR(running, 0.1, total_steps=_steps(span) - 1),
            "raised ValueError",
        ),
        (
            lambda params, running, span: lr_scheduler.ReduceLROnPlateau(running),
            "step 1 of 20 raised TypeError",
        ),
        (
            lambda params, running, span: lr_scheduler.LambdaLR(running, lambda step: 0.0),
            "learning rate at 0",
        ),
        (lambda params, running, span: lr_scheduler.LambdaLR(running, lambda step: 1 - step), "negative"),
        (lambda params, running, span: Counting(running), "after a restart"),
        (lambda params, running, span: Replacing(running, 0.9), "Fill the tensor in place"),
        (lambda params, running, span: None, "must return an LRScheduler. Got None"),
    ],
)
def test_breaches_of_schedulers(build: Callable[[Any, Any, Any], Any], words: str) -> None:
    refuses(scheduler(build), words)


# ── Reporters ───────────────────────────────────────────────────────────────────────────────────


def reporter(write: Callable[[Any, Any], Any]) -> Reporter[Params]:
    return Reporter(name="text", summary="Text", params=Params, write=write)


def _written(path: Path) -> list[Path]:
    path.write_text("figures")
    return [path]


def _also_elsewhere(params: Params, results: Any) -> list[Path]:
    Path("notes.txt").write_text("stray")
    return _written(results.folder / "summary.txt")


def test_a_sound_reporter_passes() -> None:
    def write(params: Params, results: Any) -> list[Path]:
        lines = [f"{name} {score.value}" for name, score in results.metrics.items()]
        lines.append(
            f"{results.run['experiment']['name']}, {results.data['splits']['test']['images']} images"
        )
        lines.append(f"{len(results.history)} epochs, {results.probabilities.shape}, {results.labels.shape}")
        (results.folder / "summary.txt").write_text("\n".join(lines))
        return [results.folder / "summary.txt"]

    check_component(reporter(write))


@pytest.mark.parametrize(
    ("write", "words"),
    [
        (lambda params, results: [], "must return the paths"),
        (
            lambda params, results: [results.folder / "page.html"],
            r"names the file page\.html, which is not there",
        ),
        (lambda params, results: _written(results.folder.parent / "x.txt"), "outside of results.folder"),
        (lambda params, results: _written(Path("x.txt")), "outside of results.folder"),
        (_also_elsewhere, r"writes outside of results\.folder: elsewhere.notes\.txt"),
        (lambda params, results: _written(results.folder / "run.json"), "not its own: run.run.json"),
        (lambda params, results: results.metrics["f2"], "write raised KeyError"),
    ],
)
def test_breaches_of_reporters(write: Callable[[Any, Any], Any], words: str) -> None:
    refuses(reporter(write), words)
