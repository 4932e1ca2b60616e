"""Parameters that train in a way of their own, and what is said of rules that cannot be."""

from __future__ import annotations

import io
from collections import OrderedDict

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD, AdamW, Optimizer, RMSprop, Rprop
from torch.optim.lr_scheduler import LambdaLR

from histoflow.engine.groups import Freezing, Rule, parameter_groups, scale
from histoflow.errors import ExperimentError, PluginError


def network() -> nn.Module:
    """A base with a batch norm without weights and a dropout in it, and a head."""
    torch.manual_seed(0)
    base = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5), nn.BatchNorm2d(4, affine=False), nn.ReLU()
    )
    return nn.Sequential(
        OrderedDict(base=base, pool=nn.Dropout(0.1), flat=nn.Flatten(), head=nn.Linear(144, 2))
    )


def names_in(model: nn.Module, groups: list[dict[str, object]]) -> list[list[str]]:
    name_of = {id(parameter): name for name, parameter in model.named_parameters()}
    return [[name_of[id(p)] for p in group["params"]] for group in groups]  # type: ignore[attr-defined]


def train(model: nn.Module, optimizer: Optimizer, steps: int = 1) -> None:
    for step in range(steps):
        images = torch.randn(6, 1, 8, 8, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=True)
        model(images).square().mean().backward()
        optimizer.step()


def state(model: nn.Module) -> dict[str, Tensor]:
    return {name: value.clone() for name, value in model.state_dict().items()}


def moved(model: nn.Module, before: dict[str, Tensor]) -> set[str]:
    """Which parameters and statistics are no longer what they were."""
    return {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}


# ── Groups ──────────────────────────────────────────────────────────────────────────────────────


def test_without_rules_there_is_one_group_of_all() -> None:
    model = network()
    assert names_in(model, parameter_groups(model, [])) == [[name for name, _ in model.named_parameters()]]


def test_the_first_rule_that_matches_takes_a_parameter() -> None:
    model = network()
    groups = parameter_groups(model, [Rule("*.bias"), Rule("base.*")])
    assert names_in(model, groups) == [
        ["base.0.bias", "base.1.bias", "head.bias"],
        ["base.0.weight", "base.1.weight"],
        ["head.weight"],
    ]


def test_there_is_no_empty_group_where_the_rules_take_all() -> None:
    model = network()
    assert len(parameter_groups(model, [Rule("base.*"), Rule("head.*")])) == 2


def test_what_the_architecture_froze_stays_out() -> None:
    model = network()
    model.get_submodule("base").requires_grad_(False)
    assert names_in(model, parameter_groups(model, [Rule("*.weight")])) == [["head.weight"], ["head.bias"]]


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        (
            [Rule("head.*"), Rule("backbone.*")],
            r"training\.groups\.1\.match: must match the name of a parameter that trains\. "
            r"Got 'backbone\.\*'\. Left are 4, such as base\.0\.weight, base\.1\.weight and base\.1\.bias\.",
        ),
        (
            [Rule("base.*"), Rule("base.0.*")],
            r"groups\.1\.match: must take a parameter that no group before it has taken\. "
            r"Got 'base\.0\.\*'\. Left are head\.weight, head\.bias\.",
        ),
        ([Rule("*"), Rule("head.*")], r"Got 'head\.\*'\. None is left\."),
    ],
)
def test_a_rule_that_takes_nothing_is_a_mistake(rules: list[Rule], message: str) -> None:
    with pytest.raises(ExperimentError, match=message):
        parameter_groups(network(), rules)


def test_a_rule_for_what_the_architecture_froze_is_a_mistake() -> None:
    model = network()
    model.get_submodule("base").requires_grad_(False)
    with pytest.raises(ExperimentError, match=r"a parameter that trains\. Got 'base\.\*'"):
        parameter_groups(model, [Rule("base.*")])


# ── Rates of their own ──────────────────────────────────────────────────────────────────────────


def test_each_group_has_the_rate_and_decay_of_its_rule() -> None:
    model = network()
    groups = parameter_groups(model, [Rule("base.*", lr=0.1), Rule("*.bias", weight_decay=0.0)])
    optimizer = AdamW(groups, lr=0.2, weight_decay=0.3)
    scale(optimizer, groups)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.02, 0.2, 0.2])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.3, 0.0, 0.3]


def test_a_schedule_keeps_the_ratio_of_the_rates() -> None:
    model = network()
    groups = parameter_groups(model, [Rule("base.*", lr=0.1)])
    optimizer = SGD(groups, lr=1.0)
    scale(optimizer, groups)
    scheduler = LambdaLR(optimizer, lambda step: 0.5**step)
    train(model, optimizer)
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.05, 0.5])


def test_groups_survive_in_plain_data() -> None:
    model = network()
    optimizers = []
    for _ in range(2):
        groups = parameter_groups(model, [Rule("base.*", lr=0.1, weight_decay=0.0)])
        optimizers.append(SGD(groups, lr=1.0, momentum=0.9))
        scale(optimizers[-1], groups)
    file = io.BytesIO()
    torch.save(optimizers[0].state_dict(), file)
    file.seek(0)
    optimizers[1].load_state_dict(torch.load(file, weights_only=True))
    assert [group["lr"] for group in optimizers[1].param_groups] == pytest.approx([0.1, 1.0])


def test_an_optimizer_may_divide_groups_but_not_join_them() -> None:
    model = network()
    groups = parameter_groups(model, [Rule("base.*", lr=0.1)])
    divided = RMSprop([{"params": [p]} for group in groups for p in group["params"]], lr=1.0)
    scale(divided, groups)
    assert [group["lr"] for group in divided.param_groups] == pytest.approx([0.1] * 4 + [1.0] * 2)
    with pytest.raises(PluginError, match="SGD must keep parameter groups apart"):
        scale(SGD(model.parameters(), lr=1.0), groups)


def test_a_weight_decay_needs_an_optimizer_that_has_one() -> None:
    groups = parameter_groups(network(), [Rule("base.*", weight_decay=0.1)])
    with pytest.raises(
        ExperimentError, match=r"may not set weight_decay: the optimizer Rprop has none\. Got 0\.1"
    ):
        scale(Rprop(groups, lr=0.1), groups)


# ── Frozen at first ─────────────────────────────────────────────────────────────────────────────


@pytest.mark.parametrize("fused", [False, True])
@pytest.mark.parametrize("kind", [SGD, AdamW])
def test_frozen_parameters_and_statistics_stay_as_they_are(kind: type[Optimizer], fused: bool) -> None:
    model, rules = network(), [Rule("base.*", frozen_epochs=2)]
    freezing = Freezing(model, rules)
    optimizer = kind(parameter_groups(model, rules), lr=0.1, weight_decay=0.1, fused=fused)  # type: ignore[call-arg]
    before = state(model)
    for epoch in (1, 2):
        model.train()
        assert freezing.at(epoch) is (epoch == 1)
        train(model, optimizer, steps=2)
    assert moved(model, before) == {"head.weight", "head.bias"}
    model.train()
    assert freezing.at(3)
    train(model, optimizer)
    assert moved(model, before) == set(before)


def test_modules_that_hold_only_frozen_parameters_do_not_train() -> None:
    model = network()
    freezing = Freezing(model, [Rule("base.*", frozen_epochs=1)])
    model.train()
    freezing.at(1)
    assert not any(module.training for module in model.get_submodule("base").modules())
    assert model.get_submodule("pool").training
    assert model.get_submodule("head").training
    model.train()
    assert freezing.at(2)
    assert all(module.training for module in model.modules())


def test_a_module_that_trains_in_part_is_awake() -> None:
    model = network()
    Freezing(model, [Rule("base.1.weight", frozen_epochs=1)]).at(1)
    assert model.get_submodule("base.1").training
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["base.1.weight"]


def test_what_is_frozen_follows_from_the_epoch_alone() -> None:
    rules = [Rule("base.0.*", frozen_epochs=3), Rule("base.*", frozen_epochs=1)]
    disturbed, fresh = network(), network()
    walked = Freezing(disturbed, rules)
    for epoch in (1, 2):
        disturbed.train()
        walked.at(epoch)
    fresh.train()
    Freezing(fresh, rules).at(2)
    for model in (disturbed, fresh):
        frozen = {name for name, p in model.named_parameters() if not p.requires_grad}
        assert frozen == {"base.0.weight", "base.0.bias"}
        assert not model.get_submodule("base.0").training
        assert model.get_submodule("base.1").training


def prepared() -> tuple[nn.Module, Optimizer, Freezing]:
    model, rules = network(), [Rule("base.*", lr=0.1, frozen_epochs=1)]
    groups = parameter_groups(model, rules)
    optimizer = AdamW(groups, lr=0.01, fused=True)
    scale(optimizer, groups)
    return model, optimizer, Freezing(model, rules)


def train_epoch(model: nn.Module, optimizer: Optimizer, freezing: Freezing, epoch: int) -> None:
    model.train()
    freezing.at(epoch)
    torch.manual_seed(epoch)
    train(model, optimizer, steps=3)


@pytest.mark.parametrize("done", [1, 2])
def test_a_training_resumed_while_frozen_or_after_ends_at_the_same_weights(done: int) -> None:
    undisturbed, resumed = prepared(), prepared()
    file = io.BytesIO()
    for epoch in (1, 2, 3):
        train_epoch(*undisturbed, epoch)
        if epoch == done:
            torch.save([part.state_dict() for part in undisturbed[:2]], file)
    file.seek(0)
    for part, saved in zip(resumed[:2], torch.load(file, weights_only=True), strict=True):
        part.load_state_dict(saved)
    for epoch in range(done + 1, 4):
        train_epoch(*resumed, epoch)
    assert not moved(resumed[0], state(undisturbed[0]))


def test_a_frozen_architecture_stays_frozen() -> None:
    model = network()
    model.get_submodule("base.0").requires_grad_(False)
    freezing = Freezing(model, [Rule("base.*", frozen_epochs=1)])
    freezing.at(1)
    assert not model.get_submodule("base").training
    freezing.at(2)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == [
        "base.0.weight",
        "base.0.bias",
    ]


def test_to_freeze_all_is_a_mistake() -> None:
    with pytest.raises(ExperimentError, match="must leave something to train in the first epoch"):
        Freezing(network(), [Rule("*", frozen_epochs=1)])
