"""Learning rates that follow from the count of the step: plain numbers, which client and ps compute alike.

The formulas are those of TensorFlow 1's ``learning_rate_decay`` (``worker_client.training.learning_rate`` has them as
tensors), in float64. The two that TensorFlow 1 does not have name their source.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.optimizer_rules import Range, SettingSpec


@dataclass(frozen=True, slots=True)
class ScheduleSpec:
    """A learning rate for each step, as it travels.

    Attributes:
        name: Of the schedule; a key of ``SCHEDULES``.
        numbers: In the order of the schedule's settings. For "piecewise" n boundaries and then n + 1 rates.
        then: What a "linear_warmup" goes over to, its step 0 being the last of the warm-up. Nothing else has it.
    """

    name: str
    numbers: tuple[float, ...]
    then: ScheduleSpec | None = None

    def __repr__(self) -> str:
        names = [f"{each.name}=" for each in SCHEDULES.get(self.name, ())]
        if len(names) != len(self.numbers):
            names = [""] * len(self.numbers)
        words = [f"{name}{number!r}" for name, number in zip(names, self.numbers, strict=True)]
        if self.then is not None:
            words.append(f"then={self.then!r}")
        return f"{self.name}({', '.join(words)})"


def learning_rate(schedule: ScheduleSpec, step: int) -> float:
    """Returns the learning rate of a schedule that ``check_schedule`` has passed.

    Args:
        schedule: The schedule.
        step: How many steps there were before: TensorFlow 1's global step, 0 at first.

    Raises:
        InvalidArgumentError: The numbers are so large or so small that there is none.
    """
    try:
        rate = _rate(schedule, step)
    except ArithmeticError:
        rate = math.nan
    if not math.isfinite(rate):
        raise InvalidArgumentError(
            f"the schedule {schedule.name} with the settings {list(schedule.numbers)} has no finite learning rate at "
            f"step {step}; give other settings"
        )
    return rate


def _rate(schedule: ScheduleSpec, step: int) -> float:
    if schedule.name == _WARMUP:
        return _warmed_up(schedule, step)
    if schedule.name == _PIECEWISE:
        return _piecewise(schedule.numbers, step)
    return _FORMULAS[schedule.name][1](step, *schedule.numbers)


def schedule_spec(name: str, settings: Mapping[str, float], then: ScheduleSpec | None = None) -> ScheduleSpec:
    """Returns a schedule, defaults filled in.

    Args:
        name: A key of ``SCHEDULES``.
        settings: By name.
        then: What a warm-up goes over to.

    Raises:
        InvalidArgumentError: There is no such schedule or setting, or a number is missing or not allowed.
    """
    specs = _settings_of(name)
    unknown = set(settings) - {each.name for each in specs}
    if unknown or name == _PIECEWISE:
        known = ", ".join(each.name for each in specs) or "numbers without names: boundaries, then rates"
        raise InvalidArgumentError(f"the schedule {name} has no setting {min(unknown, default='')!r}; it has {known}")
    numbers = []
    for spec in specs:
        number = settings.get(spec.name, spec.default)
        if number is None:
            raise InvalidArgumentError(f"the schedule {name} needs its setting {spec.name}: give {spec.allowed}")
        numbers.append(float(number))
    schedule = ScheduleSpec(name, tuple(numbers), then)
    check_schedule(schedule)
    return schedule


def piecewise(boundaries: Sequence[float], rates: Sequence[float]) -> ScheduleSpec:
    """Returns ``rates[0]`` up to step ``boundaries[0]``, then ``rates[1]`` up to ``boundaries[1]``, and so on.

    Raises:
        InvalidArgumentError: There is not one rate more than boundaries, or the boundaries do not ascend.
    """
    if len(rates) != len(boundaries) + 1:
        raise InvalidArgumentError(
            f"the schedule piecewise has {len(boundaries)} boundaries and needs one more rate, not {len(rates)}"
        )
    schedule = ScheduleSpec(_PIECEWISE, tuple(float(each) for each in (*boundaries, *rates)))
    check_schedule(schedule)
    return schedule


def check_schedule(schedule: ScheduleSpec) -> None:
    """Makes sure that ``learning_rate`` can do its work.

    Raises:
        InvalidArgumentError: There is no such schedule, or a number of it is not allowed.
    """
    name, numbers = schedule.name, schedule.numbers
    specs = _settings_of(name)
    if schedule.then is not None:
        if name != _WARMUP:
            raise InvalidArgumentError(f"the schedule {name} goes over to no other; only {_WARMUP} does")
        check_schedule(schedule.then)
    if name == _PIECEWISE:
        _check_piecewise(numbers)
        return
    if len(numbers) != len(specs):
        raise InvalidArgumentError(f"the schedule {name} has {len(specs)} settings, not {len(numbers)}")
    for spec, number in zip(specs, numbers, strict=True):
        if not spec.is_allowed(number):
            raise InvalidArgumentError(
                f"the setting {spec.name} of the schedule {name} is {number:g}; give {spec.allowed}"
            )


def _check_piecewise(numbers: Sequence[float]) -> None:
    boundaries = numbers[: len(numbers) // 2]
    if len(numbers) % 2 == 0 or list(boundaries) != sorted(boundaries) or not all(map(math.isfinite, numbers)):
        raise InvalidArgumentError(
            f"the schedule piecewise needs ascending boundaries and then one rate more, not {list(numbers)}"
        )


def _settings_of(name: str) -> tuple[SettingSpec, ...]:
    try:
        return SCHEDULES[name]
    except KeyError:
        raise InvalidArgumentError(
            f"there is no learning rate schedule {name!r}; choose one of {', '.join(SCHEDULES)}"
        ) from None


# -- formulas: step, and then the settings in their order ---------------------------------------


def _done(step: float, steps: float, staircase: float) -> float:
    done = step / steps
    return math.floor(done) if staircase else done


def _exponential(step: int, rate: float, steps: float, factor: float, staircase: float) -> float:
    return float(rate * factor ** _done(step, steps, staircase))


def _natural_exp(step: int, rate: float, steps: float, factor: float, staircase: float) -> float:
    return rate * math.exp(-factor * _done(step, steps, staircase))


def _inverse_time(step: int, rate: float, steps: float, factor: float, staircase: float) -> float:
    return rate / (1.0 + factor * _done(step, steps, staircase))


def _polynomial(step: int, rate: float, steps: float, end: float, power: float, cycle: float) -> float:
    if cycle:
        steps *= max(1.0, math.ceil(step / steps))
    left = 1.0 - min(step, steps) / steps
    return float((rate - end) * left**power + end)


def _cosine(step: int, rate: float, steps: float, alpha: float) -> float:
    return rate * ((1.0 - alpha) * _half_wave(min(step, steps) / steps) + alpha)


def _cosine_restarts(step: int, rate: float, first_steps: float, longer: float, lower: float, alpha: float) -> float:
    done = step / first_steps
    if longer == 1.0:
        restarts = math.floor(done)
        rest = done - restarts
    else:
        grown = 1.0 - done * (1.0 - longer)
        restarts = math.floor(math.log(grown) / math.log(longer))
        if longer ** (restarts + 1) <= grown:  # log(243) / log(3) is a little less than 5
            restarts += 1
        scale = longer**restarts
        rest = (done - (1.0 - scale) / (1.0 - longer)) / scale
    return rate * ((1.0 - alpha) * lower**restarts * _half_wave(rest) + alpha)


def _one_cycle(step: int, highest: float, steps: float, rising: float, division: float, last_division: float) -> float:
    """Smith and Topin, "Super-convergence", 2017, with half waves of the cosine as in torch's ``OneCycleLR``."""
    first = highest / division
    top, end = rising * steps - 1.0, steps - 1.0
    if step <= top:
        return first + (highest - first) * (1.0 - _half_wave(step / top if top > 0.0 else 1.0))
    done = min(1.0, (step - top) / (end - top)) if end > top else 1.0
    last = first / last_division
    return last + (highest - last) * _half_wave(done)


def _half_wave(done: float) -> float:
    """Returns 1 at 0, 0 at 1, and between them what half a wave of the cosine has."""
    return 0.5 * (1.0 + math.cos(math.pi * done))


def _piecewise(numbers: Sequence[float], step: int) -> float:
    boundaries = numbers[: len(numbers) // 2]
    return numbers[len(boundaries) + sum(limit < step for limit in boundaries)]


def _warmed_up(schedule: ScheduleSpec, step: int) -> float:
    """Goyal et al., "Accurate, large minibatch SGD", 2017: a straight line up to the rate."""
    highest, steps, first = schedule.numbers
    if step < steps:
        return first + (highest - first) * step / steps
    return highest if schedule.then is None else _rate(schedule.then, step - int(steps))


_STEPS = Range(0.0, without_least=True)
_ANY = Range()
_NOT_NEGATIVE = Range(0.0)
_RATE = SettingSpec("learning_rate", None, _ANY)
_DECAY_STEPS = SettingSpec("decay_steps", None, _STEPS)
_ALPHA = SettingSpec("alpha", 0.0, _ANY)
_WITH_FACTOR = (
    _RATE,
    _DECAY_STEPS,
    SettingSpec("decay_rate", None, _NOT_NEGATIVE),
    SettingSpec("staircase", 0.0, (0.0, 1.0)),
)
_PIECEWISE: Final = "piecewise"
_WARMUP: Final = "linear_warmup"

_Formula: TypeAlias = Callable[..., float]

_FORMULAS: Final[dict[str, tuple[tuple[SettingSpec, ...], _Formula]]] = {
    "exponential": (_WITH_FACTOR, _exponential),
    "natural_exp": (_WITH_FACTOR, _natural_exp),
    "inverse_time": (_WITH_FACTOR, _inverse_time),
    "polynomial": (
        (
            _RATE,
            _DECAY_STEPS,
            SettingSpec("end_learning_rate", 0.0001, _ANY),
            SettingSpec("power", 1.0, _NOT_NEGATIVE),
            SettingSpec("cycle", 0.0, (0.0, 1.0)),
        ),
        _polynomial,
    ),
    "cosine": ((_RATE, _DECAY_STEPS, _ALPHA), _cosine),
    "cosine_restarts": (
        (
            _RATE,
            SettingSpec("first_decay_steps", None, _STEPS),
            SettingSpec("t_mul", 2.0, Range(1.0)),
            SettingSpec("m_mul", 1.0, _NOT_NEGATIVE),
            _ALPHA,
        ),
        _cosine_restarts,
    ),
    "one_cycle": (
        (
            SettingSpec("max_learning_rate", None, _ANY),
            SettingSpec("total_steps", None, Range(1.0)),
            SettingSpec("pct_start", 0.3, Range(0.0, 1.0)),
            SettingSpec("div_factor", 25.0, _STEPS),
            SettingSpec("final_div_factor", 10000.0, _STEPS),
        ),
        _one_cycle,
    ),
}

SCHEDULES: Final[dict[str, tuple[SettingSpec, ...]]] = {
    **{name: specs for name, (specs, _) in _FORMULAS.items()},
    _PIECEWISE: (),
    _WARMUP: (
        _RATE,
        SettingSpec("warmup_steps", None, Range(0.0)),
        SettingSpec("start_learning_rate", 0.0, _ANY),
    ),
}
"""The settings of all schedules by their names. Those of "piecewise" are a sequence without names."""
