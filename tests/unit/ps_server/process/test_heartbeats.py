"""The ps's own heartbeats: it tells the others where it is, learns where they are, and names the dead."""

from __future__ import annotations

import errno
import logging
import threading
from collections.abc import Sequence
from uuid import UUID

import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.errors import AbortedError, ShardscopeError, UnavailableError
from ps_protocol.service_types import MemberState, PsAddress
from ps_server.cluster.address_book import AddressBook
from ps_server.core.parameter_server import ParameterServer
from ps_server.process.heartbeats import PsHeartbeats
from ps_server.process.peers import PeerAnswers
from tests.conftest import Eventually

SPEC = ClusterSpec({"ps": ["a:1", "b:1", "c:1"]})
OWN = PsAddress("ps:0", "a:1", UUID(int=1))
OTHER = PsAddress("ps:1", "b:7", UUID(int=2))
LEASE_S = 9.0
TIMEOUT_S = 10.0


class Clock:
    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


class ScriptedPeers:
    """The other ps tasks, that answer by script."""

    def __init__(self) -> None:
        self.learned: list[PsAddress] = []
        self.failures: list[ShardscopeError] = []
        self.announced: list[PsAddress] = []
        self.ages_s: list[float] = []
        self.clusters: list[UUID | None] = []
        self.cluster: UUID | None = None
        self.addresses: dict[str, str] = {}
        self.left: list[PsAddress] = []
        self.is_closed = False

    def learn_address(self, address: PsAddress) -> None:
        self.addresses[address.task] = address.address

    def announce(
        self,
        address: PsAddress,
        host: str,
        pid: int,
        *,
        lease_s: float,
        age_s: float,
        cluster: UUID | None,
        timeout_s: float,
    ) -> PeerAnswers:
        assert 0 < timeout_s <= LEASE_S / 3
        assert lease_s == LEASE_S
        self.announced.append(address)
        self.ages_s.append(age_s)
        self.clusters.append(cluster)
        return PeerAnswers(self.learned, self.failures, self.cluster)

    def leave(self, first_ps: str, address: PsAddress, *, timeout_s: float) -> None:
        assert first_ps == "ps:0"
        self.left.append(address)

    def close(self) -> None:
        self.is_closed = True


class Ps:
    def __init__(self, task_index: int = 0, remembered: Sequence[PsAddress] = ()) -> None:
        self.clock = Clock()
        book = AddressBook(3, remembered=remembered)
        self.core = ParameterServer(cluster_spec=SPEC, task_index=task_index, addresses=book, clock=self.clock)
        self.peers = ScriptedPeers()
        self.own = PsAddress(f"ps:{task_index}", f"{'abc'[task_index]}:1", UUID(int=1))
        self.heartbeats = PsHeartbeats(self.core, self.own, self.peers, lease_s=LEASE_S, clock=self.clock)


def test_a_ps_is_in_its_own_book_and_ps_0_is_a_member() -> None:
    ps = Ps()
    ps.heartbeats.announce()
    assert ps.core.list_addresses(timeout_s=TIMEOUT_S) == [OWN]
    (member,) = ps.core.list_members(timeout_s=TIMEOUT_S)
    assert (member.task, member.state, member.lease_s) == ("ps:0", MemberState.ACTIVE, LEASE_S)
    assert ps.peers.announced == [OWN]


def test_what_the_others_know_is_learned_but_not_about_itself() -> None:
    ps = Ps()
    ps.peers.learned = [
        OTHER,
        PsAddress("ps:0", "elsewhere:1", UUID(int=9), epoch=8),
        PsAddress("ps:9", "d:1", OTHER.incarnation),
    ]
    ps.heartbeats.announce()
    assert ps.core.list_addresses(timeout_s=TIMEOUT_S) == [OWN, OTHER]


def test_one_that_has_moved_is_told_at_its_new_address() -> None:
    ps = Ps()
    ps.core.announce(OTHER, "host", 1, timeout_s=TIMEOUT_S)
    ps.heartbeats.announce()
    assert ps.peers.addresses["ps:1"] == "b:7"


def test_one_that_moved_before_this_process_began_is_told_where_it_was_last() -> None:
    ps = Ps(remembered=[OTHER])
    ps.heartbeats.announce()
    assert ps.peers.addresses["ps:1"] == "b:7"


def test_peers_that_are_away_are_no_failure() -> None:
    ps = Ps(1)
    ps.peers.failures = [UnavailableError("away")]
    ps.heartbeats.announce()
    ps.clock.now_s = 3.0
    ps.heartbeats.announce()
    assert ps.peers.ages_s == [0.0, 3.0]


def test_a_ps_0_that_starts_later_is_told_soon_and_one_that_stays_away_seldom() -> None:
    ps = Ps(1)
    ps.peers.failures = [UnavailableError("away", task="ps:0")]
    assert [ps.heartbeats.announce() for _ in range(6)] == [0.25, 0.5, 1.0, 2.0, 3.0, 3.0]
    ps.peers.failures = [UnavailableError("away", task="ps:2"), AbortedError("replaced", task="ps:0", retryable=False)]
    assert ps.heartbeats.announce() == 3.0
    ps.peers.failures = [UnavailableError("away", task="ps:0")]
    assert ps.heartbeats.announce() == 0.25


def test_another_process_with_the_same_task_is_an_error_told_once(caplog: pytest.LogCaptureFixture) -> None:
    ps = Ps(1)
    ps.peers.failures = [AbortedError("ps:1 has announced itself at b:9 since", retryable=False)]
    for _ in range(3):
        ps.heartbeats.announce()
    assert [record.levelname for record in caplog.records] == ["ERROR"]
    assert "another process is this ps task: ps:1 has announced itself at b:9" in caplog.text


def test_a_ps_that_was_replaced_goes_on_without_telling_the_others(caplog: pytest.LogCaptureFixture) -> None:
    ps = Ps(1)
    ps.core.announce(PsAddress("ps:1", "b:7", UUID(int=5), epoch=1), "host", 1, timeout_s=TIMEOUT_S)
    ps.heartbeats.announce()
    assert ps.peers.announced == []
    assert "another process is this ps task" in caplog.text


def test_ps_0_tells_the_others_of_which_cluster_they_are_and_they_learn_it_from_its_answer_too() -> None:
    first, second = Ps(), Ps(1)
    first.heartbeats.announce()
    second.heartbeats.announce()
    assert (first.peers.clusters, second.peers.clusters) == ([first.core.store_incarnation], [None])
    assert (first.core.cluster, second.core.cluster) == (first.core.store_incarnation, None)
    second.peers.cluster = first.core.own_cluster
    second.heartbeats.announce()
    assert second.core.cluster == first.core.store_incarnation
    assert second.core.own_cluster is None


def test_ps_0_names_a_dead_member_once_and_its_return_once(caplog: pytest.LogCaptureFixture) -> None:
    ps = Ps()
    worker = UUID(int=3)
    ps.core.join("worker:2", worker, "host", 77, lease_s=3.0, timeout_s=TIMEOUT_S)
    ps.core.report_progress("worker:2", worker, 1200, timeout_s=TIMEOUT_S)
    with caplog.at_level(logging.WARNING):
        for now_s in (2.0, 3.5, 4.0):
            ps.clock.now_s = now_s
            ps.heartbeats.watch()
        ps.core.heartbeat("worker:2", worker, timeout_s=TIMEOUT_S)
        ps.heartbeats.watch()
        ps.heartbeats.watch()
    assert caplog.messages == [
        "worker:2 (pid 77 on host, 1,200 steps) is dead: not heard of for 3.5 s, longer than its lease of 3 s",
        "worker:2 (pid 77 on host, 1,200 steps) is back",
    ]


def test_the_end_is_told_and_the_connections_are_closed() -> None:
    ps = Ps(1)
    ps.heartbeats.start()
    ps.heartbeats.stop()
    assert ps.peers.left == [ps.own]
    assert ps.peers.is_closed


def test_a_moment_without_descriptors_ends_no_heartbeat_and_is_seen_in_the_status(eventually: Eventually) -> None:
    ps = Ps()
    healed = threading.Event()

    class Peers(ScriptedPeers):
        failed = 0

        def leave(self, first_ps: str, address: PsAddress, *, timeout_s: float) -> None:
            self.left.append(address)

        def announce(self, address: PsAddress, *_args: object, **_options: object) -> PeerAnswers:
            if not healed.is_set():
                self.failed += 1
                raise OSError(errno.EMFILE, "Too many open files")
            self.announced.append(address)
            return PeerAnswers([], [], None)

    peers = Peers()
    beats = PsHeartbeats(ps.core, ps.own, peers, lease_s=0.01)
    beats.start()
    eventually(lambda: peers.failed >= 2)
    assert ps.core.status(timeout_s=0).troubles == ("heartbeats: OSError: [Errno 24] Too many open files",)
    healed.set()
    eventually(lambda: peers.announced)
    eventually(lambda: not ps.core.status(timeout_s=0).troubles)
    beats.stop()
    assert peers.left == [ps.own]
