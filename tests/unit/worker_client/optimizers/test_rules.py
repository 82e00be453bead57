"""The optimizers by name take the settings of the table of rules, with its defaults."""

from __future__ import annotations

import inspect
import pydoc
from typing import Any

import pytest

from ps_protocol.optimizer_rules import RULES
from worker_client import train
from worker_client.optimizers.optimizer import Optimizer

BY_RULE = {
    "adadelta": train.Adadelta,
    "adagrad": train.Adagrad,
    "adagrad_da": train.AdagradDA,
    "adam": train.Adam,
    "adamw": train.AdamW,
    "ftrl": train.Ftrl,
    "gradient_descent": train.GradientDescent,
    "group_ftrl": train.GroupFtrl,
    "lamb": train.Lamb,
    "lars": train.Lars,
    "lion": train.Lion,
    "momentum": train.Momentum,
    "proximal_adagrad": train.ProximalAdagrad,
    "proximal_gradient_descent": train.ProximalGradientDescent,
    "rmsprop": train.RMSProp,
    "row_wise_adagrad": train.RowWiseAdagrad,
}


def _settings(made: type[Optimizer]) -> dict[str, inspect.Parameter]:
    """Parameters by the names of the settings; the table names them as TensorFlow 1."""
    found = dict(inspect.signature(made).parameters)
    if "nesterov" in found:
        found["use_nesterov"] = found.pop("nesterov")
    return {name: each for name, each in found.items() if name not in ("name", "common")}


def _required(made: type[Optimizer]) -> dict[str, float]:
    return {name: 0.25 for name, each in inspect.signature(made).parameters.items() if each.default is each.empty}


def test_each_rule_has_an_optimizer() -> None:
    assert sorted(BY_RULE) == sorted(RULES)


@pytest.mark.parametrize("rule", sorted(BY_RULE))
def test_arguments_are_the_settings_of_the_rule(rule: str) -> None:
    in_table = {each.name: each.default for each in RULES[rule].settings if not each.derived}
    arguments = {
        name: None if each.default is each.empty else each.default for name, each in _settings(BY_RULE[rule]).items()
    }
    assert arguments == in_table


@pytest.mark.parametrize("rule", sorted(BY_RULE))
def test_each_argument_reaches_the_rule(rule: str) -> None:
    made = BY_RULE[rule]
    required = {name: value for name, value in _required(made).items() if name != "common"}
    as_made = RULES[rule].named(made(**required).spec.numbers)
    for setting, parameter in _settings(made).items():
        value = next(each for each in (0.5, 1.0, -1.0) if _allows(rule, setting, each))
        name = "nesterov" if setting == "use_nesterov" else parameter.name
        settings = RULES[rule].named(made(**{**required, name: value}).spec.numbers)
        assert {each for each in settings if not _same(settings[each], as_made[each])} == {setting}


def _allows(rule: str, setting: str, value: float) -> bool:
    (spec,) = [each for each in RULES[rule].settings if each.name == setting]
    return spec.is_allowed(value) and value != spec.default


def _same(one: float, other: float) -> bool:
    return one == other or (one != one and other != other)


@pytest.mark.parametrize("made", BY_RULE.values(), ids=sorted(BY_RULE))
def test_help_shows_signature_and_arguments(made: type[Optimizer]) -> None:
    shown = pydoc.plain(pydoc.render_doc(made))
    for name in inspect.signature(made).parameters:
        assert f"{name}:" in shown.split("Args:")[1]
    assert f"class {made.__name__}(" in shown
    assert made.__init__.__qualname__ == f"{made.__name__}.__init__"


def test_arguments_that_are_missing_or_too_many() -> None:
    with pytest.raises(TypeError, match=r"Momentum.__init__\(\) missing 1 required positional argument: 'momentum'"):
        train.Momentum(0.1)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Adam.__init__\(\) takes from 1 to 2 positional arguments but 3 were given"):
        train.Adam(0.1, 0.9)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"Adam\(\) has no argument 'lr'; the learning rate is called learning_rate"):
        train.Adam(lr=0.1)  # type: ignore[call-arg]


@pytest.mark.parametrize(
    ("name", "policy"),
    [("total", "bsp(total=...)"), ("bound", "ssp(3)"), ("outer_momentum", "local(16, outer_momentum=...)")],
)
def test_an_argument_that_belongs_to_the_policy_is_told_so(name: str, policy: str) -> None:
    given: dict[str, Any] = {name: 4}
    with pytest.raises(TypeError) as raised:
        train.GradientDescent(0.1, sync="bsp", **given)
    assert f"GradientDescent() has no argument {name!r}, which is written in its policy: sync={policy!r}" == str(
        raised.value
    )
