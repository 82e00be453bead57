"""Carries out the operations of a batch on the store, each with a reply of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from ps_protocol.errors import DeadlineExceededError, ResourceExhaustedError, ShardscopeError
from ps_protocol.operation_kinds import KINDS, Logged
from ps_protocol.operations import BatchReply, Declare, PsOperation, Reply, VariableSpec
from ps_protocol.shared_objects import Act
from ps_protocol.training.round_operations import Stage
from ps_server.batches.defects import internal_error
from ps_server.batches.guarded import guarded_replies, is_guarded
from ps_server.batches.handlers import HANDLERS, Resources
from ps_server.memory.operand_ownership import may_be_taken
from ps_server.objects.kinds import OBJECT_KINDS, AnyKind
from ps_server.rules.built_in_functions import BUILT_IN_FUNCTIONS
from ps_server.rules.functions import Functions
from ps_server.store.function_calls import FunctionCalls
from ps_server.store.object_calls import ObjectCalls
from ps_server.store.round_calls import RoundCalls
from ps_server.store.variable_store import VariableStore

_GUARDS: Final = (Act, Stage)


class BatchRunner:
    """Turns operations into calls of the store, and what those raise into replies. Thread-safe.

    Args:
        store: Holds the variables.
        task: Name of the ps task, as "ps:0", for the errors.
        clock: Monotonic seconds.
        functions: Those that operations can call by name.
        object_kinds: Kinds of shared objects, by name.

    Attributes:
        calls: Calls functions.
        objects: Has things happen to shared objects.
    """

    def __init__(
        self,
        store: VariableStore,
        *,
        task: str,
        clock: Callable[[], float],
        functions: Functions = BUILT_IN_FUNCTIONS,
        object_kinds: Mapping[str, AnyKind] = OBJECT_KINDS,
    ):
        self._store = store
        self.task = task
        self._clock = clock
        self.calls: Final = FunctionCalls(store.variables, store.spares, functions)
        self.objects: Final = ObjectCalls(store.variables, store.spares, object_kinds)
        rounds = RoundCalls(store.variables, self.calls, store.spares, self.objects)
        self._resources = Resources(store, self.calls, self.objects, rounds, clock)

    def run(
        self,
        operations: Sequence[PsOperation],
        deadline_s: float,
        lend_values: bool = False,
        take_operands: bool = False,
    ) -> BatchReply:
        """Carries out operations one after the other; never raises an ``Exception``.

        Args:
            operations: What to do.
            deadline_s: When to stop waiting for other work.
            lend_values: Whether tensors in the reply may be views of the values, as ``VariableStore.read`` has it.
            take_operands: Whether arrays in the operations may be kept, as ``VariableStore.update`` has it; those that
                share memory with one another are not.
        """
        take_operands = take_operands and may_be_taken(operations)
        if len(operations) > 1 and type(operations[0]) in _GUARDS and is_guarded(self._resources, operations):
            return BatchReply(tuple(self._guarded(operations, deadline_s, lend_values)))
        replies = [self._reply(operation, deadline_s, lend_values, take_operands) for operation in operations]
        return BatchReply(tuple(replies))

    def is_guarded(self, operations: Sequence[PsOperation]) -> bool:
        """Whether the updates of a batch are carried out only if its first operation is."""
        return is_guarded(self._resources, operations)

    def _guarded(self, operations: Sequence[PsOperation], deadline_s: float, lend: bool) -> list[Reply]:
        replies = guarded_replies(
            self._resources, operations, lambda operation: self._reply(operation, deadline_s, lend, False)
        )
        for each in replies:
            if isinstance(each, ShardscopeError):
                each.task = self.task
        return replies

    def read(self, operations: Sequence[PsOperation], deadline_s: float, lend_values: bool = False) -> BatchReply:
        """Carries out operations that change nothing, as ``run``, as long as there is time.

        Raises:
            DeadlineExceededError: There is none left for the rest.
        """
        if len(operations) == 1 or self._clock() >= deadline_s:  # who gives no time wants what need not be waited for
            return self.run(operations, deadline_s, lend_values)
        replies: list[Reply] = []
        for operation in operations:
            if self._clock() >= deadline_s:
                raise DeadlineExceededError(
                    f"time ran out when {len(replies)} of the batch's {len(operations)} operations were done, which "
                    f"change nothing; read fewer at a time, or allow more time"
                )
            replies.append(self._reply(operation, deadline_s, lend_values, False))
        return BatchReply(tuple(replies))

    def wait_for_initializations(self, operations: Sequence[PsOperation], deadline_s: float) -> None:
        """Waits while other clients initialise variables that these operations would initialise.

        Called before the ledger notes the batch, so that a client that ran out of time can try again.

        Raises:
            DeadlineExceededError: Another client was still initialising one when time ran out.
        """
        if not self._store.is_initializing:
            return
        for operation in operations:
            if KINDS[type(operation)].logged is Logged.BEFORE_ITS_BATCH:
                remaining_s = deadline_s - self._clock()
                if not self._store.wait_while_initializing(operation.name, remaining_s):
                    raise DeadlineExceededError(
                        f"another client was still initialising variable {operation.name} when time ran out; try again",
                        variable=operation.name,
                    )

    def reply_size_bytes(self, operations: Sequence[PsOperation]) -> int:
        """Most bytes of the tensors in the reply to these operations; those that will fail count as nothing."""
        size_bytes = 0
        declared: dict[str, VariableSpec] = {}
        for operation in operations:
            reply_bytes = KINDS[type(operation)].reply_bytes
            if reply_bytes is not None:
                spec = self._store.spec_of(operation.name) or declared.get(operation.name)
                if spec is not None:
                    size_bytes += reply_bytes(operation, spec)
            elif isinstance(operation, Declare):
                declared[operation.name] = operation.spec
        return size_bytes

    def _reply(self, operation: PsOperation, deadline_s: float, lend: bool, take: bool) -> Reply:
        try:
            return HANDLERS[type(operation)](self._resources, operation, deadline_s, lend, take)
        except ShardscopeError as error:
            error.task = self.task
            return error.with_traceback(None)  # its frames would keep arrays alive
        except MemoryError:
            return ResourceExhaustedError(
                f"there is no memory for this operation on variable {operation.name}; nothing was changed: partition "
                f"the variable, or update fewer rows at a time",
                variable=operation.name,
                task=self.task,
                retryable=False,
            )
        except Exception as defect:  # noqa: BLE001 - the other operations of the batch still count
            what = f"{type(operation).__name__.lower()} of variable {operation.name}"
            return internal_error(defect, self.task, what, variable=operation.name)
