"""One process of a replicated task in small: the code that decides, its conversation, and the store as it sees it.

See ``failover_world``.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Final, Protocol, TypeAlias, cast
from uuid import UUID

from ps_protocol.errors import ShardscopeError, UnavailableError
from ps_protocol.v1 import replication_pb2
from ps_server.coordination.store import Entry
from ps_server.log.records import ClientLeft, LoggedRecord
from ps_server.log.state_image import StateImage
from ps_server.replication.backup_link import BackupLink, OtherProcess
from ps_server.replication.conversation import NANOSECONDS, Conversation
from ps_server.replication.follower import Follower, FollowStream
from ps_server.replication.member import Member, Part
from ps_server.replication.read_lease import Answered
from ps_server.replication.register import Register
from ps_server.replication.register_store import RegisterStore
from ps_server.replication.replica import Replica
from ps_server.replication.replica_doors import Transitions

TASK: Final = "ps:1"
NEVER_S: Final = float("-inf")
State: TypeAlias = tuple[Any, ...]

STORE: Final = UUID(int=0)
IDS: Final = [UUID(int=number) for number in range(64)]
_RECORD: Final = ClientLeft(STORE, "")


def _names(words: str) -> list[str]:
    return words.split()


# What a process consists of, by what the code does with it.
REPLICA: Final = {
    "plain": _names(
        "is_primary _is_returning _is_over _holds_back _is_paired _was_refused _gives_up_state _retires _is_deserted"
    ),
    "times": _names("_started_s _waits_until_s _fenced_until_s _register_s _leaves_s"),
    "epochs": ["epoch"],
    "ids": _names("_process _backup"),
    "registers": ["_register"],
    "events": ["_has_retired"],
    "fixed": _names(
        "_task _is_second _follower _link _registers _transitions _lease_s _clock _acts _loop _was_ready "
        "_reasons _notes _broken"
    ),
}
FOLLOWER: Final = {
    "plain": _names("has_state is_stopped is_leaving wants_place"),
    "times": ["heard_s"],
    "epochs": ["epoch"],
    "ids": _names("_process _expected _primary"),
    "fixed": _names(
        "task _state _on_broken _on_news _clock _lock _newest _store _no_room _no_room_s read_lease _settings "
        "_promises _answered_position"
    ),
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
        "_answered_s _called_s _store _conversation obstacle _loop _channel _tokens _awaited_s _settings _refusals "
        "_encoded _full_s"
    ),
}


class World(Protocol):
    """``failover_world.World``, as a process sees it."""

    reads: bool
    has_disks: bool
    is_given_up: bool
    lease_s: float
    now_s: float
    acknowledged: int
    frozen: frozenset[bool]
    cut_off: frozenset[bool]
    store: str
    was_asked: bool
    meanwhile: Callable[[], object]
    processes: dict[bool, Process]

    @property
    def entry(self) -> Entry | None: ...

    def clock(self) -> float: ...

    def write(self, change: Register, revision: int) -> bool: ...

    def pass_time(self) -> None: ...

    def new_update(self) -> int: ...


class Stub:
    """Of a loop whose thread the model does without."""

    def __init__(self) -> None:
        self.is_stopping = False

    def start(self) -> None: ...

    def wake(self) -> None: ...

    def stop(self, _timeout_s: float) -> bool:
        self.is_stopping = True
        return True


class Moment(threading.Event):
    """An event that is looked at once where the code waits for it: no time passes in the model meanwhile."""

    def wait(self, timeout: float | None = None) -> bool:
        return self.is_set()


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
        self.has_disk = False  # if it is gone: whether its disk has what it had
        self.noted_epoch, self.noted_part = 0, Part.EMPTY
        process = IDS[1]
        self.follower = Follower(
            self, task=TASK, process=process, on_broken=self._break, lease_s=world.lease_s, clock=world.clock
        )
        self.follower._store = STORE
        self.link = BackupLink(
            OtherProcess("the other one", "host:1"),
            task=TASK,
            process=process,
            take_image=lambda _timeout_s: StateImage(self.replayed_position, (), ()),
            lease_s=world.lease_s,
            clock=world.clock,
        )
        self.link._store = STORE
        self.link._loop = cast(Any, Stub())
        self.replica = Replica(
            Member(process),
            task=TASK,
            is_second=is_second,
            follower=self.follower,
            link=self.link,
            registers=RegisterStore(StoreOf(self), task=TASK),
            transitions=Transitions(lambda _store: STORE, lambda _epoch: None, lambda _why: None, self._end),
            lease_s=world.lease_s,
            clock=world.clock,
            notes=self,
        )
        self.replica._loop = cast(Any, Stub())
        self.replica._has_retired = Moment()

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

    is_on_disk: Final = False

    def restore(self, image: StateImage) -> None:
        self.replayed_position = image.position

    def replay(self, record: LoggedRecord) -> None:
        raise NotImplementedError

    def adopt(self, store: UUID) -> None:
        assert store == STORE
        self.note(0, Part.CATCHING_UP)

    def make_safe(self) -> int:
        return self.replayed_position

    def note(self, epoch: int, part: Part) -> None:
        """What is on its disk of what it is."""
        if self.world.has_disks:
            self.noted_epoch, self.noted_part = epoch, part

    @property
    def sent(self) -> int:
        """Updates that the other process has, or that are on their way to it."""
        talk = cast("Talk | None", self.link._conversation)
        return self.other.updates | (talk.down[3] if talk is not None and talk.down is not None else 0)

    @property
    def place(self) -> str:
        return "backup:1" if self.is_second else "ps:1"

    @property
    def member(self) -> Member:
        return Member(self.process, self.noted_epoch, self.noted_part)

    def _break(self, reason: str) -> None:
        raise AssertionError(reason)

    def _end(self, _reason: str) -> None:
        self.die()

    # -- events -------------------------------------------------------------------------------

    def die(self, *, loses_disk: bool = False, loses_last: bool = False) -> None:
        """It is gone at once; what it has answered for is on its disk, if there are disks.

        Args:
            loses_disk: Its disk is lost with it.
            loses_last: The update that waits for an answer was not on its disk yet.
        """
        if loses_last and self.waiting:
            self.updates &= ~self.waiting
            self.replayed_position -= 1
        self.is_gone, self.has_disk = True, self.world.has_disks and not loses_disk

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
        assert self.world.is_given_up or not missing, f"{self.place} is read without an update that was acknowledged"
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
        stream, follower = cast(FollowStream, talk), self.other.follower
        talk.up = follower.complete(stream, follower.attach(stream, self.link.attachment().attachment))

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
        talk.up = other.follower.complete(stream, answer)

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
        plain = [
            self.is_gone,
            self.has_disk,
            self.noted_part,
            stream,
            *_get(replica, "plain", REPLICA),
            *_get(follower, "plain", FOLLOWER),
        ]
        plain += [replica["_has_retired"].is_set(), replica["_loop"].is_stopping]
        plain += _get(link, "plain", LINK)
        times = [*_get(replica, "times", REPLICA), follower["heard_s"], link["heard_s"]]
        epochs = [replica["epoch"], follower["epoch"], link["_epoch"], self.noted_epoch]
        ids = [*_get(replica, "ids", REPLICA), follower["_expected"], follower["_primary"], link["_peer"]]
        queue = link["_queue"]
        first, last = (queue[0].position, queue[-1].position) if queue else (0, 0)
        positions = [self.replayed_position, link["_offered"], first, last]
        updates = [self.updates, self.waiting]
        if talk is not None:
            up, down = talk.up, talk.down
            plain += [talk.is_attached, talk.needs_image, talk.image_position is not None]
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
        self.is_gone, self.has_disk, self.noted_part, self._stream = (next(plain) for _ in range(4))
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
        replica["epoch"], follower["epoch"], link["_epoch"], self.noted_epoch = epochs
        _set(replica, "ids", REPLICA, ids)
        follower["_expected"], follower["_primary"], link["_peer"] = (next(ids) for _ in range(3))
        follower["_process"] = link["_process"] = replica["_process"]
        replica["_register"], self.late = registers
        replica["_reasons"].last, replica["_reasons"].said_s = "", {}
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
        talk.is_attached, talk.needs_image, has_image = is_attached, next(plain), next(plain)
        image_position, talk.cursor = next(positions), next(positions)
        talk.image_position = image_position if has_image else None
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
