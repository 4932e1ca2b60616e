"""Groups of parameters that train in a way of their own: another learning rate, or frozen at first."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Any

from torch import nn
from torch.optim import Optimizer

from histoflow.errors import ExperimentError, PluginError, Problem

Group = dict[str, Any]
_FACTOR = "lr_factor"


@dataclass(frozen=True)
class Rule:
    """How the parameters are trained whose names match."""

    match: str
    """With * for anything, as in ``base.*``."""
    lr: float = 1.0
    """A multiple of the optimizer's learning rate."""
    weight_decay: float | None = None
    """None takes the optimizer's."""
    frozen_epochs: int = 0


def parameter_groups(model: nn.Module, rules: Sequence[Rule]) -> list[Group]:
    """torch's parameter groups, one for each rule in their order and then one for what is left over.

    A parameter belongs to the first rule that matches it. What the architecture froze stays out.
    """
    taken, rest = _deal(model, rules)
    groups = [_group(parameters.values(), rule) for rule, parameters in zip(rules, taken, strict=True)]
    return [*groups, _group(rest.values())] if rest or not groups else groups


def scale(optimizer: Optimizer, groups: Sequence[Group]) -> None:
    """Give each group the learning rate and weight decay of its rule.

    Call it once, with the groups that the optimizer was built on, before the scheduler is built.
    """
    group_of = {id(parameter): group for group in groups for parameter in group["params"]}
    for built in optimizer.param_groups:
        origins = {id(group): group for group in (group_of[id(p)] for p in built["params"])}
        if len(origins) > 1:
            raise PluginError(
                f"The optimizer {type(optimizer).__name__} must keep parameter groups apart. "
                f"It put several into one. Pass on what build is given, or set no training.groups."
            )
        for origin in origins.values():
            built["lr"] *= origin[_FACTOR]
            _set_weight_decay(optimizer, built, origin)


class Freezing:
    """Which parameters stay as they are in which epoch, as the rules say.

    It must see the model before anything of it is frozen by ``at``.
    """

    def __init__(self, model: nn.Module, rules: Sequence[Rule]) -> None:
        self._model = model
        taken, rest = _deal(model, rules)
        self._epochs = {
            parameter: rule.frozen_epochs
            for rule, parameters in zip(rules, taken, strict=True)
            for parameter in parameters.values()
        }
        if not rest and all(self._epochs.values()):
            raise _mistake(
                "training.groups",
                "must leave something to train in the first epoch. All is frozen. Name less",
            )

    def at(self, epoch: int) -> bool:
        """Freeze what this epoch leaves as it is and free the rest; tells whether anything changed.

        Call it after each ``model.train()``, which wakes the batch norms and dropouts of frozen modules.
        """
        changed = [self._set(p, trains=epoch > epochs) for p, epochs in self._epochs.items()]
        for module in self._frozen_modules(epoch):
            module.eval()
        return any(changed)

    def _set(self, parameter: nn.Parameter, *, trains: bool) -> bool:
        """Without a gradient, an optimizer changes neither a parameter nor what it remembers of it."""
        if parameter.requires_grad == trains:
            return False
        parameter.requires_grad_(trains)
        parameter.grad = None
        return True

    def _frozen_modules(self, epoch: int) -> Iterator[nn.Module]:
        """Modules that hold parameters, none of which trains, and at least one by the rules."""
        for module in self._model.modules():
            parameters = list(module.parameters())
            by_rule = any(epoch <= self._epochs.get(parameter, 0) for parameter in parameters)
            if by_rule and not any(parameter.requires_grad for parameter in parameters):
                yield module


Named = dict[str, nn.Parameter]


def _deal(model: nn.Module, rules: Sequence[Rule]) -> tuple[list[Named], Named]:
    """The trainable parameters that each rule takes, and those that none takes."""
    rest = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    every, taken = list(rest), []
    for index, rule in enumerate(rules):
        matching = {name: p for name, p in rest.items() if fnmatchcase(name, rule.match)}
        if not matching:
            raise _no_match(index, rule, every, rest)
        taken.append(matching)
        rest = {name: parameter for name, parameter in rest.items() if name not in matching}
    return taken, rest


def _group(parameters: Iterable[nn.Parameter], rule: Rule = Rule("*")) -> Group:
    decay = {} if rule.weight_decay is None else {"weight_decay": rule.weight_decay}
    return {"params": list(parameters), _FACTOR: rule.lr, **decay}


def _set_weight_decay(optimizer: Optimizer, built: Group, origin: Group) -> None:
    if "weight_decay" not in origin:
        return
    if "weight_decay" not in optimizer.defaults:
        raise _mistake(
            "training.groups",
            f"may not set weight_decay: the optimizer {type(optimizer).__name__} has none. "
            f"Got {origin['weight_decay']:g}. Leave it out, or choose another optimizer",
        )
    built["weight_decay"] = origin["weight_decay"]


def _no_match(index: int, rule: Rule, every: Sequence[str], rest: Mapping[str, Any]) -> ExperimentError:
    if any(fnmatchcase(name, rule.match) for name in every):
        why = "must take a parameter that no group before it has taken"
    else:
        why = "must match the name of a parameter that trains"
    left = f"Left are {_examples(list(rest))}" if rest else "None is left"
    return _mistake(f"training.groups.{index}.match", f"{why}. Got '{rule.match}'. {left}")


def _examples(names: Sequence[str]) -> str:
    if len(names) <= 3:
        return ", ".join(names)
    return f"{len(names)}, such as {names[0]}, {names[len(names) // 2]} and {names[-1]}"


def _mistake(path: str, message: str) -> ExperimentError:
    return ExperimentError([Problem(path, f"{message}.")])
