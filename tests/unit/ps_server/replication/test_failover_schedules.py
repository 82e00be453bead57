"""Thousands of random failovers: whoever answers has every update that anybody ever acknowledged.

The processes decide with the code itself (``Replica``, ``decide``, ``judge``); what lies between them is a model:
messages that are late or lost in any combination, calls to the arbiter of which the request or the reply is lost,
processes that are stopped and go on, or die and are replaced, an arbiter that forgets, all on one clock that a schedule
moves. A schedule is drawn from a seed, so that one that fails can be run again.
"""

from __future__ import annotations

import random
from collections import Counter
from typing import Any, cast
from uuid import UUID

import pytest

from ps_protocol.errors import UnavailableError
from ps_server.replication.backup_link import BackupLink
from ps_server.replication.follower import Follower
from ps_server.replication.register import ArbiterVerdict, Known, Register, ReplicaReport, Role, Wish, judge
from ps_server.replication.replica import Replica, Transitions

LEASE_S = 10.0
STEPS = 1500
SEEDS = range(40)


class World:
    """The two places of a pair, the arbiter, and all that is on its way between them."""

    def __init__(self, seed: int):
        self.random = random.Random(seed)
        self.now_s = 0.0
        self.known = Known()
        self.newest: Register | None = None  # of all that was granted, whether or not the arbiter has forgotten it
        self.num_processes = 0
        self.is_cut = False  # the two processes from each other
        self.arbiter_is_away = {False: False, True: False}
        self.nodes = {False: Node(self, False), True: Node(self, True)}
        self.acknowledged: set[int] = set()
        self.next_update = 0
        self.seen: Counter[str] = Counter()

    def clock(self) -> float:
        return self.now_s

    def judge(self, is_second: bool, report: ReplicaReport, wish: Wish, candidate: UUID | None) -> ArbiterVerdict:
        fate = self.random.random()
        if self.arbiter_is_away[is_second] or fate < 0.1:
            raise UnavailableError("the request was lost")
        before = self.known.register
        self.known, verdict = judge(self.known, is_second, report, wish, candidate)
        if before is not None and self.known.register is not None:
            assert self.known.register.epoch >= before.epoch
            assert self.known.register.epoch > before.epoch or self.known.register == before
        now = self.known.register
        if now is not None and (self.newest is None or now.epoch > self.newest.epoch):
            self.newest = now
        if fate < 0.25:
            raise UnavailableError("the reply was lost")
        return verdict


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
        self.followed: Node | None = None
        self.expected: UUID | None = None
        self.epoch = 0
        self.heard_s = world.now_s
        self.store = UUID(int=0)
        # as the primary
        self.link = Link(self)
        self.replica = Replica(
            self.process,
            task="ps:1",
            follower=cast(Follower, self),
            link=cast(BackupLink, self.link),
            arbiter=self,
            transitions=Transitions(self.begin, lambda _epoch: None, self.end),
            lease_s=LEASE_S,
            clock=world.clock,
        )

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

    def consult(
        self, report: ReplicaReport, wish: Wish = Wish.NONE, candidate: UUID | None = None, *, timeout_s: float
    ) -> ArbiterVerdict:
        assert timeout_s > 0
        return self.world.judge(self.is_second, report, wish, candidate)

    def close(self) -> None:
        pass

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
        self.is_replaced = False
        self.heard_s = float("-inf")
        self.epoch = 0
        self.waiting: list[int] = []  # carried out, not acknowledged
        self.tokens: list[tuple[Node, float]] = []
        self.answers: list[tuple[Node, float, int]] = []  # token, and how many updates the follower had

    @property
    def in_step(self) -> UUID | None:
        return self.peer.process if self.peer is not None and self.is_in_step else None

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

    def hang_up_if_silent(self) -> None:
        pass

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
        ["time", "decide", "converse", "token", "deliver", "client", "freeze", "wake", "cut", "heal", "arbiter", "die"],
        [25, 25, 8, 12, 25, 14, 0.4, 0.8, 0.4, 0.8, 0.5, 0.2 if may_die else 0],
    )[0]
    runs = not (node.is_frozen or node.is_gone)
    if event == "time":
        world.now_s += world.random.choice([0.02, 0.05, 0.1, 0.3, 1.0, 2.0])
    elif event == "decide" and runs:
        node.replica.step()
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
    elif event == "arbiter":
        away = world.random.random()
        world.arbiter_is_away[node.is_second] = away < 0.2
        if away > 0.95:
            world.known = Known()
            world.seen["forgot"] += 1
    elif event == "die" or (event == "decide" and node.is_gone):
        replace(world, node)


def replace(world: World, node: Node) -> None:
    """A process is started anew, with nothing; not the only one that is promised to have what was acknowledged."""
    truth = world.newest
    if not node.is_gone and truth is not None and node.process in (truth.primary, truth.backup):
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
    assert min(seen[each] for each in ("took over", "ended", "forgot", "served", "acknowledged")) > 5, seen
    assert seen["died"] > 5 or not may_die


def test_a_primary_that_was_superseded_while_it_asked_for_a_backup_answers_nobody() -> None:
    """It may have been granted a backup by a call whose reply was lost, which has taken over since."""
    world = World(0)
    world.random = NothingIsLost()
    first, second = world.nodes[False], world.nodes[True]
    for node in (first, second, first, first):
        node.replica.step()
    world.now_s += 4 * LEASE_S  # it has waited long enough for a backup
    assert first.serves()
    first.link.converse()
    first.link.send_token()
    first.link.deliver()
    first.link.deliver()
    assert first.link.in_step == second.process

    world.known = Known(Register(3, second.process))
    first.replica.step()  # asks, and is refused
    world.now_s += LEASE_S
    assert not first.serves()
    first.replica.step()
    assert first.is_gone


class NothingIsLost(random.Random):
    """Lets every message through, at once."""

    def random(self) -> float:
        return 0.5


def test_roles_are_those_of_the_contract() -> None:
    assert [int(role) for role in Role] == [0, 1, 2]
