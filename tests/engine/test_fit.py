"""The engine trains exactly as a bare torch loop does."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn

from histoflow.engine.average import Average
from histoflow.engine.batch import Batch
from histoflow.engine.fit import Epoch, Position, fit
from histoflow.engine.predict import predict
from histoflow.engine.step import Manner, Trainee
from histoflow.errors import DivergedError
from histoflow.seeds import Stream, derive


class Made:
    """Batches that follow from epoch and step alone."""

    def __init__(self, steps: int = 5) -> None:
        self.steps = steps

    def __len__(self) -> int:
        return self.steps

    def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
        for step in range(first_step, self.steps):
            generator = torch.Generator().manual_seed(epoch * 100 + step)
            images = torch.randn(4 if step else 3, 2, 6, 6, generator=generator)
            yield Batch(images, (images.mean(dim=(1, 2, 3)) > 0).long())


def model() -> nn.Sequential:
    torch.manual_seed(1)
    return nn.Sequential(
        nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Dropout(0.3), nn.Flatten(), nn.Linear(64, 2)
    )


def trainee(every: str = "epoch") -> Trainee:
    network = model()
    optimizer = torch.optim.Adam(network.parameters(), lr=0.01)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2, 0.5)
    return Trainee(network, nn.CrossEntropyLoss(reduction="none"), optimizer, scheduler, every)  # type: ignore[arg-type]


def nothing(network: nn.Module) -> dict[str, float | None]:
    return {"val_loss": 1.0}


@pytest.mark.parametrize("every", ["epoch", "step"])
def test_weights_equal_those_of_a_bare_loop_bit_for_bit(every: str) -> None:
    ours = trainee(every)
    epochs = list(fit(ours, Made(), nothing, seed=9, epochs=3))

    bare = trainee(every)
    losses = []
    for epoch in (1, 2, 3):
        bare.model.train()
        total = seen = 0.0
        for step, (images, labels, *_) in enumerate(Made().epoch(epoch)):
            torch.manual_seed(derive(9, Stream.STEP, epoch, step))
            bare.optimizer.zero_grad()
            loss = nn.functional.cross_entropy(bare.model(images), labels)
            loss.backward()
            bare.optimizer.step()
            if every == "step":
                bare.scheduler.step()
            total += loss.item() * len(labels)
            seen += len(labels)
        if every == "epoch":
            bare.scheduler.step()
        losses.append(total / seen)

    for name, tensor in bare.model.state_dict().items():
        assert torch.equal(tensor, ours.model.state_dict()[name]), name
    assert [epoch.train_loss for epoch in epochs] == pytest.approx(losses, rel=1e-6)


def test_training_from_a_later_epoch_equals_the_undisturbed_one() -> None:
    whole, halves = trainee(), trainee()
    list(fit(whole, Made(), nothing, seed=9, epochs=4))
    list(fit(halves, Made(), nothing, seed=9, epochs=2))
    torch.manual_seed(12345)  # a process that goes on has other chance behind it
    list(fit(halves, Made(), nothing, seed=9, epochs=4, start=Position(epoch=3)))
    for name, tensor in whole.model.state_dict().items():
        assert torch.equal(tensor, halves.model.state_dict()[name]), name


@pytest.mark.parametrize("every", ["epoch", "step"])
def test_training_from_any_step_equals_the_undisturbed_one(every: str) -> None:
    """Weights, losses and learning rates; a position is yielded after each step of two epochs."""
    whole = trainee(every)
    undisturbed = list(fit(whole, Made(), nothing, seed=9, epochs=2))
    for stop in range(12):
        broken = trainee(every)
        moments = fit(broken, Made(), nothing, seed=9, epochs=2, pause=lambda: True)
        before = [next(moments) for _ in range(stop + 1)]
        position = before[-1]
        if isinstance(position, Epoch):
            position = Position(epoch=position.epoch + 1)
        after = list(fit(broken, Made(), nothing, seed=9, epochs=2, start=position))
        epochs = [moment for moment in [*before, *after] if isinstance(moment, Epoch)]
        assert [(e.train_loss, e.lr) for e in epochs] == [(e.train_loss, e.lr) for e in undisturbed]
        for name, tensor in whole.model.state_dict().items():
            assert torch.equal(tensor, broken.model.state_dict()[name]), (stop, name)


def test_a_position_with_a_loss_that_is_not_finite_is_never_yielded() -> None:
    class Poisoned(Made):
        def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
            for step, batch in enumerate(super().epoch(epoch, first_step)):
                yield batch._replace(images=batch.images * (math.inf if step == 2 else 1))

    moments = fit(trainee(), Poisoned(), nothing, seed=0, epochs=1, pause=lambda: True)
    assert [next(moments).step, next(moments).step] == [1, 2]  # type: ignore[union-attr]
    with pytest.raises(DivergedError, match="epoch 1, step 3"):
        next(moments)


def test_a_validation_that_was_asked_to_end_yields_the_position_before_it() -> None:
    answers = iter([None, {"val_loss": 1.0}])
    position, epoch = fit(trainee(), Made(), lambda _: next(answers), seed=0, epochs=1)
    assert isinstance(position, Position)
    assert (position.epoch, position.step, position.images) == (1, 5, 19)
    assert isinstance(epoch, Epoch)


def test_batches_in_parts_have_the_gradient_of_the_whole() -> None:
    """Without batch norm and dropout, whose statistics and chance are of a part."""

    def linear() -> Trainee:
        torch.manual_seed(3)
        network = nn.Sequential(nn.Flatten(), nn.Linear(72, 2))
        optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
        scheduler = torch.optim.lr_scheduler.StepLR(optimizer, 2)
        return Trainee(network, nn.CrossEntropyLoss(reduction="none"), optimizer, scheduler)

    whole, parted = linear(), linear()
    (first,) = fit(whole, Made(), nothing, seed=0, epochs=1)
    (second,) = fit(parted, Made(), nothing, seed=0, epochs=1, manner=Manner(parts=2))
    assert first.train_loss == pytest.approx(second.train_loss, rel=1e-5)  # type: ignore[union-attr]
    for name, tensor in whole.model.state_dict().items():
        torch.testing.assert_close(tensor, parted.model.state_dict()[name])


@pytest.mark.parametrize("images", [1, 2, 3, 5])
def test_no_part_of_a_batch_has_a_single_image_unless_the_batch_has(images: int) -> None:
    """Batch norm cannot train on one image whose features are down to a single pixel."""
    seen = []

    class Uneven(Made):
        def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
            yield Batch(torch.randn(images, 2, 6, 6), torch.zeros(images, dtype=torch.long))

    ours = trainee()
    ours.model.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    list(fit(ours, Uneven(1), nothing, seed=0, epochs=1, manner=Manner(parts=4)))
    assert sum(seen) == images
    assert min(seen) > 1 or images == 1


def test_its_driver_stops_it_by_not_asking_for_more() -> None:
    ours = trainee()
    for epoch in fit(ours, Made(), nothing, seed=0, epochs=100):
        if epoch.epoch == 2:
            break
    assert int(ours.model[1].num_batches_tracked) == 2 * 5  # type: ignore[index, arg-type]


def test_each_epoch_tells_what_it_came_to() -> None:
    first, second, third = fit(
        trainee(), Made(), lambda _: {"val_loss": 0.5, "val_auc": None}, seed=0, epochs=3
    )
    assert isinstance(first, Epoch)
    assert [first.lr, second.lr, third.lr] == [0.01, 0.01, 0.005]
    assert second.images_per_second == pytest.approx(19 / second.seconds)
    data = first.to_data()
    assert list(data) == [
        "epoch", "train_loss", "val_loss", "val_auc", "lr", "seconds", "validation_seconds", "images_per_second",
    ]  # fmt: skip
    assert data["val_auc"] is None


def test_validation_sees_the_epochs_weights_and_training_goes_on_in_training_mode() -> None:
    modes = []

    def validate(network: nn.Module) -> dict[str, float | None]:
        predict(network, [(torch.zeros(1, 2, 6, 6), torch.zeros(1))])
        modes.append(network.training)
        return {}

    list(fit(trainee(), Made(), validate, seed=0, epochs=2))
    assert modes == [True, True]


def test_a_loss_that_is_not_finite_stops_training_and_says_where() -> None:
    ours = trainee()

    class Poisoned(Made):
        def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
            for step, batch in enumerate(super().epoch(epoch, first_step), start=first_step):
                yield batch._replace(images=batch.images * (math.nan if (epoch, step) == (2, 3) else 1))

    epochs = fit(ours, Poisoned(), nothing, seed=0, epochs=3)
    next(epochs)
    with pytest.raises(
        DivergedError, match=r"the loss of epoch 2, step 4, is nan.*stays\. Lower optimizer\.lr"
    ):
        next(epochs)


def test_a_validation_that_is_not_finite_stops_training_too() -> None:
    with pytest.raises(DivergedError, match=r"the val_loss of epoch 1 is inf\..* Lower optimizer\.lr"):
        next(fit(trainee(), Made(), lambda _: {"val_loss": math.inf}, seed=0, epochs=3))


def test_prediction_is_in_order_without_gradients_and_leaves_the_mode_as_it_was() -> None:
    network = model().train()
    batches = [(batch.images, batch.labels) for batch in Made().epoch(1)]
    outputs, labels = predict(network, batches)
    assert network.training
    assert not outputs.requires_grad
    assert torch.equal(labels, torch.cat([labels for _, labels in batches]))
    network.eval()
    assert torch.equal(outputs[:3], network(batches[0][0]).detach())


# ── What a step may do besides ──────────────────────────────────────────────────────────────────


def test_mixed_images_count_for_both_of_their_labels() -> None:
    images, labels = next(Made().epoch(1, 1))[:2]
    partners, shares = labels.roll(1), torch.tensor([0.0, 0.25, 0.5, 1.0])

    class Mixed(Made):
        def epoch(self, epoch: int, first_step: int = 0) -> Iterator[Batch]:
            yield Batch(images, labels, partners, shares)

    ours, bare = trainee(), trainee()
    for one in (ours, bare):  # Adam would make the rounding of a vanishing gradient large
        one.optimizer = torch.optim.SGD(one.model.parameters(), lr=0.1)
        one.scheduler = torch.optim.lr_scheduler.ConstantLR(one.optimizer)
    (epoch,) = fit(ours, Mixed(1), nothing, seed=0, epochs=1)
    torch.manual_seed(derive(0, Stream.STEP, 1, 0))
    outputs = bare.model.train()(images)
    targets = shares[:, None] * nn.functional.one_hot(labels, 2) + (1 - shares[:, None]) * (
        nn.functional.one_hot(partners, 2)
    )
    loss = nn.functional.cross_entropy(outputs, targets)
    loss.backward()
    bare.optimizer.step()
    assert isinstance(epoch, Epoch)
    assert epoch.train_loss == pytest.approx(loss.item(), rel=1e-6)
    for name, tensor in bare.model.state_dict().items():
        torch.testing.assert_close(tensor, ours.model.state_dict()[name])


def test_a_clipped_gradient_has_the_norm_that_is_allowed() -> None:
    norms = []

    def trained(clip: float | None) -> None:
        ours = trainee()
        gradients = ours.optimizer.register_step_pre_hook(
            lambda *_: norms.append(
                float(
                    torch.nn.utils.get_total_norm(
                        [p.grad for p in ours.model.parameters() if p.grad is not None]
                    )
                )
            )
        )
        next(fit(ours, Made(1), nothing, seed=0, epochs=1, manner=Manner(clip=clip)))
        gradients.remove()

    trained(None)
    trained(norms[0] / 2)
    trained(norms[0] * 2)
    assert norms[1:] == pytest.approx([norms[0] / 2, norms[0]], rel=1e-4)


def test_a_network_computes_in_the_dtype_asked_for_and_the_loss_in_full() -> None:
    seen = []
    ours = trainee()
    ours.model[0].register_forward_hook(lambda *arguments: seen.append(arguments[2].dtype))  # type: ignore[index]
    ours.loss.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0].dtype))
    next(fit(ours, Made(1), nothing, seed=0, epochs=1, manner=Manner(dtype=torch.bfloat16)))
    assert seen == [torch.bfloat16, torch.float32]
    assert all(p.dtype == torch.float32 for p in ours.model.parameters())


def test_the_exponential_average_follows_and_is_what_is_validated() -> None:
    ours, validated = trainee(), []
    ours.average = Average(ours.model, "ema", decay=0.5)
    expected = {name: tensor.clone() for name, tensor in ours.model.state_dict().items()}
    states = []
    ours.optimizer.register_step_post_hook(lambda *_: states.append(_copy(ours.model)))
    list(fit(ours, Made(4), lambda m: validated.append(_copy(m)) or {}, seed=0, epochs=1))  # type: ignore[func-returns-value]
    for count, state in enumerate(states):
        keep = min(0.5, (1 + count) / (10 + count))
        for name, tensor in state.items():
            expected[name] = (
                torch.lerp(expected[name], tensor, 1 - keep) if tensor.is_floating_point() else tensor
            )
    for name, tensor in expected.items():
        torch.testing.assert_close(validated[0][name], tensor)


def test_the_stochastic_average_is_the_mean_of_the_last_epochs() -> None:
    ours, validated, ends = trainee(), [], []

    def validate(network: nn.Module) -> dict[str, float | None]:
        validated.append(_copy(network))
        ends.append(_copy(ours.model))
        return {}

    ours.average = Average(ours.model, "swa", begin=2)
    list(fit(ours, Made(2), validate, seed=0, epochs=5))
    assert all(torch.equal(validated[1][name], tensor) for name, tensor in ends[1].items()), "not begun yet"
    for name, tensor in validated[4].items():
        if tensor.is_floating_point():
            mean = torch.stack([state[name] for state in ends[2:]]).mean(0)
            torch.testing.assert_close(tensor, mean)


def _copy(network: nn.Module) -> dict[str, Tensor]:
    return {name: tensor.clone() for name, tensor in network.state_dict().items()}


def test_a_schedule_may_follow_the_monitored_figure() -> None:
    ours = trainee()
    plateau = torch.optim.lr_scheduler.ReduceLROnPlateau(ours.optimizer, factor=0.1, patience=0)
    ours.scheduler, ours.scheduler_every = plateau, "validation"
    figures = iter([3.0, None, 4.0, 5.0])
    epochs = list(
        fit(
            ours,
            Made(1),
            lambda _: {"val_auc": next(figures)},
            seed=0,
            epochs=4,
            monitor=lambda v: v["val_auc"],
        )
    )
    rates = [epoch.lr for epoch in epochs if isinstance(epoch, Epoch)]
    assert rates == pytest.approx([0.01, 0.01, 0.01, 0.001])
