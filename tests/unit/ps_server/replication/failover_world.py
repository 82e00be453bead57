"""A replicated task in small: its two processes with the code that decides, their coordination store, and the wire.

``Replica``, ``Follower``, ``BackupLink``, ``RegisterStore`` and all they call are the product's own. Modelled are time,
which goes on in ticks, the wire between the two, the store, the updates of clients, and the ends of processes. A state
of all that is a tuple: it can be put back, and two states that no code can tell apart are the same tuple. So a search
knows where it has been (``failover_search``).

What is left out of a tuple: numbers of processes, epochs, positions and updates, of which only the order counts; and
ages that are over every bound that the code knows. ``test_the_model_knows_every_field`` has new fields noticed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, cast
from uuid import UUID

from ps_server.coordination.store import Entry
from ps_server.replication import read_lease
from ps_server.replication.member import Found, Member, found_at_start
from ps_server.replication.read_lease import ReadLease
from ps_server.replication.register import FIRST_EPOCH, Register
from tests.unit.ps_server.replication.failover_process import EARLIER, IDS, NEVER_S, STORE, TASK, Process, State, Talk

NOW_S: Final = 1000.0


class World:
    """All of it.

    Args:
        ticks_per_lease: Ticks of the clock in a lease.
        reads: Whether primaries tell their backups what these need to know to be read.
        has_disks: Whether what a process has answered for is on its disk when it ends.
    """

    def __init__(self, ticks_per_lease: float = 2.0, *, reads: bool = False, has_disks: bool = False):
        self.reads = reads
        self.has_disks = has_disks
        self.lease_s = ticks_per_lease
        self.now_s = NOW_S
        self.register: Register | None = None
        self.revision = 0
        self.acknowledged = 0
        self.is_given_up = False  # the operator has accepted that updates are lost
        self.is_lost = False  # more processes have died than a pair can lose
        self.may_be_lost = False
        self.frozen: frozenset[bool] = frozenset()
        self.cut_off: frozenset[bool] = frozenset()  # from the store
        self.is_parted = False  # the two from each other
        self.store = "answers"
        self.was_asked = False
        self.meanwhile: Callable[[], object] = lambda: None
        self.processes: dict[bool, Process] = {}
        for is_second in (False, True):
            self.processes[is_second] = Process(self, is_second)
        self.pair = tuple(self.processes.values())
        fresh = {}
        for process in self.pair:
            fresh[process.is_second] = process.save()
        self._fresh = fresh
        for process in self.pair:
            self.start(process)

    def clock(self) -> float:
        return self.now_s

    @property
    def entry(self) -> Entry | None:
        return None if self.register is None else Entry(self.register.encode(), self.revision)

    def write(self, change: Register, revision: int) -> bool:
        """Compare-and-set; epochs only grow, but for the first one, in which nobody is answered."""
        before = self.register
        if revision != self.revision:
            return False
        if before is not None:
            is_anew = before.epoch == change.epoch == FIRST_EPOCH
            assert change.epoch > before.epoch or is_anew, f"{before} was replaced by {change}"
        self.register, self.revision = change, revision + 1
        for process in self.pair:
            process.late = None  # what was asked of an earlier revision is refused
        return True

    def pass_time(self) -> None:
        """Something else happens while one process waits for the store."""
        self.store, meanwhile = "answers", self.meanwhile
        meanwhile()
        self.was_asked = True

    def new_update(self) -> int:
        used = self.acknowledged
        for process in self.pair:
            used |= process.updates
            talk = cast("Talk | None", process.link._conversation)
            used |= talk.down[3] if talk is not None and talk.down is not None else 0
        return (used + 1) & ~used

    def start(self, process: Process) -> None:
        """A process is started at the place: with what is on its disk if that is of use, else with nothing."""
        returns = process.has_disk and self._found(process) is Found.RETURNS
        member, position, updates = process.member, process.replayed_position, process.updates
        # Who has talked with the one before it, talks with nobody now.
        if process.other.follower._newest is not None:
            process.other.follower._newest = cast(Any, EARLIER)
        late = process.late  # the store may carry out what an earlier process there has asked for
        if not returns:
            member, position, updates = Member(self._unused_id()), 0, 0
        process.load(self._fresh[process.is_second])
        process.replayed_position, process.updates = position, updates
        replica, follower = process.replica, process.follower
        replica._process = follower._process = process.link._process = member.process
        process.note(member.epoch, member.part)
        replica._started_s = follower.heard_s = self.now_s
        if returns:
            replica._is_returning, replica.epoch = True, member.epoch
            follower.bring_back(STORE)
        process.load_stream()
        process.late = late

    def _found(self, process: Process) -> Found:
        is_cut_off = process.is_second in self.cut_off
        register, holds_state = None if is_cut_off else self.register, process.replayed_position > 0
        found = found_at_start(process.member, holds_state, register, was_read=not is_cut_off)
        assert found not in (Found.CLAIMS, Found.IS_FOREIGN), found
        return found

    def _unused_id(self) -> UUID:
        used: set[int] = set()
        for each in self.pair:
            used |= {known.int for known in each.save()[3] if known}
            used |= _ids_of(each.replica._register) | _ids_of(each.late)
        used |= _ids_of(self.register)
        return IDS[next(number for number in range(1, 64) if number not in used)]

    # -- properties ---------------------------------------------------------------------------

    def check(self) -> None:
        """Raises AssertionError if what is promised does not hold in this state."""
        answering = [process for process in self.pair if process.may_answer]
        assert len(answering) < 2, "both processes answer"
        for process in answering:
            missing = self.acknowledged & ~process.updates
            assert self.is_given_up or not missing, f"{process.place} answers without an update that was acknowledged"

    @property
    def is_whole(self) -> bool:
        """Whether there is a pair that serves, and is ready."""
        answering = [process for process in self.pair if process.may_answer]
        return len(answering) == 1 and all(process.replica.is_ready for process in self.pair)

    @property
    def is_reported(self) -> bool:
        """Whether somebody says that the state is lost, and what to do."""
        said = [each.replica.status().obstacle for each in self.pair if not each.is_gone]
        return any(f"promote {TASK} --accept-loss" in each for each in said)

    @property
    def holders(self) -> list[Process]:
        """Who has every acknowledged update, and is the primary or the backup, or has nothing to have yet."""
        register, lives = self.register, [each for each in self.pair if not each.is_gone or each.has_disk]
        if register is None or register.epoch == FIRST_EPOCH:
            return lives
        named = (register.primary, register.backup)
        return [each for each in lives if each.process in named and not self.acknowledged & ~each.updates]

    # -- as a tuple ---------------------------------------------------------------------------

    def save(self) -> State:
        """Returns what tells this state from others."""
        for process in self.pair:
            _forget(process, self._fresh[process.is_second], self.now_s)
        first, second = self.pair[0].save(), self.pair[1].save()
        registers = [*first[4], *second[4], self.register]
        epochs = _numbered_epochs([*first[2], *second[2], *(each.epoch for each in registers if each is not None)])
        ids: dict[UUID | None, int] = {None: 0}
        positions = {value: number for number, value in enumerate(sorted({0, *first[5], *second[5]}))}
        bits = _numbered_bits([self.acknowledged, *first[6], *second[6]], (0, 2, 2 + len(first[6])))

        def number(known: UUID | None) -> int:
            return ids.setdefault(known, len(ids))

        def short(register: Register | None) -> State | None:
            if register is None:
                return None
            primary, backup = number(register.primary), number(register.backup)
            return epochs[register.epoch], primary, backup, register.is_second

        for each in (first, second):
            number(each[3][0])
        parts = []
        for plain, times, each_epochs, each_ids, each_registers, each_positions, each_updates in (first, second):
            parts.append(
                (
                    tuple(plain),
                    tuple([self._age(index, time_s) for index, time_s in enumerate(times)]),
                    tuple([epochs[each] for each in each_epochs]),
                    tuple([number(each) for each in each_ids]),
                    tuple([short(each) for each in each_registers]),
                    tuple([positions[each] for each in each_positions]),
                    tuple([bits(each) for each in each_updates]),
                )
            )
        flags = (self.is_given_up, self.is_lost, self.may_be_lost, self.frozen, self.cut_off, self.is_parted)
        return (*parts, short(self.register), bits(self.acknowledged), flags)

    def _age(self, index: int, time_s: float) -> float:
        """When something was, counted from now; what is too long ago to matter is all the same."""
        age = self.now_s - time_s
        if index in (1, 2):  # until when it waits
            return NEVER_S if age > 0 else age
        if abs(time_s) == -NEVER_S:
            return time_s
        longest = (2.0 if index in (0, 5) else 1.0) * self.lease_s
        return min(age, longest)

    def load(self, saved: State) -> None:
        """Puts a state back."""
        *parts, register, self.acknowledged, flags = saved
        self.now_s = NOW_S
        self.is_given_up, self.is_lost, self.may_be_lost, self.frozen, self.cut_off, self.is_parted = flags
        self.register, self.revision = _long(register), 0 if register is None else 10
        for process, part in zip(self.pair, parts, strict=True):
            plain, ages, epochs, ids, registers, positions, updates = part
            times = [age if abs(age) == -NEVER_S else NOW_S - age for age in ages]
            uuids = [IDS[number] if number else None for number in ids]
            process.load((plain, times, epochs, uuids, [_long(each) for each in registers], positions, updates))
        for process in self.pair:
            process.load_stream()


def _forget(process: Process, fresh: State, now_s: float) -> None:
    """Sets to one value what the code does not look at any more, so that states that differ in it are the same."""
    replica, follower, _link = process.replica, process.follower, process.link
    _forget_lease(follower.read_lease, process, now_s)
    if process.is_gone:
        late, member, has_disk = process.late, process.member, process.has_disk
        kept = (process.replayed_position, process.updates) if has_disk else (0, 0)
        process.load(fresh)
        process.replica._process = process.follower._process = process.link._process = member.process
        process.replica._started_s = process.follower.heard_s = NEVER_S
        process.is_gone, process.late, process.has_disk = True, late, has_disk
        process.replayed_position, process.updates = kept
        if has_disk:
            process.note(member.epoch, member.part)
        process.load_stream()
        if process.other.follower._newest is not None:
            process.other.follower._newest = cast(Any, EARLIER)
        return
    if replica.is_primary:
        replica._started_s = follower.heard_s = NEVER_S
        replica._was_refused = replica._gives_up_state = False
        follower._expected = follower._primary = None
        follower.epoch = 0
        follower.wants_place = False
    elif replica._is_returning:
        replica._started_s = max(replica._started_s, now_s - process.world.lease_s)
        follower.heard_s = NEVER_S
    elif follower.has_state:
        replica._started_s = NEVER_S
        if replica._is_paired:
            follower._expected = None
            follower.heard_s = max(follower.heard_s, now_s - process.world.lease_s - 1)


def _forget_lease(lease: ReadLease, process: Process, now_s: float) -> None:
    """What is longer ago than the lease lasts does not prolong it any more."""
    oldest_s = now_s - read_lease.READ_PART * process.world.lease_s
    if not process.world.reads or process.replica.is_primary:
        oldest_s = float("inf")
    if lease._since_s < oldest_s:
        lease._since_s = NEVER_S
    kept = [each for each in lease._answered if each.answered_s >= oldest_s]
    lease._answered.clear()
    for each in kept:
        lease._answered.append(each if each.sent_after_s >= oldest_s else each._replace(sent_after_s=NEVER_S))


def _ids_of(register: Register | None) -> set[int]:
    return set() if register is None else {each.int for each in (register.primary, register.backup) if each}


def _long(register: State | None) -> Register | None:
    if register is None:
        return None
    epoch, primary, backup, is_second = register
    return Register(epoch, IDS[primary], IDS[backup] if backup else None, is_second)


def _numbered_epochs(epochs: list[int]) -> dict[int, int]:
    """Of epochs it counts which is the newer one, whether it follows the other, and which is the first."""
    numbered = {0: 0, FIRST_EPOCH: FIRST_EPOCH}
    before = FIRST_EPOCH
    for epoch in sorted(set(epochs) - {0, FIRST_EPOCH}):
        numbered[epoch] = numbered[before] + min(epoch - before, 2)
        before = epoch
    return numbered


def _numbered_bits(masks: list[int], owed: tuple[int, ...]) -> Callable[[int], int]:
    """Of updates it counts who has them, if they are acknowledged or waited for: those that the same have are one."""
    kinds: dict[State, int] = {}
    used = 0
    for mask in masks:
        used |= mask
    while used:
        bit = used & -used
        used &= ~bit
        kind = tuple([bool(mask & bit) for mask in masks])
        if any(kind[index] for index in owed):
            kinds.setdefault(kind, bit)
    ordered = [kinds[kind] for kind in sorted(kinds)]

    def renumbered(mask: int) -> int:
        return sum([1 << number for number, bit in enumerate(ordered) if mask & bit])

    return renumbered
