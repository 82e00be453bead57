"""Which threads carry out a gRPC call, how many calls may be open, and how long a peer may keep one waiting.

gRPC gives each call a thread from its first byte to its last, also while the peer sends nothing or reads nothing. With
one pool for all calls, a few silent streams keep everybody from hello, health and heartbeats. So calls of different
kinds go in lanes, each with threads and a limit of its own; and a call whose peer keeps its thread waiting is ended:
after a bound, and sooner if its lane has no thread left for another call. Soonest if it has not sent anything yet: what
a client begins with it sends at once. How soon that is depends on how long the first messages of others take.

``Lanes`` is an interceptor: it stands before all services, also those that come with gRPC. It gives every method the
form in which the call is seen before its message is there (``stream_unary`` for ``unary_unary``; on the wire there is
no difference), so that a message that never comes can be given up too.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import grpc

from ps_protocol.errors import DeadlineExceededError, InvalidArgumentError, ResourceExhaustedError
from ps_protocol.memory.allocator import give_back_freed_memory
from ps_protocol.v1 import data_pb2, directory_pb2, replication_pb2
from ps_server.transport.grpc.boundary import errors_as_status

_LOG = logging.getLogger(__name__)

Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Behavior: TypeAlias = Callable[..., Any]

_RETRY_AFTER_S: Final = 0.25
_PATIENCE_S: Final = 2.5
"""How long a peer may keep a thread waiting while other calls have none: 64 streams of 1 MiB chunks on a network of
1 Gbit/s get one each half second."""

_CONTROL_PATIENCE_S: Final = 0.5
"""The same where messages are small, and sent at once."""

_CONTROL_QUEUE: Final = 16
_LARGE_BYTES: Final = 8 * 1024**2
"""Messages above this size are unusual: tensors come in chunks of 1 MiB, and in one message up to 2 MiB."""

_TRIMS: Final = 8
"""How often freed memory is given back after one has come: what it was received into is freed a little later."""

_FIRST_PATIENCE_S: Final = 0.25
"""How long a call may keep a thread without its first message, while other calls have none and the network is quick."""

_MOMENT_S: Final = 0.05
"""The same if it has waited for its thread before: then the message lies ready in the connection."""

_TIMES_AS_LONG: Final = 4
_RECENTLY_S: Final = 10.0
"""First messages may take so many times as long as the slowest of so many seconds, where that is more."""

_LOOK_EVERY_S: Final = 0.25
_LOOK_SOON_S: Final = 0.05

_UNREAD_FOR_A_THREAD: Final = 4
_LOG_EVERY_S: Final = 60.0
_REFUSING_THREADS: Final = 2
_MAX_REFUSALS: Final = 512
"""Calls that wait to be refused with a reason; gRPC itself refuses those beyond."""


@dataclass(frozen=True, slots=True)
class LaneSettings:
    """What the lanes have room for.

    Attributes:
        max_concurrent: Threads for batches in one message, and as many for batches on streams; as many calls again may
            wait in each lane, further ones are refused.
        control_threads: Threads for hello, health, members, inspection and control; sixteen times as many may wait.
        message_timeout_s: How long a peer may take for a message, to send it or to read it; 0 for ever.
        follow_timeout_s: The same on the stream of a primary to its backup, which is silent while nothing changes.
    """

    max_concurrent: int
    control_threads: int = 16
    message_timeout_s: float = 10.0
    follow_timeout_s: float = 30.0


class _Call:
    """One call in a lane.

    Attributes:
        began_s: Since when it has a thread.
        since_s: Since when its peer keeps it waiting; infinity while it does not.
        is_silent: Whether its peer has not sent a message yet.
        has_thread: Whether it has a thread; without one its reply waits to be read.
        is_ended: Whether the lane has chosen to end it.
    """

    __slots__ = ("_clock", "_context", "began_s", "has_thread", "is_ended", "is_silent", "since_s")

    def __init__(self, context: grpc.ServicerContext, clock: Callable[[], float]):
        self._context = context
        self._clock = clock
        self.began_s = self.since_s = clock()
        self.is_silent = True
        self.has_thread = True
        self.is_ended = False

    def waits(self) -> None:
        self.since_s = self._clock()

    def goes_on(self) -> None:
        self.since_s = float("inf")

    def end(self) -> None:
        """Ends it without a status: a peer that sends or reads nothing would not get one."""
        self._context.cancel()


class Lane:
    """The threads for calls of one kind, and the calls that are open. Thread-safe.

    Args:
        name: What the calls are, for messages, and the name of the threads.
        threads: How many calls are carried out at a time.
        waiting: How many more may wait for a thread. Four times as many as threads may wait for their reply to be read;
            beyond that the one that waits longest is ended.
        timeout_s: How long a peer may keep a call waiting; 0 for ever.
        patience_s: The same while other calls wait for a thread; less for the first message.
        task: The ps task, as "ps:0".
        clock: Monotonic seconds.
    """

    def __init__(
        self,
        name: str,
        *,
        threads: int,
        waiting: int,
        timeout_s: float,
        patience_s: float,
        task: str,
        clock: Callable[[], float],
    ):
        self.executor: Final = ThreadPoolExecutor(threads, thread_name_prefix=f"rpc-{name}")
        self.limit: Final = threads + waiting
        self.timeout_s: Final = timeout_s
        self.task: Final = task
        self.name: Final = name
        self._threads = threads
        self._most_unread = _UNREAD_FOR_A_THREAD * threads
        self._patience_s = min(patience_s, timeout_s / 4) if timeout_s else patience_s
        self._clock = clock
        self._lock = threading.Lock()  # guards: all below; gRPC's own locks are never taken under it
        self._open = 0
        self._queue: deque[float] = deque()  # when those came that no thread has taken yet
        self._calls: set[_Call] = set()
        self._unread: dict[_Call, None] = {}  # of those, the ones that have their reply, in its order
        self._slowest_first_s = 0.0
        self._slowest_came_s = clock()
        self.num_ended = 0
        self.num_large = 0  # messages of unusual size; not exact

    def admit(self) -> bool:
        """Counts a call in; False if there are too many. Makes room for it if a peer keeps a thread waiting."""
        with self._lock:
            is_admitted = self._open < self.limit
            if is_admitted:
                self._open += 1
                self._queue.append(self._clock())
            idle = [] if self._open <= self._threads else self._chosen(1, self._is_impatient_with)
        for call in idle:
            call.end()
        return is_admitted

    def begin(self, context: grpc.ServicerContext) -> _Call:
        """Returns a call that was admitted, and that a thread now carries out; it counts until gRPC is done with it."""
        call = _Call(context, self._clock)
        with self._lock:
            # What it was sent while it waited for a thread comes at once now, or there is nothing.
            patience_s = self._first_patience_s(call.began_s)
            moment_s = patience_s * _MOMENT_S / _FIRST_PATIENCE_S
            call.since_s = max(self._queue.popleft(), call.began_s - patience_s + moment_s)
            self._calls.add(call)
        if not context.add_callback(lambda: self._leave(call)):
            self._leave(call)
        return call

    def came(self, call: _Call) -> None:
        """Called with each message of a call."""
        call.goes_on()
        if not call.is_silent:
            return
        call.is_silent = False
        now_s = self._clock()
        took_s = now_s - call.began_s
        if took_s > self._slowest_first_s or now_s > self._slowest_came_s + _RECENTLY_S:
            self._slowest_first_s, self._slowest_came_s = took_s, now_s  # of two at once either will do

    def finish(self, call: _Call) -> None:
        """Called when the thread has done its work: what is left to do is the peer's, to read the reply."""
        call.waits()
        unread: _Call | None = None
        with self._lock:
            if call not in self._calls:
                return
            call.has_thread = False
            self._open -= 1
            self._unread[call] = None
            if len(self._unread) > self._most_unread:
                unread = next(iter(self._unread))
                self._end_unread(unread)
        if unread is not None:
            unread.end()

    def refusal(self) -> ResourceExhaustedError:
        """The error for a call that is not admitted."""
        return ResourceExhaustedError(
            f"{self.limit} {self.name} calls are open over gRPC, as many as may be; try again later",
            retry_after_s=_RETRY_AFTER_S,
            task=self.task,
        )

    @property
    def has_queue(self) -> bool:
        """Whether calls wait for a thread."""
        return bool(self._queue)

    def end_silent(self) -> None:
        """Ends the calls whose peers keep them waiting for too long, or while others wait for a thread."""
        with self._lock:
            silent = self._chosen(len(self._calls), self._is_too_late) if self.timeout_s else []
            if len(self._queue) > len(silent):
                silent += self._chosen(len(self._queue) - len(silent), self._is_impatient_with)
        for call in silent:
            call.end()

    def given_up(self) -> DeadlineExceededError:
        """The error of a call that was ended while it waited."""
        return DeadlineExceededError(f"no message came for {self.timeout_s:g} s", task=self.task)

    def _is_too_late(self, call: _Call, now_s: float) -> bool:
        return call.since_s <= now_s - self.timeout_s

    def _is_impatient_with(self, call: _Call, now_s: float) -> bool:
        """Whether it has kept its thread for so long that another call may have it."""
        return call.since_s <= now_s - (self._first_patience_s(now_s) if call.is_silent else self._patience_s)

    def _first_patience_s(self, now_s: float) -> float:
        slowest_s = self._slowest_first_s if now_s <= self._slowest_came_s + _RECENTLY_S else 0.0
        return min(max(_FIRST_PATIENCE_S, _TIMES_AS_LONG * slowest_s), self._patience_s)

    def _chosen(self, number: int, is_late: Callable[[_Call, float], bool]) -> list[_Call]:
        """With the lock held: returns the calls to end of those that are late; those with a thread first."""
        now_s = self._clock()
        waiting = [call for call in self._calls if not call.is_ended and is_late(call, now_s)]
        chosen = sorted(waiting, key=lambda call: (not call.has_thread, call.since_s))[:number]
        for call in chosen:
            call.is_ended = True
        self.num_ended += len(chosen)
        return chosen

    def _end_unread(self, call: _Call) -> None:
        """With the lock held."""
        del self._unread[call]
        if not call.is_ended:
            call.is_ended = True
            self.num_ended += 1

    def _leave(self, call: _Call) -> None:
        with self._lock:
            self._calls.discard(call)
            self._unread.pop(call, None)
            self._open -= call.has_thread


class Lanes(grpc.ServerInterceptor):
    """Puts each call into its lane. Thread-safe.

    Args:
        settings: What they have room for.
        task: The ps task, as "ps:0", for errors.
        clock: Monotonic seconds.
    """

    def __init__(self, settings: LaneSettings, *, task: str, clock: Callable[[], float] = time.monotonic):
        def lane(name: str, threads: int, waiting: int, timeout_s: float, patience_s: float = _PATIENCE_S) -> Lane:
            bounds = {"timeout_s": timeout_s, "patience_s": patience_s}
            return Lane(name, threads=threads, waiting=waiting, task=task, clock=clock, **bounds)

        at_once, at_control = settings.max_concurrent, settings.control_threads
        timeout_s = settings.message_timeout_s
        self._clock = clock
        self.control: Final = lane("control", at_control, _CONTROL_QUEUE * at_control, timeout_s, _CONTROL_PATIENCE_S)
        self.data: Final = lane("data", at_once, at_once, timeout_s)
        self.streams: Final = lane("stream", at_once, at_once, timeout_s)
        self._following: Final = lane("follow", 4, 4, settings.follow_timeout_s)
        self._watches: Final = lane("watch", 2, 64, 0)
        self._lanes = (self.control, self.data, self.streams, self._following, self._watches)
        self._lane_of = {
            _method(data_pb2, "Data", "Exchange"): self.data,
            _method(data_pb2, "Data", "ExchangeMany"): self.streams,
            _method(data_pb2, "Data", "ExchangeStream"): self.streams,
            _method(directory_pb2, "Directory", "Place"): self.data,
            _method(directory_pb2, "Directory", "ListPlacements"): self.data,
            _method(replication_pb2, "Replication", "Follow"): self._following,
            "/grpc.health.v1.Health/Watch": self._watches,
        }
        self._refusing = ThreadPoolExecutor(_REFUSING_THREADS, thread_name_prefix="rpc-refused")
        self._refusals = {lane: _refusal(lane, self._refusing) for lane in self._lanes}
        self._handlers: dict[str, Handler] = {}  # of the methods that there are; written by gRPC's one polling thread
        self._num_ended = 0  # this and the next are of the thread that calls ``end_silent``
        self._num_large = self._trims = 0
        self._logged_s = float("-inf")

    @property
    def max_calls(self) -> int:
        """How many calls there may be, with those that wait to be refused: gRPC itself refuses those beyond."""
        return sum([lane.limit for lane in self._lanes]) + _MAX_REFUSALS

    @property
    def executor(self) -> ThreadPoolExecutor:
        """For what has no lane."""
        return self._refusing

    def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Handler | None],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        """Returns the handler of a call, in its lane, or one that refuses it; None for a method that there is not."""
        method = handler_call_details.method
        lane = self._lane_of.get(method, self.control)
        handler = self._handlers.get(method)
        if handler is None:
            found = continuation(handler_call_details)
            if found is None:
                return None
            handler = self._handlers[method] = in_lane(found, lane, method)
        return handler if lane.admit() else self._refusals[lane]

    def end_silent(self) -> float:
        """Ends calls whose peers keep them waiting, and gives back what large messages have left behind.

        Returns:
            The seconds until it should be called again.
        """
        for lane in self._lanes:
            lane.end_silent()
        num_large = sum([lane.num_large for lane in self._lanes])
        if num_large != self._num_large:
            self._num_large, self._trims = num_large, _TRIMS
        if self._trims:
            self._trims -= 1
            give_back_freed_memory()
        num_ended, now_s = sum([lane.num_ended for lane in self._lanes]), self._clock()
        if num_ended > self._num_ended and now_s - self._logged_s > _LOG_EVERY_S:
            ended = ", ".join([f"{lane.num_ended} {lane.name}" for lane in self._lanes if lane.num_ended])
            _LOG.warning("calls were ended whose peers sent or read nothing; since the start %s calls", ended)
            self._num_ended, self._logged_s = num_ended, now_s
        if any(lane.has_queue for lane in self._lanes):
            return _LOOK_SOON_S
        timeouts_s = [lane.timeout_s for lane in self._lanes if lane.timeout_s]
        return min([_LOOK_EVERY_S, *[timeout_s / 4 for timeout_s in timeouts_s]])

    def shutdown(self, *, wait: bool) -> None:
        """Ends the threads, when the server has stopped."""
        for executor in (*[lane.executor for lane in self._lanes], self._refusing):
            executor.shutdown(wait=wait, cancel_futures=True)


def _method(module: Any, service: str, method: str) -> str:
    return f"/{module.DESCRIPTOR.services_by_name[service].full_name}/{method}"


def in_lane(handler: Handler, lane: Lane, method: str) -> Handler:
    """Returns a handler that does the same in a lane; the wire is the same too."""
    behavior: Behavior
    if handler.request_streaming:
        behavior = _streams(handler, lane)
    elif handler.response_streaming:
        behavior = _answers_with_stream(handler, lane, method)
    else:
        behavior = _answers(handler, lane, method)
    behavior.experimental_thread_pool = lane.executor  # type: ignore[attr-defined]  # how gRPC chooses the threads
    serialize = handler.response_serializer
    if handler.request_streaming:
        make = grpc.stream_stream_rpc_method_handler
        return make(behavior, request_deserializer=handler.request_deserializer, response_serializer=serialize)
    # The message is decoded by the thread of the lane, not by the one that receives the messages of all calls.
    if handler.response_streaming:
        return grpc.stream_stream_rpc_method_handler(behavior, response_serializer=serialize)
    return grpc.stream_unary_rpc_method_handler(behavior, response_serializer=serialize)


def _answers(handler: Handler, lane: Lane, method: str) -> Behavior:
    answer: Behavior = handler.unary_unary  # type: ignore[assignment]  # its kind has one
    decode = handler.request_deserializer

    def behavior(requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        call = lane.begin(context)
        try:
            return answer(_only_message(requests, context, call, lane, method, decode), context)
        finally:
            lane.finish(call)

    return behavior


def _answers_with_stream(handler: Handler, lane: Lane, method: str) -> Behavior:
    answer: Behavior = handler.unary_stream  # type: ignore[assignment]  # as above
    decode = handler.request_deserializer
    if not getattr(answer, "experimental_non_blocking", False):

        def behavior(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[Any]:
            call = lane.begin(context)
            yield from _sent(answer(_only_message(requests, context, call, lane, method, decode), context), call, lane)

        return behavior

    def pushing(requests: Iterator[bytes], context: grpc.ServicerContext, send: Callable[[Any], None]) -> None:
        call = lane.begin(context)
        answer(_only_message(requests, context, call, lane, method, decode), context, send)

    pushing.experimental_non_blocking = True  # type: ignore[attr-defined]  # as gRPC marks it
    return pushing


def _streams(handler: Handler, lane: Lane) -> Behavior:
    converse: Behavior = handler.stream_stream  # type: ignore[assignment]  # as above

    def behavior(requests: Iterator[Any], context: grpc.ServicerContext) -> Iterator[Any]:
        call = lane.begin(context)
        yield from _sent(converse(_Messages(requests, call, lane), context), call, lane)

    return behavior


def _sent(replies: Iterable[Any], call: _Call, lane: Lane) -> Iterator[Any]:
    """Yields replies; gRPC sends one while the next is not asked for, as long as the peer makes it wait."""
    try:
        for reply in replies:
            call.waits()
            yield reply
            call.goes_on()
    finally:
        lane.finish(call)


class _Messages(Iterator[Any]):
    """The messages of a stream; the call counts as waiting while there is none."""

    def __init__(self, requests: Iterator[Any], call: _Call, lane: Lane):
        self._requests = requests
        self._call = call
        self._lane = lane

    def __next__(self) -> Any:
        call = self._call
        if not call.is_silent:
            call.waits()
        try:
            request = next(self._requests)
        except BaseException as end:
            call.goes_on()
            if call.is_ended and isinstance(end, StopIteration):
                raise self._lane.given_up() from None
            raise
        self._lane.came(call)
        if type(request) is bytes and len(request) > _LARGE_BYTES:
            self._lane.num_large += 1
        return request


def _only_message(
    requests: Iterator[bytes],
    context: grpc.ServicerContext,
    call: _Call,
    lane: Lane,
    method: str,
    decode: Callable[[bytes], Any] | None,
) -> Any:
    """Receives the message of a call that has one."""
    with errors_as_status(context, lane.task):
        request = next(requests, None)
        if request is None:
            call.goes_on()
            raise lane.given_up() if call.is_ended else InvalidArgumentError(f"{method} was called without a message")
        lane.came(call)
        if len(request) > _LARGE_BYTES:
            lane.num_large += 1
        if decode is None:
            return request
        try:
            return decode(request)
        except Exception as error:
            raise InvalidArgumentError(f"{len(request)} bytes are no message that {method} takes: {error}") from error


def _refusal(lane: Lane, executor: ThreadPoolExecutor) -> Handler:
    def refuse(_requests: Iterator[bytes], context: grpc.ServicerContext) -> Any:
        with errors_as_status(context, lane.task):
            raise lane.refusal()

    refuse.experimental_thread_pool = executor  # type: ignore[attr-defined]  # as above
    return grpc.stream_unary_rpc_method_handler(refuse)
