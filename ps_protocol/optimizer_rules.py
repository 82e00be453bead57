"""The optimizers' update rules: their settings and slots, as client and ps agree on them. No equations.

A rule changes a variable by a gradient, with slots beside the variable that it changes too. Names of settings are those
of TensorFlow 1's constructors, names of slots those of its ``get_slot_names``; rules that TensorFlow 1 does not have
follow the same habits. The equations are in ``ps_server.rules.optimizers``.

Settings travel as numbers in the order of ``RuleSpec.settings``; number 0 is the learning rate. A derived setting
follows from the count of the step; NaN says so, any other number is used in its place.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Literal, TypeAlias

from ps_protocol.errors import InvalidArgumentError

LAZY: Final = "lazy"
"""Only rows that have a gradient change."""
TF1: Final = "tf1"
"""Every row changes, as by a dense gradient that is zero in the other rows: TensorFlow 1's Adam."""
CATCH_UP: Final = "catch_up"
"""As "tf1" up to rounding, but a row gets the steps that it was left out of only when it is used the next time."""

LAST_STEP: Final = "last_step"
"""Name of the slot that "catch_up" needs: the last step that each row has had."""

Settings: TypeAlias = Mapping[str, float]
SlotExtent: TypeAlias = Literal["element", "row", "scalar"]


@dataclass(frozen=True, slots=True)
class Range:
    """Finite numbers from ``least`` to ``greatest``; an end may be left out."""

    least: float = -math.inf
    greatest: float = math.inf
    without_least: bool = False
    without_greatest: bool = False

    def __contains__(self, number: float) -> bool:
        if not math.isfinite(number):
            return False
        above = number > self.least if self.without_least else number >= self.least
        below = number < self.greatest if self.without_greatest else number <= self.greatest
        return above and below

    def __str__(self) -> str:
        if self.least == -math.inf and self.greatest == math.inf:
            return "a finite number"
        left = "(" if self.without_least or self.least == -math.inf else "["
        right = ")" if self.without_greatest or self.greatest == math.inf else "]"
        return f"a number in {left}{self.least:g}, {self.greatest:g}{right}"


@dataclass(frozen=True, slots=True)
class SettingSpec:
    """One number that a rule takes.

    Attributes:
        name: As in TensorFlow 1's constructors.
        default: None if it has to be given.
        check: Which numbers are allowed: a range, or each of them.
        derived: Whether it follows from the count of the step unless it is given; then the default is NaN.
    """

    name: str
    default: float | None
    check: Range | tuple[float, ...]
    derived: bool = False

    @property
    def allowed(self) -> str:
        """The numbers allowed, in words."""
        if isinstance(self.check, Range):
            return str(self.check)
        return " or ".join(f"{each:g}" for each in self.check)

    def is_allowed(self, number: float) -> bool:
        """Whether the setting can have this value."""
        return number in self.check or (self.derived and math.isnan(number))


@dataclass(frozen=True, slots=True)
class SlotSpec:
    """One array that a rule keeps beside a variable.

    Attributes:
        name: As in TensorFlow 1's ``get_slot``.
        initial: The value of all elements at first, or the name of the setting that gives it.
        per: What it has one number for: each element, each row (the variable's first dimension), or the variable.
        used: For which settings the rule has the slot; None for all.
        is_count: Whether it counts steps: an int64 then, whatever dtype other slots have.
    """

    name: str
    initial: float | str
    per: SlotExtent = "element"
    used: Callable[[Settings], bool] | None = None
    is_count: bool = False

    def initial_number(self, settings: Settings) -> float:
        """Returns the value of all elements at first."""
        return settings[self.initial] if isinstance(self.initial, str) else self.initial

    def shape(self, variable_shape: tuple[int, ...]) -> tuple[int, ...]:
        """Returns the slot's shape beside a variable; a scalar has one row."""
        if self.per == "element":
            return variable_shape
        return (variable_shape or (1,))[:1] if self.per == "row" else ()


@dataclass(frozen=True, slots=True)
class RuleSpec:
    """One update rule.

    Attributes:
        name: In lower case with underscores.
        settings: The learning rate first.
        all_slots: Those that it may have; ``slots`` says which.
        sparse_modes: What it can do with a gradient for some rows; the first is the default.
        tensorflow_mode: Which of them TensorFlow 1's kernel does; None if TensorFlow 1 does not have the rule.
        has_whole_norm: Whether it uses a norm over all elements. A part of a partitioned variable uses its own.
    """

    name: str
    settings: tuple[SettingSpec, ...]
    all_slots: tuple[SlotSpec, ...] = ()
    sparse_modes: tuple[str, ...] = (LAZY,)
    tensorflow_mode: str | None = None
    has_whole_norm: bool = False

    @property
    def default_mode(self) -> str:
        """The sparse mode of who does not choose one."""
        return self.sparse_modes[0]

    def named(self, numbers: Sequence[float]) -> dict[str, float]:
        """Returns the settings by their names."""
        return dict(zip((each.name for each in self.settings), numbers, strict=True))

    def slots(self, settings: Settings | Sequence[float], mode: str | None = None) -> tuple[SlotSpec, ...]:
        """Returns the slots that the rule has, in the order in which it takes them.

        Args:
            settings: All of them, by name or in order.
            mode: The sparse mode; "catch_up" needs one slot more, which comes last.
        """
        named = settings if isinstance(settings, Mapping) else self.named(settings)
        used = tuple(each for each in self.all_slots if each.used is None or each.used(named))
        return (*used, _LAST_STEP_SLOT) if mode == CATCH_UP else used


_LAST_STEP_SLOT: Final = SlotSpec(LAST_STEP, 0.0, per="row", is_count=True)

_ANY = Range()
_NOT_NEGATIVE = Range(0.0)
_POSITIVE = Range(0.0, without_least=True)
_SHARE = Range(0.0, 1.0)
_DECAY = Range(0.0, 1.0, without_greatest=True)
_SWITCH = (0.0, 1.0)

_RATE = SettingSpec("learning_rate", None, _ANY)
_RATE_OF_QUOTIENT = SettingSpec("learning_rate", None, _NOT_NEGATIVE)
"""Of rules that divide by it; it may be 0, with which a warm-up begins."""
_L1 = SettingSpec("l1_regularization_strength", 0.0, _NOT_NEGATIVE)
_L2 = SettingSpec("l2_regularization_strength", 0.0, _NOT_NEGATIVE)
_INITIAL_ACCUMULATOR = SettingSpec("initial_accumulator_value", 0.1, _POSITIVE)
_AMSGRAD = SettingSpec("amsgrad", 0.0, _SWITCH)


def _rate(default: float) -> SettingSpec:
    return SettingSpec("learning_rate", default, _ANY)


def _betas(second: float) -> tuple[SettingSpec, SettingSpec]:
    return SettingSpec("beta1", 0.9, _DECAY), SettingSpec("beta2", second, _DECAY)


def _beta_powers() -> tuple[SettingSpec, ...]:
    # Not 1: the step would be divided by zero. After many steps they are rounded to 0.
    return tuple(SettingSpec(each, math.nan, _DECAY, derived=True) for each in ("beta1_power", "beta2_power"))


def _epsilon(default: float) -> SettingSpec:
    return SettingSpec("epsilon", default, _NOT_NEGATIVE)


def _weight_decay(default: float) -> SettingSpec:
    return SettingSpec("weight_decay", default, _NOT_NEGATIVE)


def _is_on(switch: str) -> Callable[[Settings], bool]:
    return lambda settings: settings[switch] == 1.0


_MOMENTS = (SlotSpec("m", 0.0), SlotSpec("v", 0.0))
_LARGEST_V = SlotSpec("vhat", 0.0, used=_is_on("amsgrad"))
_ACCUMULATOR = SlotSpec("accumulator", "initial_accumulator_value")
_FTRL_SLOTS = (SlotSpec("accum", "initial_accumulator_value"), SlotSpec("linear", 0.0))
_POWER = SettingSpec("learning_rate_power", -0.5, Range(greatest=0.0))
_FTRL_ACCUMULATOR = SettingSpec("initial_accumulator_value", 0.1, _NOT_NEGATIVE)

_RULES: Final = (
    RuleSpec("gradient_descent", (_RATE,), tensorflow_mode=LAZY),
    RuleSpec(
        "momentum",
        (_RATE, SettingSpec("momentum", None, _SHARE), SettingSpec("use_nesterov", 0.0, _SWITCH)),
        (SlotSpec("momentum", 0.0),),
        (LAZY, TF1, CATCH_UP),
        LAZY,
    ),
    RuleSpec("adagrad", (_RATE, _INITIAL_ACCUMULATOR), (_ACCUMULATOR,), tensorflow_mode=LAZY),
    RuleSpec(
        "adagrad_da",
        (
            _RATE,
            SettingSpec("global_step", math.nan, _NOT_NEGATIVE, derived=True),
            SettingSpec("initial_gradient_squared_accumulator_value", 0.1, _POSITIVE),
            _L1,
            _L2,
        ),
        (
            SlotSpec("gradient_accumulator", 0.0),
            SlotSpec("gradient_squared_accumulator", "initial_gradient_squared_accumulator_value"),
        ),
        tensorflow_mode=LAZY,
    ),
    RuleSpec(
        "adadelta",
        (_rate(0.001), SettingSpec("rho", 0.95, _SHARE), _epsilon(1e-8)),
        (SlotSpec("accum", 0.0), SlotSpec("accum_update", 0.0)),
        (LAZY, TF1),
        LAZY,
    ),
    RuleSpec(
        "adam",
        (_rate(0.001), *_betas(0.999), _epsilon(1e-8), *_beta_powers(), _AMSGRAD),
        (*_MOMENTS, _LARGEST_V),
        (TF1, LAZY, CATCH_UP),
        TF1,
    ),
    RuleSpec(
        "rmsprop",
        (
            _RATE,
            SettingSpec("decay", 0.9, _SHARE),
            SettingSpec("momentum", 0.0, _SHARE),
            _epsilon(1e-10),
            SettingSpec("centered", 0.0, _SWITCH),
        ),
        (SlotSpec("rms", 1.0), SlotSpec("momentum", 0.0), SlotSpec("mg", 0.0, used=_is_on("centered"))),
        (LAZY, TF1),
        LAZY,
    ),
    RuleSpec(
        "ftrl",
        (
            _RATE_OF_QUOTIENT,
            _POWER,
            _FTRL_ACCUMULATOR,
            _L1,
            _L2,
            SettingSpec("l2_shrinkage_regularization_strength", 0.0, _NOT_NEGATIVE),
            SettingSpec("beta", 0.0, _NOT_NEGATIVE),
        ),
        _FTRL_SLOTS,
        tensorflow_mode=LAZY,
    ),
    RuleSpec("proximal_gradient_descent", (_RATE, _L1, _L2), (), (LAZY, TF1), LAZY),
    RuleSpec(
        "proximal_adagrad", (_RATE_OF_QUOTIENT, _INITIAL_ACCUMULATOR, _L1, _L2), (_ACCUMULATOR,), (LAZY, TF1), LAZY
    ),
    RuleSpec(
        "adamw",
        (_rate(0.001), *_betas(0.999), _epsilon(1e-8), _weight_decay(0.01), *_beta_powers(), _AMSGRAD),
        (*_MOMENTS, _LARGEST_V),
        (TF1, LAZY, CATCH_UP),
    ),
    RuleSpec(
        "lamb",
        (_rate(0.001), *_betas(0.999), _epsilon(1e-6), _weight_decay(0.0), *_beta_powers()),
        _MOMENTS,
        (TF1,),
        has_whole_norm=True,
    ),
    RuleSpec(
        "lars",
        (
            _RATE,
            SettingSpec("momentum", 0.9, _SHARE),
            _weight_decay(0.0001),
            SettingSpec("eeta", 0.001, _POSITIVE),
            _epsilon(0.0),
            SettingSpec("use_nesterov", 0.0, _SWITCH),
        ),
        (SlotSpec("momentum", 0.0),),
        (TF1,),
        has_whole_norm=True,
    ),
    RuleSpec("lion", (_rate(0.0001), *_betas(0.99), _weight_decay(0.0)), (SlotSpec("m", 0.0),), (LAZY, TF1)),
    RuleSpec(
        "row_wise_adagrad",
        (_RATE, _FTRL_ACCUMULATOR, _epsilon(1e-8)),
        (SlotSpec("accumulator", "initial_accumulator_value", per="row"),),
    ),
    RuleSpec(
        "group_ftrl",
        (
            _RATE_OF_QUOTIENT,
            _POWER,
            _FTRL_ACCUMULATOR,
            _L1,
            _L2,
            SettingSpec("l21_regularization_strength", 0.0, _NOT_NEGATIVE),
        ),
        _FTRL_SLOTS,
    ),
)

RULES: Final[dict[str, RuleSpec]] = {each.name: each for each in _RULES}
"""All rules by their names."""


def rule_spec(rule: str) -> RuleSpec:
    """Returns the rule of a name.

    Raises:
        InvalidArgumentError: There is none.
    """
    try:
        return RULES[rule]
    except KeyError:
        raise InvalidArgumentError(f"there is no update rule {rule!r}; choose one of {', '.join(RULES)}") from None


def check_settings(rule: str, settings: Settings) -> tuple[float, ...]:
    """Returns all settings of a rule as numbers in the rule's order, defaults filled in.

    Args:
        rule: Its name.
        settings: Some or all, by name.

    Raises:
        InvalidArgumentError: There is no such rule or setting, a setting is missing, or its number is not allowed.
    """
    spec = rule_spec(rule)
    known = {each.name for each in spec.settings}
    unknown = [name for name in settings if name not in known]
    if unknown:
        raise InvalidArgumentError(
            f"the rule {rule} has no setting {unknown[0]!r}; it has {', '.join(each.name for each in spec.settings)}"
        )
    numbers = []
    for setting in spec.settings:
        number = settings.get(setting.name, setting.default)
        if number is None:
            raise InvalidArgumentError(f"the rule {rule} needs its setting {setting.name}: give {setting.allowed}")
        numbers.append(float(number))
    check_numbers(rule, numbers)
    return tuple(numbers)


def check_numbers(rule: str, numbers: Sequence[float]) -> None:
    """Makes sure that numbers can be the settings of a rule.

    Raises:
        InvalidArgumentError: There is no such rule, it has another number of settings, or a number is not allowed.
    """
    spec = rule_spec(rule)
    if len(numbers) != len(spec.settings):
        raise InvalidArgumentError(f"the rule {rule} has {len(spec.settings)} settings, not {len(numbers)}")
    for setting, number in zip(spec.settings, numbers, strict=True):
        if not setting.is_allowed(number):
            raise InvalidArgumentError(
                f"the setting {setting.name} of the rule {rule} is {number:g}; give {setting.allowed}"
            )


def check_mode(rule: str, mode: str) -> None:
    """Makes sure that a rule has a sparse mode.

    Raises:
        InvalidArgumentError: There is no such rule, or it has no such mode.
    """
    modes = rule_spec(rule).sparse_modes
    if mode not in modes:
        raise InvalidArgumentError(
            f"the rule {rule} has no sparse mode {mode!r}; choose {' or '.join(repr(each) for each in modes)}"
        )
