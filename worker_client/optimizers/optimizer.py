"""The base of all optimizers: declares them, sends gradients, and finds slots."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future
from itertools import chain, compress
from typing import Any, Final, Literal, Never, TypeAlias, cast, overload

import numpy.typing as npt

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.forks import new_lock
from ps_protocol.operations import Apply, Reply, Update, UpdateRule, WireDType
from ps_protocol.optimizer_rules import RULES, check_mode, check_settings
from ps_protocol.optimizer_schedules import ScheduleSpec, check_schedule
from ps_protocol.optimizer_spec import OnNonfinite, OptimizerSpec, SparseMode
from ps_protocol.training.round_operations import COUNT_ROUNDS, outer_name
from ps_protocol.training.sync_policy import SyncKind, SyncPolicy
from ps_protocol.weak_table import WeakTable
from worker_client.connection.completes import Completes, exchange_of
from worker_client.connection.fanout import Fanout, Routed
from worker_client.connection.futures import mapped
from worker_client.objects.round_operations import RoutedStep
from worker_client.objects.training_group import TrainingGroup
from worker_client.objects.training_report import TrainingReport
from worker_client.optimizers.arguments import (
    check_counter,
    check_mirror,
    checked_name,
    counted,
    dtype_of_slots,
    has_no_argument,
    in_short,
    parts_of,
    rate_of,
    reads_of,
)
from worker_client.optimizers.constraints import Constraint, check_constraint_of, constraint_of
from worker_client.optimizers.in_rounds import check_alone, check_call, counting_step, digest_of, policy_of, steps_of
from worker_client.optimizers.local_steps import LocalSteps
from worker_client.optimizers.outcomes import Applied, in_round, is_applied, outcomes_of
from worker_client.optimizers.slots import STEP, SlotVariables, slot_variables, whole_slot
from worker_client.optimizers.steps import (
    Gradient,
    PartGradient,
    check_finite,
    check_trainable,
    is_finite,
    numbers_of,
    of_one_connection,
    part_gradients,
)
from worker_client.placement.beside import declare_beside
from worker_client.values.wire_names import WireDTypeName, wire_of
from worker_client.variables.error_feedback import ErrorFeedback, PreparedUpdate
from worker_client.variables.found import FoundVariables
from worker_client.variables.mirror import Mirror
from worker_client.variables.partitioned import PartitionedVariable
from worker_client.variables.parts import EagerVariable
from worker_client.variables.variable import Variable

LearningRate: TypeAlias = float | ScheduleSpec
GradientsAndVariables: TypeAlias = Iterable[tuple[Gradient, EagerVariable]] | Mapping[EagerVariable, Gradient]
_VARIABLES: Final = (Variable, PartitionedVariable)
_OF_OTHERS: Final = {
    "minimize": "it computes no gradients; give those of autograd, PyTorch or JAX to apply_gradients, or build a graph "
    "and take worker_client.compat.v1.train",
    "step": "apply_gradients makes a step",
    "zero_grad": "it keeps no gradients",
    "lr": "it is called learning_rate",
}
"""What optimizers of other libraries have, and what there is here instead."""
# Looking a member up takes as long as a call.
_EXACT: Final = WireDType.EXACT


class Optimizer:
    """Changes variables by gradients, on their ps tasks. Thread-safe.

    The first ``apply_gradients`` for a variable declares the optimizer there: makes its slots beside the variable, as
    ``w/Adam/m``, and fixes its settings. Another worker that declares it with other settings gets an error that names
    both. Each variable has its own count of steps, ``w/Adam/step``.

    Copies and pickles have its settings; they find the slots of a name where it has declared them.

    Args:
        rule: Name of the update rule.
        settings: Its numbers, by name, without the learning rate.
        learning_rate: A number, or a schedule of ``ss.train``, which the ps evaluates for each step of the variable.
        name: Name of the optimizer; two that train one variable need two names.
        sparse: What a gradient for some rows does to the others: "tf1", "lazy" or "catch_up"; None for the rule's own.
        slot_dtype: Of floats, as "float32" or "bfloat16"; None for the variable's own, or float32 beside 16 bits.
        on_nonfinite: What becomes of a gradient with an infinity or a NaN: "refuse" raises an error, "skip" leaves the
            variable as it is, "apply" does not look.
        constraint: Name of what is done to the value after each step, and its numbers, as in Keras: "non_negative",
            ("unit_norm", axis), ("max_norm", 2.0, axis). Without it the axis is 0.
        sync: How workers train together, as "bsp", "ssp(3)", "sync(3, total=4)", "local(16)" or
            "async(max_staleness=8)" (the guide has a section on that). None: each gradient is applied at once, alone.

    Attributes:
        outer: With "local(H)", what the ps tasks apply to how far the workers have moved; else None.

    Raises:
        InvalidArgumentError: A setting is unknown, missing, or not allowed.
    """

    def __init__(
        self,
        rule: str,
        settings: Mapping[str, float],
        *,
        learning_rate: LearningRate,
        name: str,
        sparse: str | None = None,
        slot_dtype: npt.DTypeLike | None = None,
        on_nonfinite: Literal["refuse", "skip", "apply"] = "refuse",
        constraint: Constraint | None = None,
        sync: str | SyncPolicy | None = None,
        **unknown: Never,
    ):
        if unknown:
            raise TypeError(has_no_argument(type(self), Optimizer, next(iter(unknown))))
        schedule = learning_rate if isinstance(learning_rate, ScheduleSpec) else None
        if schedule is not None:
            check_schedule(schedule)
        number = 0.0 if isinstance(learning_rate, ScheduleSpec) else rate_of(learning_rate)
        mode = sparse or RULES[rule].default_mode
        check_mode(rule, mode)
        if on_nonfinite not in ("refuse", "skip", "apply"):
            raise InvalidArgumentError(
                f'{name}: on_nonfinite is {on_nonfinite!r}; it should be "refuse", "skip" or "apply"'
            )
        self._learning_rate = learning_rate
        self.sync: Final = None if sync is None else policy_of(name, sync)
        self._slot_dtype = None if slot_dtype is None else dtype_of_slots(name, slot_dtype)
        self._forget()
        self.name: Final = checked_name(name)
        self.outer: Final = outer_of(self.name, self.sync)
        self._group_name = self.name
        self.spec: Final = OptimizerSpec(
            rule,
            check_settings(rule, {"learning_rate": number, **settings}),
            SparseMode[mode.upper()],
            OnNonfinite[on_nonfinite.upper()],
            schedule,
            constraint_of(constraint),
        )

    def _forget(self) -> None:
        """Makes all that it keeps of variables anew."""
        self._lock = new_lock()  # guards: _slots, _found, _feedback and _groups
        self._slots: WeakTable[Variable, SlotVariables] = WeakTable()
        self._found: WeakTable[Fanout, FoundVariables] = WeakTable()
        self._feedback: WeakTable[Variable, ErrorFeedback] = WeakTable()
        self._groups: WeakTable[Fanout, TrainingGroup] = WeakTable()
        self._alone: WeakTable[Fanout, LocalSteps] = WeakTable()
        self._made_alone: WeakTable[Fanout, list[int]] = WeakTable()  # how many steps without sync

    def __getstate__(self) -> dict[str, Any]:
        kept = ("_lock", "_slots", "_found", "_feedback", "_groups", "_alone", "_made_alone")
        return {name: value for name, value in self.__dict__.items() if name not in kept}

    def __setstate__(self, settings: Mapping[str, Any]) -> None:
        self.__dict__.update(settings)
        if self.outer is not None:
            self.__dict__["outer"] = copy.copy(self.outer)  # a copy of it has no part in its rounds either
        self._forget()

    @property
    def learning_rate(self) -> LearningRate:
        """What the next step takes, where its call says nothing else; a number may be set at any time.

        Raises:
            InvalidArgumentError: A schedule is set: what the ps evaluates is fixed when the optimizer is made.
        """
        return self._learning_rate

    @learning_rate.setter
    def learning_rate(self, learning_rate: float) -> None:
        if isinstance(learning_rate, ScheduleSpec):
            raise InvalidArgumentError(
                f"{self.name} cannot get the schedule {learning_rate.name} now: the ps evaluates the one that the "
                f"optimizer was made with; make an optimizer of another name, or set a number"
            )
        self._learning_rate = rate_of(learning_rate)

    # -- steps --------------------------------------------------------------------------------

    @overload
    def apply_gradients(
        self,
        grads_and_vars: GradientsAndVariables,
        *,
        learning_rate: float | None = None,
        global_step: Variable | None = None,
        pull: Mirror | None = None,
        wait: Literal[True] = True,
        wire_dtype: WireDTypeName | None = None,
        completes: Completes | None = None,
    ) -> list[Applied]: ...
    @overload
    def apply_gradients(
        self,
        grads_and_vars: GradientsAndVariables,
        *,
        learning_rate: float | None = None,
        global_step: Variable | None = None,
        wait: Literal[False],
        wire_dtype: WireDTypeName | None = None,
    ) -> Future[list[Applied]]: ...
    def apply_gradients(
        self,
        grads_and_vars: GradientsAndVariables,
        *,
        learning_rate: float | None = None,
        global_step: Variable | None = None,
        pull: Mirror | None = None,
        wait: bool = True,
        wire_dtype: WireDTypeName | None = None,
        completes: Completes | None = None,
    ) -> list[Applied] | Future[list[Applied]]:
        """Changes variables by their gradients: one exchange for each ps task, all tasks at once.

        All gradients are checked before any is sent. Each variable's step, with its slots, is atomic and counts exactly
        once; all together are not atomic.

        Args:
            grads_and_vars: Pairs of a gradient and its variable, or a dictionary of gradients by variables. A gradient
                is an array of the variable's shape, or ``IndexedSlices`` for some of its rows, which may repeat.
            learning_rate: For this call, instead of the optimizer's own.
            global_step: A scalar variable of integers that goes up by one in the same exchange; with ``sync`` once for
                each round, with that.
            pull: A mirror whose values are read behind the steps: in the same exchange, if all of them have at most 256
                KiB, else in another one. With ``wait``. After an error it may not be up to date.
            wait: Whether to wait until all are applied. If not, the gradients are copied and a future is returned.
            wire_dtype: The form in which gradients travel, as in ``Variable.assign_add``. What rounding takes from one
                is added to the next.
            completes: A shard of ``ss.data.Shards``, or a piece of one, that counts when this step does; as in
                ``Variable.assign_add``. Of "local(H)" the step then makes the round.

        Returns:
            For each pair what became of it, in their order.

        Raises:
            InvalidArgumentError: A gradient is None, or a row is not in its variable, or a gradient is not finite: then
                its variable has not been changed, in no part, but others have. Or ``pull`` is no mirror of the
                connection, or is not waited for.
            ShapeMismatchError, DTypeMismatchError: A gradient does not fit its variable.
            FailedPreconditionError: A variable has no value yet.
        """
        asked = self._asked(grads_and_vars)
        if self.sync is not None:
            check_call(self.name, completes, wait=wait, wire_dtype=wire_dtype)
        if self.sync is not None and self.outer is not None:
            fanout = cast(Fanout, of_one_connection([part for _, variable in asked for part in parts_of(variable)]))
            alone = self._local_steps(fanout, self.sync, self.outer, [variable for _, variable in asked])
            return alone.step(asked, self._rate_of_call(learning_rate), global_step, pull, completes)
        checked = self.spec.on_nonfinite
        gradients = [
            part_gradients(variable, gradient, copy=not wait, on_nonfinite=checked) for gradient, variable in asked
        ]
        parts = [each for of_variable in gradients for each in of_variable]
        fanout = cast(Fanout, of_one_connection([each.part for each in parts]))
        kept = self._declared(fanout, [each.part for each in parts])
        rate = self._rate_of_call(learning_rate)
        lengths = [len(each) for each in gradients]
        if self.sync is not None:
            if pull is not None:
                check_mirror(pull)
            steps = self._round_steps(fanout, parts, kept, rate, global_step)
            skipped = [checked is OnNonfinite.SKIP and not is_finite(each) for each in gradients]
            left_out = [each.part.spec.name for each in chain(*compress(gradients, skipped))]
            piece = completes.in_round(fanout) if completes else None
            result = self._group(fanout, parts, steps, self.sync).step(steps, pull, left_out, piece)
            return [in_round(result, is_skipped=each) for each in skipped]
        made = self._made_alone.setdefault(fanout, [0])
        made[0] += check_alone(
            fanout, self.name, parts, lambda each: (outer_of(self.name, each) or self).spec, global_step, made[0]
        )
        exchange = exchange_of(fanout, completes, wait=wait)
        if completes is not None and checked is OnNonfinite.REFUSE:
            check_finite(parts)
        operations, pushes = self._operations(parts, kept, rate, wire_dtype)
        routed = [Routed(each.part.ps_task, operation) for each, operation in zip(parts, operations, strict=True)]
        if global_step is not None:
            routed.append(counted(global_step, fanout))
        reads = () if pull is None else reads_of(pull, fanout, wait=wait)
        stand_ins = [number for number, each in enumerate(parts) if each.is_stand_in]

        def settle(positions: list[int], replies: Sequence[Reply] | None) -> None:
            for number, position in enumerate(positions):
                push = pushes.get(position)
                if push is not None and (replies is None or not is_applied(replies[number])):
                    push.roll_back()

        def outcome(replies: Sequence[Reply]) -> list[Applied]:
            return outcomes_of(replies, lengths, stand_ins)

        if wait:
            replies = exchange([*routed, *reads], settle)
            outcomes = outcome(replies[: len(routed)])
            if pull is not None:
                pull.end_behind(replies[len(routed) :])
            return outcomes
        return mapped(fanout.exchange_all_later(routed, settle), outcome)

    def join(
        self,
        variables: Iterable[EagerVariable],
        *,
        global_step: Variable | None = None,
        pull: Mirror | None = None,
    ) -> int:
        """With ``sync``, enters the rounds now, and reads the newest model, so that the first gradient is of that.

        A worker that comes while others train computes its first gradient on what it has read before it had joined, of
        which nobody knows what model that is: without this, that gradient is stale.

        Args:
            variables: Those that each step has gradients of.
            global_step: As of each step.
            pull: A mirror to read behind the newest round.

        Returns:
            The number of the model: how many rounds it has.

        Raises:
            InvalidArgumentError: The optimizer has no ``sync``, or ``pull`` is no mirror of the connection.
            FailedPreconditionError: The other workers train otherwise.
        """
        if self.sync is None:
            raise InvalidArgumentError(
                f"{self.name} has no sync, so that there is nothing to join; give it, as sync='bsp'"
            )
        if pull is not None:
            check_mirror(pull)
        variables = list(variables)
        if not variables:
            raise InvalidArgumentError(f"{self.name}.join was given no variables; give those that it trains")
        parts = [PartGradient(part, ()) for each in variables for part in parts_of(each)]
        fanout = cast(Fanout, of_one_connection([each.part for each in parts]))
        if self.outer is not None:
            return self._local_steps(fanout, self.sync, self.outer, variables).join(global_step, pull)
        kept = self._declared(fanout, [each.part for each in parts])
        steps = self._round_steps(fanout, parts, kept, None, global_step)
        return self._group(fanout, parts, steps, self.sync).join(steps, pull)

    def finish(self) -> None:
        """With ``sync``, tells the other workers that this one hands in no more: they go on without it at once.

        The end of the connection does that too, unless the program has failed. The next step joins again.
        """
        for each in self._joined():
            each.finish()

    def finish_later(self) -> None:
        """Does what ``finish`` does soon, whatever comes of that; it does not wait."""
        for each in self._joined():
            each.finish_later()

    def training_report(self) -> TrainingReport:
        """With ``sync``, returns how all its workers are: rounds, quorum, verdicts and staleness of each.

        The same as ``client.training_report(name)``, by the connection on which it has joined last.

        Raises:
            InvalidArgumentError: The optimizer has no ``sync``.
            FailedPreconditionError: It has neither joined nor made a step in this process.
        """
        if self.sync is None:
            raise InvalidArgumentError(f"{self.name} has no sync, so that there are no rounds; give it, as sync='bsp'")
        joined = self._joined()
        if not joined:
            raise FailedPreconditionError(
                f"{self.name} has neither joined nor made a step in this process; "
                f"client.training_report({self.name!r}) tells of other workers"
            )
        return joined[-1].report()

    def _joined(self) -> list[TrainingGroup]:
        """The groups of its connections."""
        if self.outer is not None:
            return self.outer._joined()
        with self._lock:
            return self._groups.values()

    def _local_steps(
        self, fanout: Fanout, policy: SyncPolicy, outer: Optimizer, variables: Sequence[EagerVariable]
    ) -> LocalSteps:
        with self._lock:
            found = self._alone.get(fanout)
        if found is not None:
            return found
        inner = copy.copy(self)
        inner.__dict__.update(sync=None, outer=None)
        made = LocalSteps(fanout, num_steps=policy.local_steps, variables=variables, inner=inner, outer=outer)
        with self._lock:
            return self._alone.setdefault(fanout, made)

    def _group(
        self, fanout: Fanout, parts: Sequence[PartGradient], steps: Sequence[RoutedStep], policy: SyncPolicy
    ) -> TrainingGroup:
        with self._lock:
            group = self._groups.get(fanout)
            if group is None:
                counters = [each.step.name for each in steps if each.step.function == COUNT_ROUNDS]
                digest = digest_of(parts, self.spec, counters)
                made = TrainingGroup.of(fanout, name=self._group_name, policy=policy, digest=digest, steps=steps)
                group = self._groups.setdefault(fanout, made)
        return group

    def _round_steps(
        self,
        fanout: Fanout,
        parts: Sequence[PartGradient],
        kept: Sequence[SlotVariables],
        rate: float | None,
        global_step: Variable | None,
    ) -> list[RoutedStep]:
        steps = steps_of(parts, kept, self.spec.function, numbers_of(rate, self.spec))
        if global_step is not None:
            check_counter(global_step, fanout)
            steps.append(counting_step(global_step))
        return steps

    def _asked(self, given: GradientsAndVariables) -> list[tuple[Any, EagerVariable]]:
        if not isinstance(given, Iterable):
            raise InvalidArgumentError(
                f"{self.name}.apply_gradients takes pairs of a gradient and its variable, not {given!r}"
            )
        pairs: list[Any] = (
            [(gradient, variable) for variable, gradient in given.items()]
            if isinstance(given, Mapping)
            else list(given)
        )
        if not pairs:
            raise InvalidArgumentError(f"{self.name}.apply_gradients was given no gradients")
        for pair in pairs:
            if not isinstance(pair, (tuple, list)) or len(pair) != 2:
                raise InvalidArgumentError(
                    f"{self.name}.apply_gradients takes a list of pairs, as [(gradient, variable)], but a pair is "
                    f"{in_short(pair)}"
                )
            if not isinstance(pair[1], _VARIABLES):
                raise self._no_variable(*pair)
        return pairs

    def _no_variable(self, first: object, second: object) -> InvalidArgumentError:
        function = f"{self.name}.apply_gradients"
        if isinstance(second, str):
            return InvalidArgumentError(
                f"{function} was given the name {second!r}; give the variable, as client.variable({second!r})",
                variable=second,
            )
        if isinstance(first, _VARIABLES):
            name = first.whole_spec.name
            return InvalidArgumentError(
                f"{function} takes pairs (gradient, variable), but was given variable {name} first: turn the pair "
                f"round",
                variable=name,
            )
        return InvalidArgumentError(
            f"{function} takes pairs of a gradient and a variable of a connection, not {second!r} as the variable; "
            f"those of a deferred graph are read and updated by Session.run"
        )

    def _rate_of_call(self, learning_rate: float | None) -> float | None:
        if learning_rate is not None:
            return rate_of(learning_rate)
        return None if isinstance(self.learning_rate, ScheduleSpec) else rate_of(self.learning_rate)

    def _operations(
        self,
        parts: Sequence[PartGradient],
        kept: Sequence[SlotVariables],
        rate: float | None,
        wire_dtype: WireDTypeName | None,
    ) -> tuple[list[Apply], dict[int, PreparedUpdate]]:
        """Returns the operations, and by their positions those pushes that leave a trace here."""
        numbers = numbers_of(rate, self.spec)
        function = self.spec.function
        operations: list[Apply] = []
        pushes: dict[int, PreparedUpdate] = {}
        try:
            for (part, operands, _), slots in zip(parts, kept, strict=True):
                wire = wire_of(operands[-1], part.push_wire(wire_dtype))
                if part.ps_task is None:
                    wire = _EXACT
                elif wire is not _EXACT and len(operands) == 1:
                    lossy = Update(part.spec.name, UpdateRule.ASSIGN_ADD, operands[0], wire)
                    push = pushes[len(operations)] = self._feedback_of(part).push(lossy)
                    operands = (push.operation.value,)  # noqa: PLW2901 - with what earlier ones owe
                state = slots.step.name
                operations.append(Apply(part.spec.name, function, slots.full_names, state, operands, numbers, wire))
        except BaseException:
            for push in pushes.values():
                push.roll_back()
            raise
        return operations, pushes

    def _feedback_of(self, part: Variable) -> ErrorFeedback:
        with self._lock:
            return self._feedback.setdefault(part, ErrorFeedback())

    # -- slots --------------------------------------------------------------------------------

    def slot_names(self) -> list[str]:
        """Names of the slots that it keeps beside each variable, as the rule has them; with ``local`` of the rounds."""
        if self.outer is not None:
            return self.outer.slot_names()
        rule = RULES[self.spec.function]
        return [each.name for each in rule.slots(self.spec.numbers, self.spec.sparse.name.lower())]

    def get_slot(self, variable: EagerVariable, name: str) -> Any:
        """Returns a slot of a variable, as a variable; of a partitioned one it is partitioned alike.

        Args:
            variable: Of which; the optimizer is declared for it if it was not.
            name: One of ``slot_names()``, or "step" for the count of steps (of a partitioned variable that of its
                first part).

        Raises:
            NotFoundError: The optimizer has no such slot.
        """
        slots = self.slots(variable)
        if name not in slots:
            raise NotFoundError(
                f"{self.name} has no slot {name!r} of variable {variable.whole_spec.name}; it has {', '.join(slots)}",
                variable=variable.whole_spec.name,
            )
        return slots[name]

    def slots(self, variable: EagerVariable) -> dict[str, Any]:
        """Returns all slots of a variable by their names, as ``get_slot`` does, and the count of steps as "step"."""
        if self.outer is not None:
            return self.outer.slots(variable)
        fanout = cast(Fanout, of_one_connection(parts := parts_of(variable)))
        kept = self._declared(fanout, parts)
        with self._lock:
            made = self._found.setdefault(fanout, FoundVariables(fanout))
        found: dict[str, Any] = {}
        for name in kept[0].slots:
            found[name] = whole_slot(variable, [made.variable(each.slots[name], each.ps_task) for each in kept])
        return {**found, STEP: made.variable(kept[0].step, kept[0].ps_task)}

    def _declared(self, fanout: Fanout, parts: Sequence[Variable]) -> list[SlotVariables]:
        """Returns what is kept beside each part; what is not declared yet is, in one exchange with each task."""
        with self._lock:
            known = [self._slots.get(part) for part in parts]
        new = {part: self._variables_of(part) for part, kept in zip(parts, known, strict=True) if kept is None}
        if new:
            declare_beside(fanout, [each for kept in new.values() for each in kept.declarations()])
            with self._lock:
                self._slots.update(new)
        return [kept or new[part] for part, kept in zip(parts, known, strict=True)]

    def _variables_of(self, part: Variable) -> SlotVariables:
        check_trainable(part.spec)
        if self.spec.constraint is not None:
            check_constraint_of(self.spec.constraint, part.spec)
        return slot_variables(part.spec, part.ps_task, self.spec, name=self.name, slot_dtype=self._slot_dtype)

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} learning_rate={self.learning_rate}>"


def outer_of(name: str, policy: SyncPolicy | None) -> Optimizer | None:
    """Returns what moves the variables on the ps tasks, of an optimizer whose workers make steps alone; else None."""
    if policy is None or policy.kind is not SyncKind.LOCAL:
        return None
    settings = {"momentum": policy.outer_momentum, "use_nesterov": 1.0}
    made = Optimizer("momentum", settings, learning_rate=policy.outer_learning_rate, name=outer_name(name))
    made.__dict__.update(sync=policy, _group_name=name)  # it has no outer one itself
    return made


def _missing(self: Optimizer, name: str) -> Never:
    instead = f": {_OF_OTHERS[name]}" if name in _OF_OTHERS else ""
    raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}{instead}")


def _set(self: Optimizer, name: str, value: object) -> None:
    if "spec" in self.__dict__ and name != "learning_rate" and not name.startswith("_"):
        raise AttributeError(
            f"{name} of {self!r} cannot be set: of an optimizer only learning_rate changes; make another one, of "
            f"another name, for other settings"
        )
    object.__setattr__(self, name, value)


# Not in the class, where type checkers would take every name for a member of it that can be set.
Optimizer.__getattr__ = _missing  # type: ignore[attr-defined]
Optimizer.__setattr__ = _set  # type: ignore[method-assign, assignment]
