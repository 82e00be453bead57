"""Reads go on while a restore puts values in their places; none has seen some of before and some of after."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, contextmanager
from typing import Any
from uuid import UUID

import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import FailedPreconditionError, StateLostError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import Batch, BatchReply, Declare, Read, Result, VariableSpec
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import MemoryState, State
from ps_server.log.logged_state import LoggedState
from ps_server.log.restore_mark import RestoreMark, incarnation_after
from ps_server.log.state_parts import StateParts
from ps_server.store.stored_variable import VariableImage

TIMEOUT_S = 20.0
CLUSTER = ClusterSpec({"ps": ["127.0.0.1:1"]})
CLIENT, STORE, RESTORE = (UUID(int=number) for number in (1, 2, 3))
SPECS = [VariableSpec(name, np.dtype(np.int64), (2,)) for name in ("v", "w")]


@contextmanager
def memory_state() -> Iterator[State]:
    yield MemoryState(StateParts(CLUSTER, 0), STORE)


@contextmanager
def logged_state() -> Iterator[State]:
    state = LoggedState(StateParts(CLUSTER, 0), STORE)
    log = state.start([], on_fatal=lambda error: pytest.fail(str(error)))
    yield state
    assert log.close(TIMEOUT_S)


def declared(state: State) -> ParameterServer:
    core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=state)
    core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
    declarations = tuple(Declare(spec, InitializerSpec(ConstantKind(0))) for spec in SPECS)
    core.exchange(Batch(CLIENT, STORE, 1, declarations), timeout_s=TIMEOUT_S)
    return core


def switch(state: State) -> None:
    images = [VariableImage(spec, np.full(2, 7, np.int64), 5) for spec in SPECS]
    state.switch(images, RestoreMark(RESTORE, "/x", is_complete=False), [], TIMEOUT_S)
    state.finish_restore(RestoreMark(RESTORE, "/x", is_complete=True), TIMEOUT_S)


def values_of(reply: BatchReply) -> list[list[int]]:
    return [each.tensor.tolist() for each in reply.replies if isinstance(each, Result) and each.tensor is not None]


def read(core: ParameterServer, store: UUID) -> BatchReply:
    return core.exchange(Batch(CLIENT, store, 0, tuple(Read(spec.name) for spec in SPECS)), timeout_s=TIMEOUT_S)


KINDS = pytest.mark.parametrize("make", [memory_state, logged_state])


@KINDS
def test_a_read_that_comes_in_the_middle_is_refused(
    make: Callable[[], AbstractContextManager[State]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with make() as state:
        core = declared(state)
        variables, refused = state.parts.store.variables, list[str]()
        put = variables.put

        def put_and_read(image: VariableImage, position: int) -> None:
            put(image, position)
            for store in (STORE, incarnation_after(STORE, RESTORE)):
                with pytest.raises((StateLostError, FailedPreconditionError)) as caught:
                    read(core, store)
                refused.append(type(caught.value).__name__)

        monkeypatch.setattr(variables, "put", put_and_read)
        switch(state)
        assert refused == ["StateLostError", "FailedPreconditionError"] * len(SPECS)
        assert values_of(read(core, incarnation_after(STORE, RESTORE))) == [[7, 7], [7, 7]]


@KINDS
def test_a_read_that_began_before_and_ends_in_the_middle_is_refused(
    make: Callable[[], AbstractContextManager[State]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with make() as state, ThreadPoolExecutor(1) as pool:
        core = declared(state)
        variables, seen = state.parts.store.variables, list[list[list[int]]]()
        put, read_values = variables.put, state.read
        has_begun, is_in_the_middle = threading.Event(), threading.Event()

        def slow_read(*args: Any) -> BatchReply:
            has_begun.set()
            assert is_in_the_middle.wait(TIMEOUT_S)
            reply: BatchReply = read_values(*args)
            seen.append(values_of(reply))
            return reply

        def put_and_wait(image: VariableImage, position: int) -> None:
            put(image, position)
            is_in_the_middle.set()
            with pytest.raises(StateLostError):
                reading.result(TIMEOUT_S)

        monkeypatch.setattr(state, "read", slow_read)
        monkeypatch.setattr(variables, "put", put_and_wait)
        reading = pool.submit(read, core, STORE)
        assert has_begun.wait(TIMEOUT_S)
        switch(state)
        assert seen == [[[7, 7], [0, 0]]]  # which nobody has got
