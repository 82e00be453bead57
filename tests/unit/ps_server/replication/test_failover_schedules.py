"""Thousands of random failovers: whoever answers has every update that anybody ever acknowledged.

The processes decide with the code itself (``Replica``, ``decide``, ``RegisterStore``); what lies between them is a
model: messages that are late or lost in any combination, calls to the coordination store of which the request or the
reply is lost, processes that are stopped and go on, that are ended in good order, or die, and are replaced, all on one
clock that a schedule moves. A schedule is drawn from a seed, so that one that fails can be run again.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, cast
from uuid import UUID

import pytest

from ps_protocol.errors import UnavailableError
from ps_server.coordination.store import Entry
from ps_server.replication.backup_link import BackupLink
from ps_server.replication.follower import Follower
from ps_server.replication.member import Member
from ps_server.replication.register import FIRST_EPOCH, Register
from ps_server.replication.register_store import RegisterStore
from ps_server.replication.replica import Replica
from ps_server.replication.replica_doors import Transitions
from tests.unit.ps_server.replication.failover_process import Moment

LEASE_S = 10.0
STEPS = 1500
SEEDS = range(60)


class World:
    """The two places of a pair, the coordination store, and all that is on its way between them."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.entry: Entry | None = None
        self.num_processes = 0
        self.is_cut = False  # the two processes from each other
        self.store_is_away = {False: False, True: False}
        self.nodes = {False: Node(self, False), True: Node(self, True)}
        self.acknowledged: set[int] = set()
        self.next_update = 0
        self.seen: Counter[str] = Counter()

    def clock(self) -> float:
        return self.now_s

    @property
    def register(self) -> Register | None:
        return None if self.entry is None else Register.decode(self.entry.value)

    def write(self, value: bytes, revision: int) -> bool:
        before = self.register
        if revision != (0 if self.entry is None else self.entry.revision):
            return False
        self.entry = Entry(value, revision + 1)
        now = Register.decode(value)
        assert before is None or now.epoch > before.epoch or (now.epoch == before.epoch == FIRST_EPOCH)
        return True


class Store:
    """The coordination store as one process sees it: requests and replies are lost, or come too late."""

    name = "the store"

    def __init__(self, world: World, is_second: bool):
        self._world = world
        self._is_second = is_second
        self._late: list[tuple[bytes, int]] = []

    def read(self, key: str, *, timeout_s: float) -> Entry | None:
        assert key == "primary/ps:1"
        assert timeout_s > 0
        self._deliver_late()
        self._lose(0.2)
        return self._world.entry

    def compare_and_set(self, key: str, value: bytes, *, revision: int, timeout_s: float) -> tuple[bool, Entry | None]:
        assert key == "primary/ps:1"
        assert timeout_s > 0
        if self._world.random.random() < 0.2:
            self._late.append((value, revision))  # it arrives when its sender has given it up
            raise UnavailableError("there was no answer in time")
        self._lose(0.1)
        written = self._world.write(value, revision)
        self._lose(0.1)
        return written, self._world.entry

    def watch(self, key: str, *, revision: int, timeout_s: float) -> Entry | None:
        raise NotImplementedError

    def close(self) -> None: ...

    def _deliver_late(self) -> None:
        if self._late and self._world.random.random() < 0.5 and self._world.write(*self._late.pop()):
            self._world.seen["came late"] += 1

    def _lose(self, part: float) -> None:
        if self._world.store_is_away[self._is_second] or self._world.random.random() < part:
            raise UnavailableError("a message was lost")


class Node:
    """One process: the code's decisions, and models of what it follows and replicates with."""

    def __init__(self, world: World, is_second: bool):
        self.world = world
        self.is_second = is_second
        world.num_processes += 1
        self.process = UUID(int=world.num_processes)
        self.updates: list[int] = []  # what it has carried out, in order
        self.is_frozen = False
        self.is_gone = False
        # as the follower
        self.has_state = False
        self.is_stopped = False
        self.is_leaving = self.wants_place = self.is_attached = False
        self.followed: Node | None = None
        self.expected: UUID | None = None
        self.epoch = 0
        self.heard_s = world.now_s
        self.store = UUID(int=0)
        # as the primary
        self.link = Link(self)
        self.replica = Replica(
            Member(self.process),
            task="ps:1",
            is_second=is_second,
            follower=cast(Follower, self),
            link=cast(BackupLink, self.link),
            registers=RegisterStore(Store(world, is_second), task="ps:1"),
            transitions=Transitions(self.begin, lambda _epoch: None, self.handed_over, self.end),
            lease_s=LEASE_S,
            clock=world.clock,
        )
        self.replica._has_retired = Moment()

    @property
    def other(self) -> Node:
        return self.world.nodes[not self.is_second]

    # -- what the code calls ------------------------------------------------------------------

    def begin(self, store: UUID | None) -> UUID:
        self.world.seen["took over" if store is not None else "began"] += 1
        return self.store

    def end(self, _reason: str) -> None:
        self.is_gone = True
        self.world.seen["ended"] += 1

    def handed_over(self, _reason: str) -> None:
        self.world.seen["handed over"] += 1
        self.is_gone = True

    def leave(self) -> None:
        self.is_leaving = True

    def expect(self, primary: UUID | None) -> None:
        self.expected = primary

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = max(self.epoch, epoch)

    def stop(self) -> None:
        self.is_stopped = True

    def follow_again(self) -> None:
        self.is_stopped, self.heard_s = False, self.world.now_s

    # -- what comes from the primary ----------------------------------------------------------

    def takes_from(self, primary: Node) -> bool:
        return not (self.is_frozen or self.is_gone or self.is_stopped) and self.followed is primary

    def serves(self) -> bool:
        if self.is_frozen or self.is_gone:
            return False
        try:
            self.replica.check_may_answer()
        except UnavailableError:
            return False
        return True


class Link:
    """``BackupLink`` without threads: each step of it is one event of the schedule."""

    name = "the other one"
    obstacle = ""

    def __init__(self, node: Node):
        self.node = node
        self.is_started = False
        self.peer: Node | None = None
        self.is_in_step = False
        self.is_held = False
        self.is_replaced = self.is_wanted = False
        self.heard_s = float("-inf")
        self.epoch = 0
        self.waiting: list[int] = []  # carried out, not acknowledged
        self.tokens: list[tuple[Node, float]] = []
        self.answers: list[tuple[Node, float, int]] = []  # token, and how many updates the follower had

    @property
    def is_left(self) -> bool:
        return self.peer is not None and self.peer.is_leaving

    @property
    def is_followed(self) -> bool:
        return self.peer is not None

    def close(self) -> None:
        self.go_alone()

    @property
    def in_step(self) -> UUID | None:
        return self.peer.process if self.peer is not None and self.is_in_step else None

    def ask_for_sign(self) -> None: ...

    def has_heard_since(self, time_s: float) -> bool:
        return self.peer is not None and self.heard_s > time_s

    def start(self, epoch: int, _store: UUID) -> None:
        self.is_started, self.epoch = True, epoch

    def hold(self, follower: UUID) -> bool:
        if self.in_step == follower:
            self.is_held = True
        return self.is_held and self.peer is not None and self.peer.process == follower

    def begin_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def go_alone(self) -> None:
        self.peer, self.is_in_step, self.is_held, self.is_replaced = None, False, False, False
        self.heard_s = float("-inf")
        self.tokens.clear()
        self.answers.clear()

    def hang_up(self) -> None: ...

    def hang_up_if_silent(self) -> None: ...

    # -- events -------------------------------------------------------------------------------

    def converse(self) -> None:
        """A conversation begins, or breaks off."""
        other = self.node.other
        if not self.is_started or other.is_gone or other.is_frozen:
            return
        if self.node.world.is_cut:
            if self.peer is not None and not self.is_held:
                self.go_alone()
            return
        if self.peer is not None:
            self.is_replaced = self.peer is not other
            return
        is_expected = other.expected in (None, self.node.process)
        if not other.has_state and not other.is_stopped and is_expected and other.epoch <= self.epoch:
            self.peer, other.followed, other.epoch = other, self.node, self.epoch
            other.has_state, other.updates = True, list(self.node.updates)  # the image
            other.heard_s = self.node.world.now_s

    def send_token(self) -> None:
        if self.peer is not None:
            self.tokens.append((self.peer, self.node.world.now_s))

    def deliver(self) -> None:
        """A token and the records before it arrive, or an answer does, or one of them is lost."""
        world = self.node.world
        if self.tokens and world.random.random() < 0.6:
            peer, sent_s = self.tokens.pop(0)
            if not world.is_cut and peer.takes_from(self.node):
                peer.heard_s = world.now_s
                peer.updates = list(self.node.updates)
                self.answers.append((peer, sent_s, len(peer.updates)))
        elif self.answers:
            peer, sent_s, num_updates = self.answers.pop(world.random.randrange(len(self.answers)))
            if peer is self.peer:
                self.heard_s = max(self.heard_s, sent_s)
                self.is_in_step = self.is_in_step or num_updates == len(self.node.updates)
                self._acknowledge(num_updates)

    def commit_alone(self) -> None:
        """Without a follower that is in step nobody is waited for."""
        if not self.is_in_step:
            self._acknowledge(len(self.node.updates))

    def _acknowledge(self, num_updates: int) -> None:
        if not self.node.serves():
            return
        for update in [each for each in self.waiting if each in self.node.updates[:num_updates]]:
            self.waiting.remove(update)
            self.node.world.acknowledged.add(update)


def client_calls(world: World) -> None:
    """A client updates, and reads; what it reads has all that was acknowledged to anybody."""
    for node in world.nodes.values():
        if not node.serves():
            continue
        world.seen["served"] += 1
        missing = world.acknowledged - set(node.updates)
        assert not missing, f"at {world.now_s:.1f} s {node.process} answers without {sorted(missing)}"
        world.next_update += 1
        node.updates.append(world.next_update)
        node.link.waiting.append(world.next_update)
        node.link.commit_alone()


def step(world: World, may_die: bool) -> None:
    """One event of a schedule."""
    node = world.nodes[world.random.random() < 0.5]
    event: Any = world.random.choices(
        [
            *("time", "decide", "converse", "token", "deliver", "client"),
            *("freeze", "wake", "cut", "heal", "store", "retire", "die"),
        ],
        [25, 25, 8, 12, 25, 14, 0.4, 0.8, 0.4, 0.8, 0.5, 2.0, 0.2 if may_die else 0],
    )[0]
    runs = not (node.is_frozen or node.is_gone)
    if event == "time":
        world.now_s += world.random.choice([0.02, 0.05, 0.1, 0.3, 1.0, 2.0])
    elif event == "decide" and runs:
        was_second = world.register is not None and world.register.backup == node.process
        node.replica.step()
        is_first = world.register is not None and world.register.primary == node.process
        world.seen["took back"] += was_second and is_first and node.replica.is_primary
        if node.replica.has_retired and not node.is_gone:
            world.seen["left"] += 1
            node.is_gone = True
    elif event == "converse" and runs:
        node.link.converse()
    elif event == "token" and runs:
        node.link.send_token()
    elif event == "deliver" and runs:
        node.link.deliver()
    elif event == "client":
        client_calls(world)
    elif event == "freeze":
        node.is_frozen = True
    elif event == "wake":
        node.is_frozen = False
    elif event == "cut":
        world.is_cut = True
    elif event == "heal":
        world.is_cut = False
    elif event == "store":
        world.store_is_away[node.is_second] = world.random.random() < 0.1
    elif event == "retire" and runs:
        truth = world.register
        if truth is not None and truth.backup is not None and not node.other.replica.is_retiring:
            node.replica.retire(0)  # told to end; it does when the other one goes on
    elif event == "die" or (event == "decide" and node.is_gone):
        replace(world, node)


def replace(world: World, node: Node) -> None:
    """A process is started anew, with nothing; not the only one that is promised to have what was acknowledged."""
    truth = world.register
    if truth is not None and node.process in (truth.primary, truth.backup):
        if node.other.is_gone or node.other.process not in (truth.primary, truth.backup):
            return
        world.seen["died"] += 1
    world.nodes[node.is_second] = Node(world, node.is_second)


@pytest.mark.parametrize("may_die", [False, True])
def test_whoever_answers_has_every_acknowledged_update(may_die: bool) -> None:
    seen: Counter[str] = Counter()
    for seed in SEEDS:
        world = World(seed)
        try:
            for _ in range(STEPS):
                step(world, may_die)
        except AssertionError as error:
            raise AssertionError(f"seed {seed}: {error}") from error
        seen += world.seen
        seen["acknowledged"] += len(world.acknowledged)
    # The schedules do what they are for.
    made = ("took over", "ended", "left", "came late", "served", "acknowledged")
    assert min(seen[each] for each in made) > 5, seen
    assert min(seen["handed over"], seen["took back"]) > 1, seen
    assert seen["died"] > 5 or not may_die


def test_a_primary_that_was_superseded_while_it_asked_for_a_backup_answers_nobody() -> None:
    """It may have been granted a backup by a call whose reply was lost, which has taken over since."""
    world = World(0)
    world.random = NothingIsLost()
    first, second = world.nodes[False], world.nodes[True]
    for node in (first, second, first, first):
        node.replica.step()
    world.now_s += 4 * LEASE_S  # it has waited long enough for a backup
    first.replica.step()
    assert first.serves()
    first.link.converse()
    first.link.send_token()
    first.link.deliver()
    first.link.deliver()
    assert first.link.in_step == second.process

    world.entry = Entry(Register(3, second.process, None, True).encode(), 100)
    first.replica.step()  # asks, and is refused
    world.now_s += LEASE_S
    assert not first.serves()
    first.replica.step()
    assert first.is_gone


class NothingIsLost(random.Random):
    """Lets every message through, at once."""

    def random(self) -> float:
        return 0.5
