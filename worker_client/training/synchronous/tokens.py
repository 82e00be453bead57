"""The queue of tokens: a worker that has pushed its gradients waits for one before it begins its next step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NoReturn

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from ps_protocol.shared_objects import Json
from worker_client.graph.computation import SharedCall, TrainingHome
from worker_client.graph.operation import Operation, Tensor
from worker_client.objects.shared_object import ObjectConnection
from worker_client.resources.graph_objects import graph_of_sessions, made_object
from worker_client.resources.queues import QueueBase
from worker_client.training.synchronous.crew import Crew
from worker_client.values.dtypes import DType
from worker_client.values.shapes import TensorShape

NAME: Final = "sync_token_q"
"""Of the queue, on the cluster too: all these optimizers share it."""


class TokenQueue(QueueBase):
    """A queue of steps, of which each worker takes each once.

    Args:
        dtype: Of the global step.
        once: Whether a worker takes a token once; if not, whoever comes takes what there is.
        crew: Returns who trains together, in the session of a home.
    """

    _names_closer = True

    def __init__(self, dtype: Any, *, once: bool, crew: Callable[[TrainingHome], Crew]):
        graph, step = graph_of_sessions("FIFOQueue"), DType.of(dtype)
        with graph.control_dependencies(None), graph.device("/device:CPU:*"):
            shared = made_object(
                "FIFOQueueV2",
                NAME,
                folder="tokens",
                kind="step_tokens",
                settings={},
                shared_name=NAME,
                attributes={"capacity": -1, "component_types": [step], "shapes": [[]]},
                handle_shape=[],
            )
        super().__init__([step], [TensorShape([])], None, shared)
        self._once = once
        self._crew = crew

    def dequeue(self, name: str | None = None) -> Tensor:
        """Takes a token each time that a session runs it; the run waits for one."""
        call = SharedCall(self._object, self._taking, at_home=True)
        taken: Tensor = self._dequeued("QueueDequeueV2", [], self._shapes, call, name or f"{self._short_name}_Dequeue")
        return taken

    def enqueue_tokens(self, steps: Any, *, keep: int | None) -> Operation:
        """Puts tokens in each time that a session runs it.

        Args:
            steps: The steps, a vector.
            keep: How many earlier ones stay that nobody has taken; None for all.
        """
        with self._graph.name_scope(f"{self._short_name}_EnqueueMany") as scope:
            tensors = self._components((steps,))
            return self._putting("QueueEnqueueManyV2", tensors, keep, scope)

    def enqueue(self, vals: Any, name: str | None = None) -> Operation:
        """Puts one token in each time that a session runs it."""
        with self._graph.name_scope(name or f"{self._short_name}_enqueue") as scope:
            return self._putting("QueueEnqueueV2", self._components(vals), None, scope)

    def enqueue_many(self, vals: Any, name: str | None = None) -> Operation:
        """Puts tokens in each time that a session runs it."""
        with self._graph.name_scope(name or f"{self._short_name}_EnqueueMany") as scope:
            return self._putting("QueueEnqueueManyV2", self._components(vals), None, scope)

    def is_left_open_by(self, home: TrainingHome) -> bool:
        """Has the session make no more steps, and leaves it open: its workers wait for who makes them next."""
        self._crew(home).stop()
        return True

    def is_given_up_by(self, home: TrainingHome) -> None:
        """Has another task make the steps."""
        self._crew(home).resign()

    def dequeue_many(self, n: Any, name: str | None = None) -> NoReturn:
        """Not supported: each token is for another worker."""
        del n, name
        raise NotImplementedError("tokens are taken one by one, since each is for another worker; use dequeue()")

    def dequeue_up_to(self, n: Any, name: str | None = None) -> NoReturn:
        """Not supported, as ``dequeue_many``."""
        self.dequeue_many(n, name)

    def _putting(self, op_type: str, tensors: list[Tensor], keep: int | None, scope: str) -> Operation:
        call = SharedCall(self._object, lambda steps: _Putting(np.ravel(steps).tolist(), keep))
        return self._enqueue_op(op_type, tensors, call, scope)

    def _taking(self, home: TrainingHome) -> _TakingToken:
        return _TakingToken(self._crew(home), self._dtypes[0].dtype, self._once)


class _Putting:
    """Puts tokens in."""

    waits_for = "room for tokens"

    def __init__(self, steps: list[int], keep: int | None):
        self._steps = steps
        self._keep = keep

    def attempt(self, shared: ObjectConnection) -> tuple[Array, ...]:
        """Puts them in."""
        shared.act({"do": "put", "steps": self._steps, "keep": self._keep})
        return ()

    def question(self) -> Json:
        """Not asked: there is nothing to wait for."""
        return {"ask": "size"}


class _TakingToken:
    """Takes a token, and looks after the steps while there is none."""

    def __init__(self, crew: Crew, dtype: np.dtype[Any], once: bool):
        self._crew = crew
        self._dtype = dtype
        self._asked = {"by": crew.name if crew.is_shared else None, "any": not once}
        crew.join()

    @property
    def waits_for(self) -> str:
        """What is waited for, for the log and for errors."""
        return f"a token of queue {NAME}: for the next step, which {self._crew.who_leads()}"

    def attempt(self, shared: ObjectConnection) -> tuple[Array, ...] | None:
        """Takes it; None if there is none."""
        step = self._crew.step_without_token()
        if step is None:
            answer = shared.act({"do": "take", **self._asked})
            if answer is None:
                return None
            step = answer["step"]
            self._crew.has_token()
        if not np.can_cast(np.min_scalar_type(step), self._dtype):
            raise InvalidArgumentError(f"step {step} of queue {NAME} is no {self._dtype.name}")
        return (np.array(step, self._dtype),)

    def question(self) -> Json:
        """What the queue answers when there is one, or never will be."""
        return {"ask": "token", **self._asked}

    def meanwhile(self, shared: ObjectConnection) -> None:
        """Makes the steps if nobody else does."""
        del shared
        self._crew.see_to_steps()
