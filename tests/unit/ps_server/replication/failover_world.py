"""A replicated task in small: its two processes with the code that decides, their coordination store, and the wire.

``Replica``, ``Follower``, ``BackupLink``, ``RegisterStore`` and all they call are the product's own. Modelled are time,
which goes on in ticks, the wire between the two, the store, the updates of clients, and the ends of processes. A state
of all that is a tuple: it can be put back, and two states that no code can tell apart are the same tuple. So a search
knows where it has been (``failover_search``).

What is left out of a tuple: numbers of processes, epochs, positions and updates, of which only the order counts; and
ages that are over every bound that the code knows. ``test_the_model_knows_every_field`` has new fields noticed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, TypeAlias, cast
from uuid import UUID

from ps_protocol.errors import ShardscopeError, UnavailableError
from ps_protocol.v1 import replication_pb2
from ps_server.coordination.store import Entry
from ps_server.log.records import ClientLeft, LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.replication import read_lease
from ps_server.replication.backup_link import BackupLink, OtherProcess
from ps_server.replication.conversation import NANOSECONDS, Conversation
from ps_server.replication.follower import Follower, FollowStream
from ps_server.replication.read_lease import Answered, ReadLease
from ps_server.replication.register import FIRST_EPOCH, Register
from ps_server.replication.register_store import RegisterStore
from ps_server.replication.replica import Replica, Transitions

TASK: Final = "ps:1"
NOW_S: Final = 1000.0
NEVER_S: Final = float("-inf")
State: TypeAlias = tuple[Any, ...]

_STORE: Final = UUID(int=0)
_IDS: Final = [UUID(int=number) for number in range(64)]
_RECORD: Final = ClientLeft(_STORE, "")


def _names(words: str) -> list[str]:
    return words.split()


# What a process consists of, by what the code does with it.
REPLICA: Final = {
    "plain": _names("is_primary _is_over _holds_back _is_paired _was_refused _gives_up_state _retires _is_deserted"),
    "times": _names("_started_s _waits_until_s _fenced_until_s _register_s _leaves_s"),
    "epochs": ["epoch"],
    "ids": _names("_process _backup"),
    "registers": ["_register"],
    "events": ["_has_retired"],
    "fixed": _names(
        "_task _is_second _follower _link _registers _transitions _lease_s _clock _acts _loop _was_ready "
        "_last_reason _last_reason_s _broken"
    ),
}
FOLLOWER: Final = {
    "plain": _names("has_state is_stopped is_leaving wants_place"),
    "times": ["heard_s"],
    "epochs": ["epoch"],
    "ids": _names("_process _expected _primary"),
    "fixed": _names("task _state _on_broken _on_news _clock _lock _newest _store read_lease"),
}
READ_LEASE: Final = _names("_since_s _answered")
LINK: Final = {
    "plain": _names("_mode _is_held is_replaced is_left is_wanted _is_closing"),
    "times": ["heard_s"],
    "epochs": ["_epoch"],
    "ids": _names("_process _peer"),
    "positions": ["_offered"],
    "fixed": _names(
        "_other _task _take_image _lease_s _backlog_bytes _on_news _clock _lock changed _queue _queued_bytes "
        "_answered_s _called_s _store _conversation obstacle _loop _channel _tokens _awaited_s"
    ),
}


class Stub:
    """Of a loop whose thread the model does without."""

    def __init__(self) -> None:
        self.is_stopping = False

    def start(self) -> None: ...

    def wake(self) -> None: ...

    def stop(self, _timeout_s: float) -> bool:
        self.is_stopping = True
        return True


class Talk(Conversation):
    """A conversation with one message each way under way; it is the follower's stream as well."""

    def __init__(self) -> None:
        super().__init__()
        self.is_hung_up = False
        # Image or token, when, its position and updates, and when the newest was sent whose answer is known.
        self.down: tuple[str, float, int, int, float] | None = None
        self.up: replication_pb2.FollowAnswer | None = None

    def run(self) -> None:
        raise NotImplementedError

    def hang_up(self) -> None:
        self.is_hung_up = True


EARLIER: Final = Talk()
"""Any conversation that has ended."""


class Process:
    """One of the two, at its place. It may be gone; the next one that is started there has other numbers."""

    def __init__(self, world: World, is_second: bool):
        self.world = world
        self.is_second = is_second
        self.is_gone = False
        self.updates = 0  # that its state has: a bit each
        self.waiting = 0  # of them, one of which the client has no answer
        self.replayed_position = 0
        self.late: Register | None = None  # a change that the store will carry out, whose caller has given up
        process = _IDS[1]
        self.follower = Follower(
            self, task=TASK, process=process, on_broken=self._break, lease_s=world.lease_s, clock=world.clock
        )
        self.follower._store = _STORE
        self.link = BackupLink(
            OtherProcess("the other one", "host:1"),
            task=TASK,
            process=process,
            take_image=lambda _timeout_s: StateImage(self.replayed_position, (), ()),
            lease_s=world.lease_s,
            clock=world.clock,
        )
        self.link._store = _STORE
        self.link._loop = cast(Any, Stub())
        self.replica = Replica(
            process,
            task=TASK,
            is_second=is_second,
            follower=self.follower,
            link=self.link,
            registers=RegisterStore(StoreOf(self), task=TASK),
            transitions=Transitions(lambda _store: _STORE, lambda _epoch: None, lambda _why: None, self._end),
            lease_s=world.lease_s,
            clock=world.clock,
        )
        self.replica._loop = cast(Any, Stub())

    @property
    def other(self) -> Process:
        return self.world.processes[not self.is_second]

    @property
    def process(self) -> UUID:
        return self.replica._process

    @property
    def may_answer(self) -> bool:
        return not self.is_gone and not self.replica._objection()

    # -- the followed state -------------------------------------------------------------------

    def restore(self, image: StateImage) -> None:
        self.replayed_position = image.position

    def replay(self, record: LoggedRecord) -> None:
        raise NotImplementedError

    def follow(self, store_incarnation: UUID) -> None:
        assert store_incarnation == _STORE

    def _break(self, reason: str) -> None:
        raise AssertionError(reason)

    def _end(self, _reason: str) -> None:
        self.is_gone = True

    # -- events -------------------------------------------------------------------------------

    def decide(self, store: str, *, times: int = 4, meanwhile: Callable[[], object] = lambda: None) -> bool:
        """Decides until nothing is left to do; returns whether the store was asked for a change.

        Args:
            store: What becomes of what is asked of the store.
            times: How often it decides at most.
            meanwhile: Called while the store is asked, if it "is slow to be asked" or "is slow to answer".
        """
        world = self.world
        before, world.store, world.was_asked, world.meanwhile = world.store, store, False, meanwhile
        for _ in range(times):
            if self.is_gone or self.replica._loop.is_stopping or not self.replica.step():
                break
        world.store = before
        talk = self.link._conversation
        if talk is not None and cast(Talk, talk).is_hung_up:
            self._hang_up()
        return world.was_asked

    def update(self) -> None:
        """A client's update comes, if it is answered now and none waits."""
        link = self.link
        if not self.may_answer or self.waiting or len(link._queue) > 1:
            return
        self.replayed_position += 1
        self.waiting = self.world.new_update()
        self.updates |= self.waiting
        if link.is_followed:
            with link._lock:
                link._offer([LoggedRecord(self.replayed_position, _RECORD)])

    def answer(self) -> None:
        """The client is told that its update was carried out, if it may be."""
        if self.waiting and self.may_answer and self.link._may_pass(self.replayed_position):
            self.world.acknowledged |= self.waiting
            self.waiting = 0

    def read(self) -> bool:
        """A client reads here, if this is a backup that may be read: what it sees must not be lost from then on."""
        if self.is_gone or self.replica.is_primary:
            return False
        try:
            self.replica.check_may_read()
        except UnavailableError:
            return False
        missing = self.world.acknowledged & ~self.updates
        assert self.world.is_given_up or not missing, f"{_place(self)} is read without an update that was acknowledged"
        self.world.acknowledged |= self.updates
        return True

    # -- the wire -----------------------------------------------------------------------------

    def talk(self, steps: int = 99, *, breaks: bool = False) -> int:
        """What the primary at this place has to say to the other process, and the answers; returns in how many steps.

        Args:
            steps: After so many the rest is late.
            breaks: The conversation breaks then.
        """
        taken, has_sent, has_connected = 0, False, False
        link, other = self.link, self.other
        if not self.replica.is_primary or self.is_gone or link._is_closing:
            return 0
        while taken < steps:
            talk = cast("Talk | None", link._conversation)
            try:
                if talk is None:
                    if has_connected or self.is_frozen or other.is_frozen or other.is_gone:
                        break
                    has_connected = True
                    self._connect()
                elif other.is_gone:
                    self._hang_up()
                elif talk.up is not None and not self.is_frozen:
                    self._hear(talk)
                elif talk.down is not None and not other.is_frozen:
                    self._deliver(talk)
                elif talk.is_attached and not has_sent and not self.is_frozen and talk.down is None:
                    has_sent = True
                    talk.cursor = self.replayed_position
                    heard_s = link.heard_s if self.world.reads else NEVER_S
                    talk.down = ("token", self.world.now_s, self.replayed_position, self.updates, heard_s)
                else:
                    break
            except ShardscopeError:
                self._hang_up()
            if link._conversation is not None and cast(Talk, link._conversation).is_hung_up:
                self._hang_up()
            taken += 1
        if breaks and link._conversation is not None:
            self._hang_up()
        return taken

    @property
    def is_frozen(self) -> bool:
        return self.is_second in self.world.frozen

    def _connect(self) -> None:
        talk = Talk()
        self.link._conversation = talk
        talk.up = self.other.follower.attach(cast(FollowStream, talk), self.link.attachment().attachment)

    def _hear(self, talk: Talk) -> None:
        answer, talk.up = talk.up, None
        assert answer is not None
        with self.link._lock:
            self.link.take(talk, [answer])
        if answer.HasField("attached") and talk.needs_image:
            for _ in self.link.image(talk):
                pass
            talk.down = ("image", NEVER_S, self.replayed_position, self.updates, NEVER_S)

    def _deliver(self, talk: Talk) -> None:
        assert talk.down is not None
        (kind, sent_s, position, updates, heard_s), talk.down = talk.down, None
        other, stream = self.other, cast(FollowStream, talk)
        other.follower.hear(stream)
        if kind == "image":
            answer = other.follower.restore(stream, StateImage(position, (), ()))
        else:
            other.replayed_position = position
            heard = int(heard_s * NANOSECONDS) if heard_s > NEVER_S else 0
            answer = other.follower.answer_token(stream, int(sent_s * NANOSECONDS), heard)
        other.updates = updates
        talk.up = answer

    def _hang_up(self) -> None:
        talk = self.link._conversation
        if self.other.follower._newest is cast(Any, talk):
            self.other.follower._newest = cast(Any, EARLIER)
        with self.link._lock:
            self.link._end()

    # -- as a tuple ---------------------------------------------------------------------------

    def save(self) -> State:
        """Fields by kind: plain values, times, epochs, ids, registers, positions, updates."""
        replica, follower, link = vars(self.replica), vars(self.follower), vars(self.link)
        talk = cast("Talk | None", link["_conversation"])
        newest = follower["_newest"]
        stream = None if newest is None else newest is self.other.link._conversation
        plain = [self.is_gone, stream, *_get(replica, "plain", REPLICA), *_get(follower, "plain", FOLLOWER)]
        plain += [replica["_has_retired"].is_set(), replica["_loop"].is_stopping]
        plain += _get(link, "plain", LINK)
        times = [*_get(replica, "times", REPLICA), follower["heard_s"], link["heard_s"]]
        epochs = [replica["epoch"], follower["epoch"], link["_epoch"]]
        ids = [*_get(replica, "ids", REPLICA), follower["_expected"], follower["_primary"], link["_peer"]]
        queue = link["_queue"]
        first, last = (queue[0].position, queue[-1].position) if queue else (0, 0)
        positions = [self.replayed_position, link["_offered"], first, last]
        updates = [self.updates, self.waiting]
        if talk is not None:
            up, down = talk.up, talk.down
            plain += [talk.is_attached, talk.needs_image]
            positions += [talk.image_position or 0, talk.cursor]
            if up is not None:
                is_attached = up.HasField("attached")
                plain += ["up", is_attached and up.attached.needs_image, up.leaving, up.wants_place]
                ids.append(UUID(bytes=up.attached.process) if is_attached else None)
                times.append(up.token / NANOSECONDS if up.token else NEVER_S)
                positions.append(up.position)
            else:
                plain.append("")
            if down is not None:
                plain.append(down[0])
                times += [down[1], down[4]]
                positions.append(down[2])
                updates.append(down[3])
            else:
                plain.append("")
        lease = self.follower.read_lease
        times.append(lease._since_s)
        for each in lease._answered:
            times += [each.token / NANOSECONDS, each.answered_s, each.sent_after_s]
        return plain, times, epochs, ids, [replica["_register"], self.late], positions, updates

    def load(self, saved: State) -> None:
        """Puts it back; the stream that it follows on comes with ``load_stream``."""
        plain, times, epochs, ids, registers, positions, updates = (iter(each) for each in saved)
        replica, follower, link = vars(self.replica), vars(self.follower), vars(self.link)
        self.is_gone, self._stream = next(plain), next(plain)
        _set(replica, "plain", REPLICA, plain)
        _set(follower, "plain", FOLLOWER, plain)
        if next(plain):
            replica["_has_retired"].set()
        else:
            replica["_has_retired"].clear()
        replica["_loop"].is_stopping = next(plain)
        _set(link, "plain", LINK, plain)
        _set(replica, "times", REPLICA, times)
        follower["heard_s"], link["heard_s"] = next(times), next(times)
        replica["epoch"], follower["epoch"], link["_epoch"] = epochs
        _set(replica, "ids", REPLICA, ids)
        follower["_expected"], follower["_primary"], link["_peer"] = (next(ids) for _ in range(3))
        follower["_process"] = link["_process"] = replica["_process"]
        replica["_register"], self.late = registers
        replica["_last_reason"], replica["_last_reason_s"] = "", NEVER_S
        self.replayed_position, link["_offered"], first, last = (next(positions) for _ in range(4))
        queue = link["_queue"]
        queue.clear()
        for position in sorted({first, last} - {0}):
            queue.append(LoggedRecord(position, _RECORD))
        link["_queued_bytes"] = 0
        self.updates, self.waiting = next(updates), next(updates)
        is_attached = next(plain, None)
        if is_attached is None:
            link["_conversation"] = None
            self._load_lease(times)
            return
        talk = Talk()
        link["_conversation"] = talk
        talk.is_attached, talk.needs_image = is_attached, next(plain)
        talk.image_position, talk.cursor = next(positions) or None, next(positions)
        if next(plain):
            needs_image, leaving, wants_place = (next(plain) for _ in range(3))
            token_s, peer = next(times), next(ids)
            attached = peer and replication_pb2.Attached(process=peer.bytes, needs_image=needs_image)
            talk.up = replication_pb2.FollowAnswer(
                attached=attached,
                token=int(token_s * NANOSECONDS) if token_s > NEVER_S else 0,
                position=next(positions),
                leaving=leaving,
                wants_place=wants_place,
            )
        kind = next(plain)
        if kind:
            sent_s, heard_s = next(times), next(times)
            talk.down = (kind, sent_s, next(positions), next(updates), heard_s)
        self._load_lease(times)

    def _load_lease(self, times: Iterator[float]) -> None:
        lease = self.follower.read_lease
        lease._since_s = next(times)
        lease._answered.clear()
        for token_s, answered_s, sent_after_s in zip(times, times, times, strict=True):
            lease._answered.append(Answered(int(token_s * NANOSECONDS), answered_s, sent_after_s))

    _stream: bool | None = None

    def load_stream(self) -> None:
        newest = {None: None, False: EARLIER, True: self.other.link._conversation}[self._stream]
        self.follower._newest = cast(Any, newest)


def _get(fields: dict[str, Any], kind: str, kinds: dict[str, list[str]]) -> list[Any]:
    return [fields[name] for name in kinds[kind]]


def _set(fields: dict[str, Any], kind: str, kinds: dict[str, list[str]], values: Iterable[Any]) -> None:
    fields.update(zip(kinds[kind], values, strict=False))  # the values of other kinds follow


class StoreOf:
    """The coordination store, as one process sees it."""

    name = "the store"

    def __init__(self, process: Process):
        self._process = process

    def read(self, key: str, *, timeout_s: float) -> Entry | None:
        del key, timeout_s
        world = self._process.world
        if world.store == "is lost" or self._process.is_second in world.cut_off:
            raise UnavailableError("there was no answer in time")
        return world.entry

    def compare_and_set(self, key: str, value: bytes, *, revision: int, timeout_s: float) -> tuple[bool, Entry | None]:
        del key, timeout_s
        world = self._process.world
        world.was_asked = True
        if world.store == "is late":
            self._process.late = Register.decode(value)
            raise UnavailableError("there was no answer in time")
        if world.store == "is slow to be asked":
            world.pass_time()
        written = world.write(Register.decode(value), revision)
        entry = world.entry
        if world.store == "is slow to answer":
            world.pass_time()
        if world.store == "answer is lost":
            raise UnavailableError("there was no answer in time")
        return written, entry

    def watch(self, key: str, *, revision: int, timeout_s: float) -> Entry | None:
        raise NotImplementedError

    def close(self) -> None: ...


class World:
    """All of it.

    Args:
        ticks_per_lease: Ticks of the clock in a lease.
        reads: Whether primaries tell their backups what these need to know to be read.
    """

    def __init__(self, ticks_per_lease: float = 2.0, *, reads: bool = False):
        self.lease_s = ticks_per_lease
        self.reads = reads
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
        """A process is started at the place, with nothing."""
        used: set[int] = set()
        for each in self.pair:
            used |= {known.int for known in each.save()[3] if known}
            used |= _ids_of(each.replica._register) | _ids_of(each.late)
        used |= _ids_of(self.register)
        mine = next(number for number in range(1, 64) if number not in used)
        # Who has talked with the one before it, talks with nobody now.
        if process.other.follower._newest is not None:
            process.other.follower._newest = cast(Any, EARLIER)
        late = process.late  # the store may carry out what an earlier process there has asked for
        process.load(self._fresh[process.is_second])
        process.replica._process = process.follower._process = process.link._process = _IDS[mine]
        process.replica._started_s = process.follower.heard_s = self.now_s
        process.load_stream()
        process.late = late

    # -- properties ---------------------------------------------------------------------------

    def check(self) -> None:
        """Raises AssertionError if what is promised does not hold in this state."""
        answering = [process for process in self.pair if process.may_answer]
        assert len(answering) < 2, "both processes answer"
        for process in answering:
            missing = self.acknowledged & ~process.updates
            assert self.is_given_up or not missing, f"{_place(process)} answers without an update that was acknowledged"

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
        register, lives = self.register, [each for each in self.pair if not each.is_gone]
        if register is None or register.epoch == FIRST_EPOCH:
            return lives
        named = (register.primary, register.backup)
        return [each for each in lives if each.process in named and not self.acknowledged & ~each.updates]

    # -- as a tuple ---------------------------------------------------------------------------

    def save(self) -> State:
        """Returns what tells this state from others."""
        for process in self.pair:
            _forget(process, self.now_s)
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
            uuids = [_IDS[number] if number else None for number in ids]
            process.load((plain, times, epochs, uuids, [_long(each) for each in registers], positions, updates))
        for process in self.pair:
            process.load_stream()


def _forget(process: Process, now_s: float) -> None:
    """Sets to one value what the code does not look at any more, so that states that differ in it are the same."""
    replica, follower, _link = process.replica, process.follower, process.link
    _forget_lease(follower.read_lease, process, now_s)
    if process.is_gone:
        late, ours = process.late, process.process
        process.load(process.world._fresh[process.is_second])
        process.replica._process = process.follower._process = process.link._process = ours
        process.replica._started_s = process.follower.heard_s = NEVER_S
        process.is_gone, process.late = True, late
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
    return Register(epoch, _IDS[primary], _IDS[backup] if backup else None, is_second)


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


def _place(process: Process) -> str:
    return "backup:1" if process.is_second else "ps:1"
