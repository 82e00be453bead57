"""A primary and its follower over a real connection: the image, the records, who is waited for, and who is not."""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from dataclasses import replace
from uuid import UUID, uuid4

import grpc
import numpy as np
import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import DeadlineExceededError, FailedPreconditionError
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import (
    Batch,
    BatchReply,
    Declare,
    PsOperation,
    Read,
    Result,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.sockets.frames import TICKET_BYTES
from ps_protocol.v1 import replication_pb2
from ps_server.core.parameter_server import ParameterServer
from ps_server.log.commit_log import SinkUnavailableError
from ps_server.log.logged_state import LoggedState
from ps_server.log.records import ClientLeft, LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.log.state_parts import StateParts
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget
from ps_server.replication.backup_link import BackupLink, OtherProcess
from ps_server.replication.follower import Follower, FollowStream
from ps_server.replication.pair_settings import PairSettings
from ps_server.replication.servicer import Admit, ReplicationServicer
from ps_server.transport.sockets.listener import SocketListener, SocketSettings
from tests.conftest import Eventually

TIMEOUT_S = 20.0
AT_ONCE_S = 0.05
LEASE_S = 1.0
CLUSTER = ClusterSpec({"ps": ["ps0.example:1", "ps1.example:1"]})
SPEC = VariableSpec("weights", np.dtype(np.float32), (300, 100))
"""Larger than what goes in one frame."""

CLIENT = UUID(int=1)


class Side:
    """One process of a pair, without the process."""

    def __init__(self) -> None:
        self.process = uuid4()
        self.state = LoggedState(StateParts(CLUSTER, 0))
        self.core = ParameterServer(cluster_spec=CLUSTER, task_index=0, state=self.state)
        self.broken: list[str] = []
        self.follower = Follower(self.state, task="ps:0", process=self.process, on_broken=self.broken.append)
        self.sequence = 0

    def send(self, *operations: PsOperation, timeout_s: float = TIMEOUT_S) -> BatchReply:
        batch = Batch(CLIENT, self.core.store_incarnation, 0, operations)
        if batch.mutates:
            self.sequence += 1
            batch = Batch(CLIENT, self.core.store_incarnation, self.sequence, operations)
        return self.core.exchange(batch, timeout_s=timeout_s)

    def add(self, value: float, *, timeout_s: float = TIMEOUT_S) -> None:
        update = np.full(SPEC.shape, value, np.float32)
        self.send(Update("weights", UpdateRule.ASSIGN_ADD, update), timeout_s=timeout_s)


class Pair:
    """A primary with a client that has declared a variable, and whoever follows it."""

    def __init__(self, resources: ExitStack, *, has_connection: bool, admit: Admit | None = None):
        self._resources = resources
        self._has_connection = has_connection
        self._other_way = admit
        self._sockets: SocketListener | None = None
        self._address = ""
        self.primary = Side()
        self.backup = Side()
        self._server = self._serve(self.backup)
        primary = self.primary
        self.link = BackupLink(
            OtherProcess("backup:0", self._address),
            task="ps:0",
            process=primary.process,
            take_image=primary.state.take_image,
            lease_s=LEASE_S,
        )
        self.log = primary.state.start([self.link], on_fatal=lambda error: pytest.fail(str(error)))
        resources.callback(self.link.close)
        resources.callback(self.log.close, TIMEOUT_S)
        resources.callback(self.link.go_alone)
        primary.core.hello(CLIENT, "worker:0", timeout_s=TIMEOUT_S)
        primary.send(Declare(SPEC, InitializerSpec(ConstantKind(1.0))))
        primary.add(1.0)

    def start(self) -> None:
        self.link.start(1, self.primary.core.store_incarnation)

    def replace_backup(self) -> None:
        """Another process comes up where the backup was."""
        self.stop_backup()
        self.backup = Side()
        self._server = self._serve(self.backup)

    def bring_back(self) -> None:
        """The same one is reachable again."""
        self._server = self._serve(self.backup)

    def stop_backup(self) -> None:
        if self._sockets is not None:
            self._sockets.stop(0.0)
        self._server.stop(None).wait(TIMEOUT_S)

    def promoted(self) -> Side:
        """The backup as it would serve."""
        self.backup.follower.stop()
        self.backup.state.start(
            [], on_fatal=lambda error: pytest.fail(str(error)), store_incarnation=self.backup.follower.store
        )
        return self.backup

    def _admit(self, side: Side) -> Admit | None:
        """Has the other way to a follower, if this pair is to use it."""
        if not self._has_connection:
            return self._other_way
        budget = ByteBudget(0)
        sockets = SocketListener(side.core, SocketSettings(host="127.0.0.1"), staging=budget, buffers=BufferPool(0))
        sockets.start()
        self._sockets = sockets
        self._resources.callback(sockets.stop, 0.0)
        return sockets.admit

    def _serve(self, side: Side) -> grpc.Server:
        executor = ThreadPoolExecutor(4)
        server = grpc.server(executor, options=[("grpc.so_reuseport", 0)])
        ReplicationServicer(side.follower, silence_s=TIMEOUT_S, admit=self._admit(side)).add_to(server)
        port = server.add_insecure_port(self._address or "127.0.0.1:0")
        self._address = f"127.0.0.1:{port}"
        server.start()
        self._resources.callback(executor.shutdown)
        self._resources.callback(lambda: server.stop(None).wait(TIMEOUT_S))
        return server


@pytest.fixture(params=["connection", "messages"])
def pair(request: pytest.FixtureRequest) -> Iterator[Pair]:
    with ExitStack() as resources:
        yield Pair(resources, has_connection=request.param == "connection")


@pytest.fixture
def in_step(pair: Pair, eventually: Eventually) -> Pair:
    pair.start()
    eventually(lambda: pair.link.in_step, message="the backup is in step")
    return pair


def value_of(side: Side) -> float:
    [reply] = side.send(Read("weights")).replies
    assert isinstance(reply, Result)
    assert reply.tensor is not None
    assert (reply.tensor == reply.tensor.flat[0]).all()
    return float(reply.tensor.flat[0])


def test_alone_a_primary_waits_for_nobody(pair: Pair) -> None:
    pair.stop_backup()
    pair.start()
    pair.primary.add(1.0, timeout_s=TIMEOUT_S)
    assert value_of(pair.primary) == 3.0


def test_a_follower_with_other_settings_refuses_and_both_say_so(
    pair: Pair, eventually: Eventually, caplog: pytest.LogCaptureFixture
) -> None:
    mine = PairSettings("ps:0", "backup:0", LEASE_S, "journal")
    pair.link._settings = mine
    pair.backup.follower._settings = replace(mine, place="backup:0", other="ps:0", durability="none")
    says = "backup:0 has --durability none, and ps:0 --durability journal: start both processes with the same"
    pair.backup.follower.heard_s = float("-inf")
    pair.start()
    eventually(lambda: says in pair.link.obstacle, message="the primary knows why it is alone")
    eventually(
        lambda: any(f"{says}: backup:0 at " in record.message for record in caplog.records),
        message="the primary says so",
    )
    assert pair.link.in_step is None
    assert not pair.backup.follower.is_attached
    assert pair.backup.follower.heard_s > 0, "it must not begin in the place of its primary"
    pair.backup.follower._settings = replace(mine, place="backup:0", other="ps:0")
    eventually(lambda: pair.link.in_step, message="with the same settings it follows")


def test_a_follower_has_the_state_and_every_acknowledged_update(in_step: Pair) -> None:
    for _ in range(20):
        in_step.primary.add(1.0)
    position = in_step.log.committed_position
    backup = in_step.promoted()
    assert backup.state.replayed_position >= position
    assert value_of(backup) == 22.0
    # What was acknowledged is answered again, and not applied again: the client may have lost the answer.
    backup.sequence = in_step.primary.sequence - 1
    backup.add(1.0)
    assert value_of(backup) == 22.0
    backup.add(1.0)
    assert value_of(backup) == 23.0


def test_what_is_too_large_for_a_message_is_sent_in_pieces(in_step: Pair, eventually: Eventually) -> None:
    """The server of the follower takes messages of 4 MiB, as a ps does."""
    large = ClientLeft(uuid4(), "x" * 5 * 1024**2)
    position = in_step.log.append(large, 1)
    in_step.log.wait_committed(position, TIMEOUT_S)
    assert in_step.backup.state.replayed_position >= position
    in_step.link.go_alone()
    in_step.replace_backup()
    eventually(lambda: in_step.link.in_step, message="another one is in step, whose image has it too")
    assert in_step.backup.state.replayed_position >= position


def test_a_follower_may_take_longer_than_a_lease_to_put_the_image_on_its_disk(
    pair: Pair, monkeypatch: pytest.MonkeyPatch, eventually: Eventually
) -> None:
    link, follower, state = pair.link, pair.backup.follower, pair.backup.state
    restore, make_safe = state.restore, state.make_safe
    images: list[int] = []
    heard_s: list[float] = []

    def restored_slowly(image: StateImage) -> None:
        images.append(image.position)
        follower.heard_s = float("-inf")
        with link.changed:
            link._answered_s = link._called_s = time.monotonic() - 2 * LEASE_S
        link.hang_up_if_silent()
        restore(image)

    def made_safe() -> int:
        if images:
            heard_s.append(follower.heard_s)
        return make_safe()

    monkeypatch.setattr(state, "restore", restored_slowly)
    monkeypatch.setattr(state, "make_safe", made_safe)
    pair.start()
    eventually(lambda: link.in_step == pair.backup.process, timeout_s=TIMEOUT_S, message="the follower is in step")
    assert len(images) == 1
    assert heard_s[0] > float("-inf"), "or it would end itself, since its primary seems to be silent"


def test_a_backup_whose_port_cannot_be_reached_follows_by_messages(eventually: Eventually) -> None:
    with ExitStack() as resources, socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))  # and does not listen
        port = nobody.getsockname()[1]
        pair = Pair(resources, has_connection=False, admit=lambda _serve: (port, uuid4(), bytes(TICKET_BYTES)))
        pair.start()
        eventually(lambda: pair.link.in_step, message="the backup is in step")
        pair.primary.add(1.0)
        assert value_of(pair.promoted()) == 3.0


def test_an_update_waits_for_a_backup_that_is_held(in_step: Pair, eventually: Eventually) -> None:
    follower = in_step.link.in_step
    assert follower == in_step.backup.process
    assert in_step.link.hold(follower)
    in_step.stop_backup()
    with pytest.raises(DeadlineExceededError, match="backup:0"):
        in_step.primary.add(1.0, timeout_s=AT_ONCE_S)
    eventually(lambda: "does not answer" in in_step.log.obstacle, message="it can be seen what is waited for")

    in_step.bring_back()  # the same process: it goes on with the next record, without an image
    in_step.log.wait_committed(in_step.log.last_position, TIMEOUT_S)
    assert value_of(in_step.promoted()) == 3.0


def test_an_update_goes_on_when_the_backup_is_let_go_of(in_step: Pair) -> None:
    assert in_step.link.hold(in_step.backup.process)
    in_step.stop_backup()
    with pytest.raises(DeadlineExceededError):
        in_step.primary.add(1.0, timeout_s=AT_ONCE_S)
    in_step.link.go_alone()
    in_step.log.wait_committed(in_step.log.last_position, TIMEOUT_S)


@pytest.mark.parametrize(
    "fault",
    [
        Fault("replication.send", FaultAction.DROP, 3, 3),
        Fault("replication.received", FaultAction.DROP, 3, 3),
        Fault("replication.received", FaultAction.DUPLICATE, 3, 3),
        Fault("replication.applied", FaultAction.DROP, 3, 3),
    ],
    ids=lambda fault: f"{fault.place}={fault.action}",
)
def test_a_stream_that_breaks_loses_nothing_and_repeats_nothing(in_step: Pair, fault: Fault) -> None:
    assert in_step.link.hold(in_step.backup.process)
    with installed(FaultPlan((fault,))) as plan:
        for _ in range(6):
            in_step.primary.add(1.0)
        assert plan.fired(fault.place) == 1
    assert in_step.link.in_step == in_step.backup.process
    assert in_step.backup.broken == []
    assert value_of(in_step.promoted()) == 8.0


def test_a_link_that_was_closed_keeps_nobody(in_step: Pair) -> None:
    """As at a handover: who waits for an answer that will not come goes to the other process."""
    assert in_step.link.hold(in_step.backup.process)
    in_step.link.close()
    position = in_step.log.last_position + 1
    with pytest.raises(SinkUnavailableError, match="has let go of it"):
        in_step.link.write([LoggedRecord(position, ClientLeft(CLIENT, "has said goodbye"))])


def test_another_process_in_the_place_of_the_backup_is_not_the_backup(in_step: Pair, eventually: Eventually) -> None:
    assert in_step.link.hold(in_step.backup.process)
    in_step.replace_backup()
    eventually(lambda: in_step.link.is_replaced, message="the primary has noticed")
    with pytest.raises(DeadlineExceededError):
        in_step.primary.add(1.0, timeout_s=AT_ONCE_S)

    in_step.link.go_alone()
    eventually(lambda: in_step.link.in_step == in_step.backup.process, message="the new one is brought into step")
    in_step.primary.add(1.0)
    assert value_of(in_step.promoted()) == 4.0


def test_a_follower_that_has_stopped_acknowledges_nothing(in_step: Pair) -> None:
    """So its primary, which may have been replaced without knowing it, cannot either."""
    assert in_step.link.hold(in_step.backup.process)
    in_step.backup.follower.stop()
    heard_s = in_step.link.heard_s
    with pytest.raises(DeadlineExceededError):
        in_step.primary.add(1.0, timeout_s=LEASE_S)
    assert in_step.link.heard_s <= max(heard_s, in_step.backup.follower.heard_s)
    assert value_of(in_step.promoted()) == 2.0


def test_a_follower_refuses_an_older_epoch_and_another_primary(in_step: Pair) -> None:
    follower = in_step.backup.follower
    follower.begin_epoch(5)

    def attach(epoch: int, process: UUID, task: str = "ps:0") -> None:
        frame = replication_pb2.FollowFrame()
        frame.attachment.task, frame.attachment.epoch = task, epoch
        frame.attachment.process = process.bytes
        frame.attachment.store_incarnation = in_step.primary.core.store_incarnation.bytes
        FollowStream(follower).feed(frame.SerializeToString())

    refused: list[tuple[str, Callable[[], None]]] = [
        ("epoch 4 is over", lambda: attach(4, in_step.primary.process)),
        ("another primary", lambda: attach(6, uuid4())),
        ("not of ps:1", lambda: attach(6, in_step.primary.process, task="ps:1")),
    ]
    for reason, call in refused:
        with pytest.raises(FailedPreconditionError, match=reason):
            call()
    attach(6, in_step.primary.process)


def test_attempts_of_a_primary_that_has_let_go_of_it_are_no_sign_of_life_to_a_follower() -> None:
    """It can become the backup only when it has ended and is started again, which it does after a lease of silence."""
    now_s = 100.0
    primary, follower = (
        Side(),
        Follower(
            LoggedState(StateParts(CLUSTER, 0)),
            task="ps:0",
            process=uuid4(),
            on_broken=pytest.fail,
            clock=lambda: now_s,
        ),
    )
    frame = replication_pb2.FollowFrame()
    frame.attachment.task, frame.attachment.epoch, frame.attachment.process = "ps:0", 1, primary.process.bytes
    frame.attachment.store_incarnation = primary.core.store_incarnation.bytes
    stream = FollowStream(follower)
    stream.feed(frame.SerializeToString())
    follower.restore(stream, StateImage(0, (), ()))

    now_s += LEASE_S
    again = FollowStream(follower)
    again.feed(frame.SerializeToString())
    assert follower.heard_s == now_s - LEASE_S
    again.hear()
    assert follower.heard_s == now_s


def test_a_follower_is_heard_of_since_it_was_asked_for_a_sign_only_while_it_is_there(
    in_step: Pair, eventually: Eventually
) -> None:
    link = in_step.link
    assert link.hold(in_step.backup.process)
    asked_s = time.monotonic()
    assert not link.has_heard_since(asked_s)
    link.ask_for_sign()
    eventually(lambda: link.has_heard_since(asked_s), message="the follower gives a sign of life")
    in_step.stop_backup()
    eventually(lambda: not link.has_heard_since(asked_s), message="the link knows that it is gone")
    assert link.in_step == in_step.backup.process
