"""How the workers of a group train together: one argument, as "bsp", "ssp(3)" or "sync(3, total=4)".

    async                    each gradient is applied at once, alone; workers do not wait for each other
    async(max_staleness=8)   likewise, but a worker waits rather than that a gradient is more than 8 versions old
    bsp                      a round is one gradient of each worker, applied as their average
    ssp(3)                   likewise, but a worker may be 3 rounds ahead of the slowest one; ssp(0) is bsp
    sync(3, total=4)         a round is the first 3 gradients of different workers; with 4 workers, one is a backup
    local(16)                workers make 16 steps alone; a round is the average of what these have changed, to which
                             the ps tasks apply Nesterov's momentum (outer_learning_rate=0.7, outer_momentum=0.9)

All but async may also have ``total=4`` (the first round waits until so many workers have joined; of sync, until there
are enough for a round), ``on_missing=shrink|wait|fail`` (what becomes of rounds that lack a worker whose lease has run
out), ``missing_timeout_s=60`` (how long a round waits for a worker that is missing, or has not come yet), and
``rows=all|present`` (whether a row of a sparse gradient is divided by the number of all gradients of the round, so that
it is the gradient of one worker with all the batches, or by that of those that have it, as TensorFlow does it).

Synchronous rounds with backup workers are those of J. Chen et al., "Revisiting Distributed Synchronous SGD", 2016, and
of TensorFlow 1's ``SyncReplicasOptimizer``, whose names are used here; bounded staleness is that of Q. Ho et al., "More
Effective Distributed ML via a Stale Synchronous Parallel Parameter Server", NIPS 2013; local steps are those of A.
Douillard et al., "DiLoCo", 2023.
"""

from __future__ import annotations

import difflib
import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any, Final, cast

from ps_protocol.errors import InvalidArgumentError

MAX_WORKERS: Final = 1024
"""Most workers of a group."""

MAX_BOUND: Final = 64
"""Highest bound of ssp: each ps keeps one gradient more than that for each worker."""

MAX_STALENESS: Final = 100_000
MAX_LOCAL_STEPS: Final = 1_000_000
MAX_MISSING_TIMEOUT_S: Final = 86_400.0
DEFAULT_MISSING_TIMEOUT_S: Final = 60.0


class SyncKind(enum.StrEnum):
    """The kinds of policies, by the names that users give."""

    ASYNC = "async"
    BSP = "bsp"
    SSP = "ssp"
    SYNC = "sync"
    LOCAL = "local"


class OnMissing(enum.StrEnum):
    """What becomes of rounds that lack a worker whose lease has run out.

    ``SHRINK``: they go on without it. ``WAIT``: they wait until it is back, and the group fails after
    ``missing_timeout_s``. ``FAIL``: the group fails at once.
    """

    SHRINK = "shrink"
    WAIT = "wait"
    FAIL = "fail"


class RowMean(enum.StrEnum):
    """By what a row of sparse gradients is divided: by the number of all of the round, or of those that have it."""

    ALL = "all"
    PRESENT = "present"


@dataclass(frozen=True, slots=True)
class _Setting:
    """One setting of a policy.

    Attributes:
        field: Which attribute of ``SyncPolicy`` it is.
        type: What it is.
        least: Lowest number allowed.
        most: Highest number allowed.
    """

    field: str
    type: type[int] | type[float] | type[OnMissing] | type[RowMean]
    least: float = 0
    most: float = 0

    def allows(self, value: object) -> bool:
        if issubclass(self.type, enum.StrEnum):
            return isinstance(value, self.type)
        is_number = isinstance(value, int if self.type is int else (int, float)) and not isinstance(value, bool)
        return is_number and self.least <= cast(float, value) <= self.most

    @property
    def allowed(self) -> str:
        if issubclass(self.type, enum.StrEnum):
            return " or ".join([f"{each}" for each in self.type])
        what = "a whole number" if self.type is int else "seconds" if self.field.endswith("_s") else "a number"
        return f"{what} from {self.least} to {self.most}"


@dataclass(frozen=True, slots=True)
class _Form:
    """How a kind of policy is written: a number without a name that it must have, and settings by their names."""

    number: tuple[str, _Setting] | None
    settings: Mapping[str, _Setting]
    example: str

    def named(self) -> dict[str, _Setting]:
        return {**({} if self.number is None else dict([self.number])), **self.settings}


_TOTAL: Final = {"total": _Setting("total_num_replicas", int, 1, MAX_WORKERS)}
_ROWS: Final = {"rows": _Setting("row_mean", RowMean)}
_OUTER: Final = {
    "outer_learning_rate": _Setting("outer_learning_rate", float, 0.0, 1000.0),
    "outer_momentum": _Setting("outer_momentum", float, 0.0, 1.0),
}
_MISSING: Final = {
    "on_missing": _Setting("on_missing", OnMissing),
    "missing_timeout_s": _Setting("missing_timeout_s", float, 0.001, MAX_MISSING_TIMEOUT_S),
}

_FORMS: Final = {
    SyncKind.ASYNC: _Form(None, {"max_staleness": _Setting("max_staleness", int, 0, MAX_STALENESS)}, "async"),
    SyncKind.BSP: _Form(None, {**_TOTAL, **_MISSING, **_ROWS}, "bsp"),
    SyncKind.SSP: _Form(("bound", _Setting("bound", int, 0, MAX_BOUND)), {**_TOTAL, **_MISSING, **_ROWS}, "ssp(3)"),
    SyncKind.SYNC: _Form(
        ("replicas_to_aggregate", _Setting("replicas_to_aggregate", int, 1, MAX_WORKERS)),
        {**_TOTAL, **_MISSING, **_ROWS},
        "sync(3, total=4)",
    ),
    SyncKind.LOCAL: _Form(
        ("steps", _Setting("local_steps", int, 1, MAX_LOCAL_STEPS)), {**_TOTAL, **_MISSING, **_OUTER}, "local(16)"
    ),
}


def policy_with(setting: str) -> str | None:
    """Returns how a policy with a setting is written, as "bsp(total=...)"; None if no policy has it."""
    for kind, form in _FORMS.items():
        if form.number is not None and form.number[0] == setting:
            return form.example
        if setting in form.settings:
            before = "" if form.number is None else f"{form.example.partition('(')[2].partition(',')[0].rstrip(')')}, "
            return f"{kind.value}({before}{setting}=...)"
    return None


_OTHER_NAMES: Final = {
    "asynchronous": "async",
    "asp": "async",
    "synchronous": "bsp",
    "barrier": "bsp",
    "stale": "ssp",
    "backup": "sync",
    "diloco": "local",
}
"""Names that others use."""

_EXAMPLES: Final = ", ".join([f"'{form.example}'" for form in _FORMS.values()])
_TEXT: Final = re.compile(r"\s*(?P<kind>[A-Za-z_]\w*)\s*(?:\((?P<settings>[^()]*)\)\s*)?", re.ASCII)


@dataclass(frozen=True, slots=True)
class SyncPolicy:
    """How the workers of a group train together. ``str`` gives the text that ``parse`` reads.

    Attributes:
        kind: Which of the policies.
        bound: Of ssp: how many rounds a worker may be ahead of the slowest one.
        max_staleness: Of async: the most versions that come between the model that a gradient was computed on and the
            one that it is applied to; None for any number.
        replicas_to_aggregate: Of sync: gradients of different workers that make a round.
        total_num_replicas: How many workers are expected; of sync, those beyond ``replicas_to_aggregate`` are backups.
            None if any number will do.
        local_steps: Of local: steps that a worker makes alone before each round.
        on_missing: What becomes of rounds that lack a worker whose lease has run out.
        missing_timeout_s: How long a round waits for a worker that is missing, or has not come yet.
        row_mean: By what a row of sparse gradients is divided.
        outer_learning_rate: Of local: by how much the average of what the workers have changed changes the model.
        outer_momentum: Of local: Nesterov's, over the rounds.

    Raises:
        InvalidArgumentError: A setting is not allowed, or this kind does not have it.
    """

    kind: SyncKind
    bound: int = 0
    max_staleness: int | None = None
    replicas_to_aggregate: int | None = None
    total_num_replicas: int | None = None
    local_steps: int = 1
    on_missing: OnMissing = OnMissing.SHRINK
    missing_timeout_s: float = DEFAULT_MISSING_TIMEOUT_S
    row_mean: RowMean = RowMean.ALL
    outer_learning_rate: float = 0.7
    outer_momentum: float = 0.9

    def __post_init__(self) -> None:
        form = _FORMS[self.kind]
        has = {setting.field: (name, setting) for name, setting in form.named().items()}
        for field, default in _DEFAULTS.items():
            value = getattr(self, field)
            is_needed = form.number is not None and field == form.number[1].field
            if value == default and not is_needed:
                continue
            if field not in has:
                raise InvalidArgumentError(f"{_no_setting(self.kind, field)}; it is {value!r}")
            name, setting = has[field]
            if not setting.allows(value):
                raise InvalidArgumentError(_not_allowed(self.kind, name, setting, value))
        needed, there = self.replicas_to_aggregate, self.total_num_replicas
        if needed is not None and there is not None and needed > there:
            raise InvalidArgumentError(
                f"sync({needed}, total={there}) needs gradients of {needed} workers for each round, which is above the "
                f"{there} that there are, and none is a backup: each worker counts once in a round. Write "
                f"'sync({there})', or start {needed} workers and write 'sync({needed})'"
            )

    def __str__(self) -> str:
        form = _FORMS[self.kind]
        words = [] if form.number is None else [_in_words(getattr(self, form.number[1].field))]
        for name, setting in form.settings.items():
            value = getattr(self, setting.field)
            if value != _DEFAULTS[setting.field]:
                words.append(f"{name}={_in_words(value)}")
        return f"{self.kind}({', '.join(words)})" if words else f"{self.kind}"

    @classmethod
    def parse(
        cls, text: str | SyncPolicy, *, on_missing: str | None = None, missing_timeout_s: float | None = None
    ) -> SyncPolicy:
        """Reads a policy.

        Args:
            text: As "ssp(3)"; or a policy.
            on_missing: If given, it takes the place of the one in the text.
            missing_timeout_s: Likewise.

        Raises:
            InvalidArgumentError: It is no policy; the message says what may be meant.
        """
        policy = text if isinstance(text, SyncPolicy) else _parsed(text)
        given = {"on_missing": on_missing, "missing_timeout_s": missing_timeout_s}
        settings = _FORMS[policy.kind].settings
        for name, value in given.items():
            if value is not None:
                if name not in settings:
                    raise InvalidArgumentError(_no_setting(policy.kind, name))
                read: dict[str, Any] = {name: _read(policy.kind, name, settings[name], f"{value}")}
                policy = replace(policy, **read)
        return policy

    @property
    def has_rounds(self) -> bool:
        """Whether gradients are applied together, in rounds; without it each is applied alone."""
        return self.kind is not SyncKind.ASYNC

    @property
    def workers_to_start(self) -> int:
        """How many workers have to join before the first round."""
        return self.replicas_to_aggregate or self.total_num_replicas or 1

    @property
    def staging_slots(self) -> int:
        """How many gradients of one worker a ps may have to keep."""
        return self.bound + 1


_DEFAULTS: Final[dict[str, Any]] = {each.name: each.default for each in fields(SyncPolicy) if each.name != "kind"}


def contradiction(policy: SyncPolicy, worker: str, other: SyncPolicy, other_worker: str) -> str:
    """Says how two policies differ, as "worker:1 asks for ssp(3), the group has bsp since worker:0 joined".

    Workers with ssp(0) and with bsp may train together: the two are the same.

    Args:
        policy: What a worker asks for.
        worker: Which.
        other: What its group has.
        other_worker: Who joined first.

    Returns:
        The difference; empty if they can train together.
    """
    if _bsp_as_ssp(policy) == _bsp_as_ssp(other):
        return ""
    return f"{worker} asks for {policy}, the group has {other} since {other_worker} joined"


def _bsp_as_ssp(policy: SyncPolicy) -> SyncPolicy:
    return replace(policy, kind=SyncKind.SSP) if policy.kind is SyncKind.BSP else policy


# -- reading ------------------------------------------------------------------------------------


def _parsed(text: object) -> SyncPolicy:
    found = _TEXT.fullmatch(text) if isinstance(text, str) else None
    if found is None:
        raise InvalidArgumentError(f"{text!r} is no policy of training together; write one of {_EXAMPLES}")
    if found["kind"] not in _FORMS:
        raise InvalidArgumentError(_unknown(found["kind"]))
    kind = SyncKind(found["kind"])
    form = _FORMS[kind]
    values: dict[str, Any] = {}
    written = (found["settings"] or "").strip()
    for position, each in enumerate(written.split(",") if written else []):
        name, has_name, value = [part.strip() for part in each.partition("=")]
        if not has_name:
            if position or form.number is None:
                raise InvalidArgumentError(_unnamed(kind, name))
            name, value = form.number[0], name
        setting = form.named().get(name)
        if setting is None:
            raise InvalidArgumentError(_no_setting(kind, name))
        if setting.field in values:
            raise InvalidArgumentError(f"{kind} is given {name} twice; write it once, as in '{form.example}'")
        values[setting.field] = _read(kind, name, setting, value)
    if form.number is not None and form.number[1].field not in values:
        number, setting = form.number
        raise InvalidArgumentError(f"{kind} needs {number}, {setting.allowed}; write it as in '{form.example}'")
    return SyncPolicy(kind, **values)


def _read(kind: SyncKind, name: str, setting: _Setting, text: str) -> int | float | OnMissing | RowMean:
    text = text.strip("'\"")
    try:
        value: int | float | OnMissing | RowMean = setting.type(text)
    except ValueError:
        raise InvalidArgumentError(_not_allowed(kind, name, setting, text)) from None
    if not setting.allows(value):
        raise InvalidArgumentError(_not_allowed(kind, name, setting, text))
    return value


def _in_words(value: object) -> str:
    return repr(int(value)) if isinstance(value, float) and value.is_integer() else f"{value}"


# -- what an error says -------------------------------------------------------------------------


def _unknown(word: str) -> str:
    close = difflib.get_close_matches(word.lower(), [*_FORMS, *_OTHER_NAMES], n=1, cutoff=0.5)
    if not close:
        return f"there is no policy of training together {word!r}; write one of {_EXAMPLES}"
    meant = SyncKind(_OTHER_NAMES.get(close[0], close[0]))
    return f"there is no policy of training together {word!r}; did you mean '{_FORMS[meant].example}'?"


def _unnamed(kind: SyncKind, value: str) -> str:
    form = _FORMS[kind]
    if form.number is not None:
        return f"{kind} has one number without a name, and {value!r} is another one; write the name, as in 'total=4'"
    if kind is SyncKind.ASYNC:
        return f"async has no number without a name; did you mean 'async(max_staleness={value})' or 'ssp({value})'?"
    return f"bsp has no number without a name; did you mean 'ssp({value})', 'sync({value})' or 'bsp(total={value})'?"


def _no_setting(kind: SyncKind, name: str) -> str:
    known = _FORMS[kind].named()
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"did you mean {close[0]}?" if close else f"it has {', '.join(known)}"
    if kind is SyncKind.ASYNC and name in ("on_missing", "missing_timeout_s", "total"):
        hint = "its workers wait for nobody, so that nobody is missing"
    return f"the policy {kind} has no setting {name!r}: {hint}"


def _not_allowed(kind: SyncKind, name: str, setting: _Setting, value: object) -> str:
    form = _FORMS[kind]
    is_shown = f"{name}=" in form.example or (form.number is not None and name == form.number[0])
    example = f", as in '{form.example}'" if is_shown else ""
    return f"{name} of {kind} is {value!r}; give {setting.allowed}{example}"
