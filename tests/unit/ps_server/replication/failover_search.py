"""Explores every schedule of a replicated task with up to so many faults, of any length.

Without a fault the two processes take turns: the clock ticks, the two talk, each decides, and clients call. A fault is
one deviation from that at any place: a message or an answer that is late, a conversation that breaks, a process that
stands still, dies, is told to end or to take over, a call to the coordination store that is lost before or after it
was carried out, or carried out when its caller has given it up, or one of the two that is cut off. What was taken away
comes back at any time. That is delay-bounded scheduling (M. Emmi, S. Qadeer, Z. Rakamarić, "Delay-Bounded Scheduling",
POPL 2011), with faults as delays. States are finitely many, so that the search ends.

``python -m tests.unit.ps_server.replication.failover_search --faults 3`` searches further than ``make test``.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Final, TypeAlias

from ps_protocol.errors import ShardscopeError
from tests.unit.ps_server.replication.failover_process import Process, State
from tests.unit.ps_server.replication.failover_world import World

PHASES: Final = ("tick", "talk", "ps:1 decides", "backup:1 decides", "clients")
ROUNDS_TO_HEAL: Final = 40
"""In halves of a lease; most of them are those that a task that has just begun waits for its backup."""

Key: TypeAlias = tuple[State, int]
"""A state of the world, and which phase is next."""


class BrokenPromiseError(AssertionError):
    """A schedule after which something does not hold that is promised."""


@dataclass
class Search:
    """What was found so far.

    Args:
        world: Any state is put into it.
        max_faults: In one schedule.
        max_states: After so many it stops.
        accepts_loss: Whether the operator does, as one of the faults.
    """

    world: World
    max_faults: int
    max_states: int = sys.maxsize
    accepts_loss: bool = False
    cause: dict[Key, tuple[Key | None, str]] = field(default_factory=dict)
    heals: set[Key] = field(default_factory=set)
    seen: Counter[str] = field(default_factory=Counter)
    num_steps: int = 0
    _parts: dict[State, State] = field(default_factory=dict)

    # -- schedules ----------------------------------------------------------------------------

    def explore(self, start: Key | None = None) -> None:
        """Explores all that can come after a state.

        Raises:
            BrokenPromiseError: With the schedule.
        """
        start = start or (self._saved(), 0)
        self.cause[start] = (None, "start")
        fewest = {start: 0}  # faults, of the schedules to a state
        levels: list[list[Key]] = [[start], *([] for _ in range(self.max_faults))]
        for faults, level in enumerate(levels):
            while level:
                key = level.pop()
                if fewest[key] < faults:
                    continue
                self._check_heals(key)
                for label, cost, after in self._successors(key, faults < self.max_faults):
                    if faults + cost < fewest.get(after, sys.maxsize):
                        fewest[after] = faults + cost
                        self.cause[after] = (key, label)
                        levels[faults + cost].append(after)
                if len(self.cause) >= self.max_states:
                    return

    def follow(self, key: Key, labels: Iterable[str]) -> None:
        """Follows one schedule, and sees whether the pair heals after each step of it."""
        for label in labels:
            [after] = [after for name, _cost, after in self._successors(key, may_fail=True) if name == label]
            self.cause.setdefault(after, (key, label))
            key = after
            self._check_heals(key)

    def schedule(self, key: Key) -> list[str]:
        """How a state was reached."""
        labels: list[str] = []
        cause: Key | None = key
        while cause is not None:
            cause, label = self.cause[cause]
            labels.append(label)
        return labels[::-1]

    def _saved(self) -> State:
        state = self.world.save()
        return tuple([self._parts.setdefault(part, part) for part in state])

    def _successors(self, key: Key, may_fail: bool) -> Iterator[tuple[str, int, Key]]:
        state, phase = key
        following = (phase + 1) % len(PHASES)

        def after(
            label: str, act: Callable[[], object], next_phase: int, cost: int, *, is_put_back: bool = False
        ) -> tuple[str, int, Key]:
            if not is_put_back:
                self.world.load(state)
            self._act(key, label, act)
            if cost:
                self.seen[label] += 1
            return label, cost, (self._saved(), next_phase)

        # To put a state back takes longest, so that all is asked of it that can be before something is done.
        world = self.world
        world.load(state)
        free: list[tuple[str, Callable[[], object], int]]
        free = [(PHASES[phase], partial(self._default, phase), following)]
        if phase == 0:
            free += [(label, act, phase) for label, act in self._mends()]
        for process in world.pair:
            if process.late is not None:
                free.append((f"{process.place}'s late call", partial(self._deliver_late, process), phase))
        for number, (label, act, next_phase) in enumerate(free):
            yield after(label, act, next_phase, 0, is_put_back=number == 0)
        if not may_fail:
            return
        if phase == 1:
            world.load(state)
            num_steps = self._talk()
            for steps in range(num_steps):
                for breaks in (False, True):
                    label = f"talk for {steps} of {num_steps}{', breaks' if breaks else ''}"
                    yield after(label, partial(self._talk, steps, breaks=breaks), following, 1)
        if phase in (2, 3):
            process = world.pair[phase - 2]
            world.load(state)
            was_asked = not self._stands(process) and process.decide("answers")
            yield after(f"{PHASES[phase]} nothing", lambda: None, following, 1)
            yield after(f"{PHASES[phase]} once", partial(self._decide, process, "answers", times=1), following, 1)
            ways = ("is lost", "answer is lost", "is late") if was_asked else ("is lost",)
            for way in ways:
                label = f"{PHASES[phase]}, the call {way}"
                yield after(label, partial(self._decide, process, way), following, 1)
            for way in ("is slow to be asked", "is slow to answer") if was_asked else ():
                for other in (0, 1, 5 - phase, 4):
                    label = f"{PHASES[phase]}, the call {way}, meanwhile {PHASES[other]}"
                    meanwhile = partial(self._meanwhile, other)
                    yield after(label, partial(self._decide, process, way, meanwhile=meanwhile), following, 1)
        for label, act in self._faults(key):
            yield after(label, act, phase, 1)

    def _act(self, key: Key, label: str, act: Callable[[], object]) -> None:
        self.num_steps += 1
        try:
            act()
            for process in self.world.pair:
                if process.replica._retires and process.replica.may_end:
                    process.die()
            for process in self.world.pair:
                process.answer()
            for process in self.world.pair:
                self.seen[f"{process.place} is read"] += process.read()
            if self.world.is_given_up:
                self.world.acknowledged = 0
            self.world.check()
        except AssertionError as error:
            raise BrokenPromiseError("\n".join([*self.schedule(key), label, f"=> {error}"])) from error

    # -- without faults -----------------------------------------------------------------------

    def _default(self, phase: int) -> None:
        world = self.world
        match PHASES[phase]:
            case "tick":
                world.now_s += 1.0
            case "talk":
                self._talk()
            case "clients":
                for process in world.pair:
                    if not self._stands(process):
                        process.update()
            case _:
                self._decide(world.pair[phase - 2], "answers")

    def _talk(self, steps: int = 99, *, breaks: bool = False) -> int:
        if self.world.is_parted:
            return 0
        taken = 0
        for process in self.world.pair:
            taken += process.talk(steps - taken, breaks=breaks)
        return taken

    def _stands(self, process: Process) -> bool:
        return process.is_frozen or process.is_gone

    def _decide(
        self, process: Process, store: str, *, times: int = 4, meanwhile: Callable[[], object] = lambda: None
    ) -> None:
        if not self._stands(process):
            process.decide(store, times=times, meanwhile=meanwhile)

    def _meanwhile(self, phase: int) -> None:
        """One phase, as if the process that waits for the store did nothing else; what is promised holds then too."""
        world = self.world
        for _ in range(2 if phase == 0 else 1):  # ticks until a lease has run out for the primary, not for its backup
            self._default(phase)
        for process in world.pair:
            process.answer()
        for process in world.pair:
            process.read()
        world.check()

    def _deliver_late(self, process: Process) -> None:
        assert process.late is not None
        self.world.write(process.late, self.world.revision)

    # -- with faults --------------------------------------------------------------------------

    def _faults(self, key: Key) -> list[tuple[str, Callable[[], object]]]:
        world, (state, phase) = self.world, key
        can_be_promoted = self._promotions(state)
        world.load(state)
        return list(self._faults_now(phase, can_be_promoted))

    def _promotions(self, state: State) -> set[tuple[str, bool]]:
        """Which places can be promoted, and whether with loss."""
        found = set()
        for process in self.world.pair:
            for accept_loss in (False, True) if self.accepts_loss else (False,):
                self.world.load(state)
                if not process.is_gone and self._promote(process, accept_loss):
                    found.add((process.place, accept_loss))
        return found

    def _faults_now(
        self, phase: int, can_be_promoted: set[tuple[str, bool]]
    ) -> Iterator[tuple[str, Callable[[], object]]]:
        world = self.world
        if phase == 0:  # nothing else happens between them
            yield "the two are parted", partial(setattr, world, "is_parted", True)
        if world.has_disks and not any(process.is_gone for process in world.pair):
            yield "both die", self._both_die
        for process in world.pair:
            name = process.place
            if process.is_gone:
                continue
            if not process.is_frozen:
                yield f"{name} stands still", partial(self._toggle, "frozen", process, True)
            if process.is_second not in world.cut_off and phase == 0:
                yield f"{name} is cut off from the store", partial(self._toggle, "cut_off", process, True)
            yield f"{name} dies", partial(self._die, process)
            if world.has_disks:
                yield f"{name} dies, and its disk is lost", partial(self._die, process, loses_disk=True)
                # With reads at backups a record is on the disk of the primary before it is sent.
                if process.waiting and not (world.reads and process.waiting & process.sent):
                    label = f"{name} dies, and its last update is not on its disk"
                    yield label, partial(self._die, process, loses_last=True)
            if not process.replica.is_retiring and not process.other.replica.is_retiring:
                yield f"{name} is told to end", partial(self._tell_to_end, process)
            for accept_loss in (False, True) if self.accepts_loss else (False,):
                if (name, accept_loss) in can_be_promoted:
                    label = f"{name} is promoted{' with loss' if accept_loss else ''}"
                    yield label, partial(self._promote, process, accept_loss)

    def _toggle(self, kind: str, process: Process, is_on: bool) -> None:
        places = getattr(self.world, kind)
        changed = places | {process.is_second} if is_on else places - {process.is_second}
        setattr(self.world, kind, changed)

    def _die(self, process: Process, *, loses_disk: bool = False, loses_last: bool = False) -> None:
        world = self.world
        had_holders = bool(world.holders)
        is_asked_for = process.late is not None and process.late.primary == process.process
        if is_asked_for and (loses_disk or not world.has_disks):
            world.may_be_lost = True  # the store makes it the primary yet, as it has asked when the other one was gone
        process.die(loses_disk=loses_disk, loses_last=loses_last)
        world.frozen -= {process.is_second}
        if had_holders and not world.holders:
            world.is_lost = True

    def _both_die(self) -> None:
        for process in self.world.pair:
            self._die(process)

    def _tell_to_end(self, process: Process) -> None:
        world, is_wanted = self.world, process.follower.wants_place
        knows = process.replica.is_primary or world.register is None or world.register.primary != process.process
        has_left = process.replica.is_primary and process.link.is_left
        if not world.has_disks and (has_left or not (knows or is_wanted)):
            world.may_be_lost = True  # both are told to end at once: the other one is on its way out
        process.replica.retire(0)

    def _promote(self, process: Process, accept_loss: bool) -> bool:
        try:
            process.replica.promote(accept_loss=accept_loss)
        except ShardscopeError:
            return False
        if accept_loss and process.replica._gives_up_state:
            self.world.is_given_up, self.world.acknowledged = True, 0
            self.world.is_lost = self.world.may_be_lost = False
        return True

    def _mends(self) -> Iterator[tuple[str, Callable[[], object]]]:
        world = self.world
        if world.is_parted:
            yield "the two are together again", partial(setattr, world, "is_parted", False)
        for process in world.pair:
            name = process.place
            if process.is_gone:
                yield f"{name} is started", partial(world.start, process)
            if process.is_frozen:
                yield f"{name} goes on", partial(self._toggle, "frozen", process, False)
            if process.is_second in world.cut_off:
                yield f"{name} reaches the store", partial(self._toggle, "cut_off", process, False)

    # -- healing ------------------------------------------------------------------------------

    def _check_heals(self, key: Key) -> None:
        """From here on all is up and nothing fails: the pair must be whole soon, or say that its state is lost."""
        if key in self.heals:
            return
        world = self.world
        state, phase = key
        path: list[tuple[Key, str]] = [(key, "")]
        world.load(state)
        world.frozen, world.cut_off, world.is_parted = frozenset(), frozenset(), False
        label = "all is up from here on"
        for _ in range(ROUNDS_TO_HEAL * len(PHASES)):
            for process in world.pair:
                if process.is_gone:
                    world.start(process)
            here = (self._saved(), phase)
            if here in self.heals:
                break
            path.append((here, label))
            if world.is_whole:
                break
            if (world.is_lost or world.may_be_lost) and world.is_reported:
                self.seen["reported"] += 1
                assert any(self._promote(process, True) for process in world.pair), "nobody can be promoted"
            label = PHASES[phase]
            self._act_after(path, label, phase)
            phase = (phase + 1) % len(PHASES)
        else:
            self._never_heals(path)
        self.heals.update([each for each, _ in path])

    def _act_after(self, path: list[tuple[Key, str]], label: str, phase: int) -> None:
        try:
            self._act(path[0][0], label, partial(self._default, phase))
        except BrokenPromiseError as error:
            labels = [each for _, each in path]
            raise BrokenPromiseError("\n".join([*self.schedule(path[0][0]), *labels, label, str(error)])) from error

    def _never_heals(self, path: list[tuple[Key, str]]) -> None:
        said = [(each.replica.status(), each.is_gone, each.replica._register) for each in self.world.pair]
        what = "does not heal" if not self.world.is_lost else "does not say that its state is lost, and how to go on"
        raise BrokenPromiseError("\n".join([*self.schedule(path[0][0]), f"=> the task {what}: {said}"]))


def whole_pair(world: World) -> Key:
    """A pair that has been whole for long."""
    search = Search(world, 0)
    for number in range(40 * len(PHASES)):
        search._default(number % len(PHASES))
        for process in world.pair:
            process.answer()
    assert world.is_whole
    return search._saved(), 0


def main() -> None:
    """Searches as the command line says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--faults", type=int, default=2, help="most faults in one schedule")
    parser.add_argument(
        "--ticks", type=float, default=2.0, help="ticks of the clock in a lease: 2, or 2.5 for narrow margins"
    )
    parser.add_argument("--max-states", type=int, default=5_000_000)
    parser.add_argument("--accept-loss", action="store_true", help="the operator gives up states")
    parser.add_argument(
        "--from-start", action="store_true", help="begin with two empty processes, not with a whole pair"
    )
    parser.add_argument("--disks", action="store_true", help="what a process has answered for is on its disk")
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    world = World(options.ticks, has_disks=options.disks)
    start = None if options.from_start else whole_pair(world)
    search = Search(world, options.faults, options.max_states, options.accept_loss)
    began_s = time.process_time()
    try:
        search.explore(start)
    finally:
        counts = [f"{count:8d} {label}\n" for label, count in sorted(search.seen.items())]
        took_s = time.process_time() - began_s
        sys.stdout.writelines(
            [*counts, f"{len(search.cause)} states, {search.num_steps} steps, {took_s:.1f} s of processor time\n"]
        )


if __name__ == "__main__":
    main()
