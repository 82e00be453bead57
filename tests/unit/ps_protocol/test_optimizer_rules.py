"""The table of update rules: settings, slots and what is said about bad ones."""

from __future__ import annotations

import math

import pytest

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.optimizer_rules import CATCH_UP, LAZY, RULES, TF1, check_mode, check_numbers, check_settings

NAMES = sorted(RULES)


def smallest_settings(rule: str) -> dict[str, float]:
    """Settings without a default."""
    return {each.name: 0.5 for each in RULES[rule].settings if each.default is None}


@pytest.mark.parametrize("rule", NAMES)
def test_a_rule_begins_with_its_learning_rate_and_has_defaults_for_the_rest(rule: str) -> None:
    spec = RULES[rule]
    assert spec.name == rule
    assert spec.settings[0].name == "learning_rate"
    numbers = check_settings(rule, smallest_settings(rule))
    assert len(numbers) == len(spec.settings)
    check_numbers(rule, numbers)
    assert [each.name for each in spec.settings if math.isnan(spec.named(numbers)[each.name])] == [
        each.name for each in spec.settings if each.derived
    ]


@pytest.mark.parametrize("rule", NAMES)
def test_slots_have_distinct_names_and_initial_numbers(rule: str) -> None:
    spec = RULES[rule]
    numbers = check_settings(rule, smallest_settings(rule))
    for mode in spec.sparse_modes:
        slots = spec.slots(numbers, mode)
        assert len({each.name for each in slots}) == len(slots)
        assert all(math.isfinite(each.initial_number(spec.named(numbers))) for each in slots)
        assert [each.name for each in slots if each.is_count] == (["last_step"] if mode == CATCH_UP else [])


def test_slots_depend_on_settings() -> None:
    plain, centered = ({"learning_rate": 0.1, "centered": each} for each in (0.0, 1.0))
    spec = RULES["rmsprop"]
    assert [each.name for each in spec.slots(check_settings("rmsprop", plain))] == ["rms", "momentum"]
    assert [each.name for each in spec.slots(check_settings("rmsprop", centered))] == ["rms", "momentum", "mg"]
    assert [each.initial_number({}) for each in spec.slots(plain)] == [1.0, 0.0]


def test_an_initial_value_may_be_a_setting() -> None:
    numbers = check_settings("adagrad", {"learning_rate": 0.1, "initial_accumulator_value": 0.25})
    (slot,) = RULES["adagrad"].slots(numbers)
    assert slot.initial_number(RULES["adagrad"].named(numbers)) == 0.25


def test_slots_have_a_shape_beside_their_variable() -> None:
    (per_row,) = RULES["row_wise_adagrad"].slots(check_settings("row_wise_adagrad", {"learning_rate": 1.0}))
    (per_element,) = RULES["adagrad"].slots(check_settings("adagrad", {"learning_rate": 1.0}))
    assert per_row.shape((5, 3, 2)) == (5,)
    assert per_row.shape(()) == (1,)
    assert per_element.shape((5, 3, 2)) == (5, 3, 2)


def test_only_adam_decays_every_row_in_tensorflow() -> None:
    assert [name for name, each in RULES.items() if each.tensorflow_mode == TF1] == ["adam"]
    assert all(each.tensorflow_mode in (None, each.default_mode) for each in RULES.values())
    assert all(set(each.sparse_modes) <= {LAZY, TF1, CATCH_UP} for each in RULES.values())


@pytest.mark.parametrize(
    ("rule", "settings", "message"),
    [
        ("adm", {}, "no update rule 'adm'.*adam"),
        ("adam", {"beta3": 0.5}, "rule adam has no setting 'beta3'.*beta1"),
        ("momentum", {"learning_rate": 0.1}, r"rule momentum needs its setting momentum: give a number in \[0, 1\]"),
        ("adam", {"beta1": 1.0}, r"setting beta1 of the rule adam is 1; give a number in \[0, 1\)"),
        ("adam", {"beta1": math.nan}, "setting beta1 of the rule adam is nan"),
        ("adam", {"learning_rate": math.inf}, "is inf; give a finite number"),
        ("adam", {"amsgrad": 2.0}, "is 2; give 0 or 1"),
        ("ftrl", {"learning_rate": 1.0, "learning_rate_power": 0.5}, r"is 0.5; give a number in \(-inf, 0\]"),
        ("ftrl", {"learning_rate": -0.1}, r"learning_rate of the rule ftrl is -0.1; give a number in \[0, inf\)"),
        ("group_ftrl", {"learning_rate": -1e-9}, r"is -1e-09; give a number in \[0, inf\)"),
        ("proximal_adagrad", {"learning_rate": -1.0}, r"is -1; give a number in \[0, inf\)"),
        ("adagrad", {"learning_rate": 1.0, "initial_accumulator_value": 0.0}, r"is 0; give a number in \(0, inf\)"),
    ],
)
def test_bad_settings_are_refused_by_name(rule: str, settings: dict[str, float], message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message):
        check_settings(rule, settings)


def test_a_derived_setting_may_be_given() -> None:
    numbers = check_settings("adam", {"beta1_power": 0.81})
    assert RULES["adam"].named(numbers)["beta1_power"] == 0.81


def test_the_number_of_settings_is_checked() -> None:
    with pytest.raises(InvalidArgumentError, match="has 1 settings, not 2"):
        check_numbers("gradient_descent", [0.1, 0.2])


def test_modes_are_checked() -> None:
    check_mode("adam", LAZY)
    with pytest.raises(InvalidArgumentError, match="adagrad has no sparse mode 'tf1'; choose 'lazy'"):
        check_mode("adagrad", TF1)
