"""Who waits at a ps for an answer of a shared object, and what ends that."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from uuid import uuid4

import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import UnavailableError
from ps_protocol.operations import Batch, Declare, PsOperation, Reply, Result, VariableSpec, Verdict, mutates
from ps_protocol.shared_objects import OBJECT_DTYPE, Act, Json, Look, encode_json
from ps_server.core.parameter_server import ParameterServer
from ps_server.core.state import SingleRole
from ps_server.core.waits import Waits
from tests.conftest import Eventually

TIMEOUT_S = 60.0
LONG_S = 20.0
NAME = "meeting"


class Role(SingleRole):
    """Of a process that is the primary until a test takes that away."""

    is_lost = False

    def check_may_answer(self) -> None:
        if self.is_lost:
            raise UnavailableError("this process is not the primary any more")

    def check_may_read(self) -> None:
        self.check_may_answer()


class Ps:
    """A ps task with a barrier at which one has arrived, and a client."""

    def __init__(self, max_waits: int = 2):
        self.role = Role()
        self.core = ParameterServer(
            cluster_spec=ClusterSpec({"ps": ["a.example:1"]}), task_index=0, role=self.role, max_waits=max_waits
        )
        self._client = uuid4()
        self._sequence = 0
        self.is_wanted = True
        self.core.hello(self._client, "worker:0", timeout_s=TIMEOUT_S)
        self.run(Declare(VariableSpec(NAME, OBJECT_DTYPE, (), object_kind="barrier")))
        self.act({"open": {}, "by": "worker:0"})
        self.arrive("worker:0")

    def run(self, operation: PsOperation) -> Reply:
        changes = mutates((operation,))
        self._sequence += changes
        batch = Batch(self._client, self.core.store_incarnation, self._sequence if changes else 0, (operation,))
        reply = self.core.exchange(batch, timeout_s=TIMEOUT_S, is_wanted=lambda: self.is_wanted)
        return reply.replies[0]

    def act(self, event: Json) -> None:
        assert isinstance(self.run(Act(NAME, "barrier", encode_json(event))), Result)

    def arrive(self, by: str) -> None:
        self.act({"do": "arrive", "by": by, "id": "a", "call": 1, "count": 2, "store": "s"})

    def look(self, wait_s: float = LONG_S) -> Verdict:
        question = encode_json({"by": "worker:0", "id": "a", "call": 1, "meeting": 1})
        reply = self.run(Look(NAME, "barrier", question, wait_s))
        assert isinstance(reply, Result)
        return reply.verdict


@pytest.fixture
def ps() -> Ps:
    return Ps()


def test_an_answer_ends_a_wait(ps: Ps, eventually: Eventually) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ps.look)
        eventually(lambda: ps.core.num_waiting == 1)
        ps.arrive("worker:1")
        assert waiting.result(TIMEOUT_S) is Verdict.APPLIED


def test_who_is_not_the_primary_any_more_lets_nobody_wait(ps: Ps, eventually: Eventually) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ps.look)
        eventually(lambda: ps.core.num_waiting == 1)
        ps.role.is_lost = True
        with pytest.raises(UnavailableError, match="not the primary any more"):
            waiting.result(TIMEOUT_S)
    assert ps.core.num_waiting == 0


def test_a_client_that_is_gone_is_not_waited_for(ps: Ps, eventually: Eventually) -> None:
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(ps.look)
        eventually(lambda: ps.core.num_waiting == 1)
        ps.is_wanted = False
        assert waiting.result(TIMEOUT_S) is Verdict.NOT_YET


def test_without_a_place_there_is_no_wait() -> None:
    assert Ps(max_waits=0).look() is Verdict.NOT_YET


def test_places_are_given_back() -> None:
    waits = Waits(1)
    for _ in range(2):
        with waits.place() as first, waits.place() as second:
            assert (first, second, waits.number) == (True, False, 1)
    with pytest.raises(RuntimeError), waits.place():
        raise RuntimeError
    assert waits.number == 0
