"""The life of a ps process: listen, announce, serve, drain, end."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Collection
from typing import Final
from uuid import uuid4

import grpc
import structlog
from grpc_health.v1 import health, health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection

from ps_protocol import fault_points
from ps_protocol.codec.header_bounds import HeaderBounds
from ps_protocol.errors import DeadlineExceededError
from ps_protocol.grpc_edge.channel_options import ServerLimits, server_options
from ps_protocol.liveness import READY
from ps_protocol.memory.segment_mapping import IS_SUPPORTED as HAS_SEGMENTS
from ps_protocol.service_types import DurabilityMode, PsAddress
from ps_protocol.v1 import (
    checkpoints_pb2,
    checkpoints_pb2_grpc,
    control_pb2,
    control_pb2_grpc,
    data_pb2,
    directory_pb2,
    directory_pb2_grpc,
    inspection_pb2,
    inspection_pb2_grpc,
    membership_pb2,
    membership_pb2_grpc,
)
from ps_server.background.loops import BackgroundLoop
from ps_server.checkpoints.service import TaskCheckpoints
from ps_server.core.parameter_server import ParameterServer
from ps_server.memory.buffer_pool import BufferPool
from ps_server.memory.byte_budget import ByteBudget
from ps_server.process import garbage
from ps_server.process.heartbeats import PsHeartbeats
from ps_server.process.logs import configure_logs
from ps_server.process.options import (
    DEFAULT_CONTROL_THREADS,
    DEFAULT_MAX_CONCURRENT,
    DEFAULT_MESSAGE_TIMEOUT_S,
    DEFAULT_SHARED_MEMORY_LIMIT_BYTES,
    DEFAULT_STAGING_LIMIT_BYTES,
    DEFAULT_TRANSPORTS,
    OfferedTransport,
    ServerOptions,
)
from ps_server.process.peers import peers_of
from ps_server.process.start import CannotStartError, open_task
from ps_server.rules import compiled_row_kernels
from ps_server.rules.optimizers import compiled_loops
from ps_server.transport.descriptors import DEFAULT_RESERVE, DescriptorReserve, allow_many
from ps_server.transport.grpc.checkpoints import CheckpointsServicer
from ps_server.transport.grpc.data import DataServicer
from ps_server.transport.grpc.lanes import Lanes, LaneSettings
from ps_server.transport.grpc.servicers import (
    ControlServicer,
    DirectoryServicer,
    InspectionServicer,
    MembershipServicer,
)
from ps_server.transport.shared_memory.registry import SegmentRegistry
from ps_server.transport.sockets.listener import SocketListener, SocketSettings

SERVICE_NAMES: Final = tuple(
    module.DESCRIPTOR.services_by_name[name].full_name
    for module, name in (
        (data_pb2, "Data"),
        (directory_pb2, "Directory"),
        (membership_pb2, "Membership"),
        (inspection_pb2, "Inspection"),
        (control_pb2, "Control"),
        (checkpoints_pb2, "Checkpoints"),
    )
)
"""Full names of the services that every ps task offers."""

_POOLED_BYTES: Final = 256 * 1024**2
"""Most bytes of used buffers that are kept for the next batches."""

_LAST_REPLIES_S: Final = 1.0
"""Seconds for replies that are still being sent when the batches are done or out of time."""

_SILENT_LEASES: Final = 3.0
"""Leases for which the primary of a backup may be silent; it sends several tokens in each."""

SWITCH_INTERVAL_S: Final = 0.0005
"""How soon a thread that copies a large tensor lets a small request run; Python's default is 5 ms."""

_LOG = structlog.stdlib.get_logger(__name__)


class BindError(RuntimeError):
    """The address cannot be listened on; the message says what to do."""


class PsServer:
    """The gRPC server and the socket listener of one core. Started once, stopped once.

    Args:
        core: Does the work.
        host: Address to listen on; IPv6 in brackets.
        port: Port to listen on; 0 for any free one.
        max_concurrent: Batches carried out at the same time, over gRPC in one message, on streams, and over sockets; as
            many again may wait, further ones are refused with RESOURCE_EXHAUSTED.
        control_threads: Other calls carried out at the same time, such as hello, health and heartbeats.
        message_timeout_s: How long a peer may take over gRPC to send a message, or to read one; 0 for ever.
        header_bounds: What the header of a batch over gRPC may be; None for the defaults.
        limits: What is taken over gRPC; of connections at most half of the descriptors.
        follow_timeout_s: How long a primary may be silent that this process is the backup of.
        staging_limit_bytes: The most that tensors on their way in or out may take; 0 for no limit.
        transports: Ways for batches besides gRPC.
        socket_settings: How the socket transport is offered; None for any free port of the host, and the usual limits.
        shared_memory_limit_bytes: The most memory that is shared with clients on this host; 0 for none.
        descriptor_reserve: Descriptors of the process that connections leave to others.
    """

    def __init__(
        self,
        core: ParameterServer,
        *,
        host: str,
        port: int,
        max_concurrent: int = DEFAULT_MAX_CONCURRENT,
        control_threads: int = DEFAULT_CONTROL_THREADS,
        message_timeout_s: float = DEFAULT_MESSAGE_TIMEOUT_S,
        header_bounds: HeaderBounds | None = None,
        limits: ServerLimits | None = None,
        follow_timeout_s: float = 30.0,
        staging_limit_bytes: int = DEFAULT_STAGING_LIMIT_BYTES,
        transports: Collection[OfferedTransport] = DEFAULT_TRANSPORTS,
        socket_settings: SocketSettings | None = None,
        shared_memory_limit_bytes: int = DEFAULT_SHARED_MEMORY_LIMIT_BYTES,
        descriptor_reserve: int = DEFAULT_RESERVE,
    ):
        self._core = core
        self._address = f"{host}:{port}"
        reserve = DescriptorReserve(descriptor_reserve)
        limits = limits or ServerLimits()
        limits = dataclasses.replace(limits, connections=reserve.share(limits.connections))
        self.lanes = Lanes(
            LaneSettings(max_concurrent, control_threads, message_timeout_s, follow_timeout_s), task=core.task
        )
        self._checkpoints = TaskCheckpoints(core)
        self._idle = BackgroundLoop("ending abandoned saves", self._checkpoints.expire, core.troubles)
        self._silence = BackgroundLoop("ending silent calls", self.lanes.end_silent, core.troubles)
        self._server = grpc.server(
            self.lanes.executor,
            options=server_options(limits),
            interceptors=[self.lanes],
            maximum_concurrent_rpcs=self.lanes.max_calls,
        )
        self.staging = ByteBudget(staging_limit_bytes)
        buffers = BufferPool(_POOLED_BYTES)
        self.segments: SegmentRegistry | None = None
        if OfferedTransport.SHM in transports and shared_memory_limit_bytes and HAS_SEGMENTS:
            self.segments = SegmentRegistry(shared_memory_limit_bytes, reserve)
        self.sockets: SocketListener | None = None
        if OfferedTransport.SOCKET in transports:
            self.sockets = SocketListener(
                core,
                socket_settings or SocketSettings(host=host, max_threads=max_concurrent),
                staging=self.staging,
                buffers=buffers,
                segments=self.segments,
                reserve=reserve,
            )
        self.data = DataServicer(
            core,
            staging=self.staging,
            buffers=buffers,
            offer=self.sockets.welcome if self.sockets else None,
            max_kept_streams=max_concurrent // 2,
            header_bounds=header_bounds,
            message_timeout_s=message_timeout_s,
            max_message_bytes=limits.message_bytes,
        )
        self._health = health.HealthServicer()
        self._add_services()

    def add(self, add_to: Callable[[grpc.Server], None]) -> None:
        """Adds a service, before the start."""
        add_to(self._server)

    def set_ready(self, is_ready: bool) -> None:
        """Sets what the health service answers for ``READY``: whether the process may be relied on."""
        status = health_pb2.HealthCheckResponse.SERVING if is_ready else health_pb2.HealthCheckResponse.NOT_SERVING
        self._health.set(READY, status)

    def start(self) -> int:
        """Listens and serves; returns the port.

        Raises:
            BindError: The address is taken, not this machine's, or not allowed.
        """
        try:
            port = self._server.add_insecure_port(self._address)
        except RuntimeError as error:
            self.lanes.shutdown(wait=True)
            raise BindError(
                f"{self._core.task} cannot listen on {self._address}: the port is in use, or the address is not one of "
                f"this machine's. End the process that has it (`ss -ltnp` shows it), or choose another in the cluster "
                f"spec, or with --port and --bind"
            ) from error
        if self.sockets is not None:
            self._start_sockets(self.sockets)
        self._server.start()
        self._silence.start()
        self._idle.start()
        self._core.when_draining(self._health.enter_graceful_shutdown)
        return port

    def stop(self, reason: str, *, timeout_s: float) -> bool:
        """Drains and ends; returns whether every batch that was accepted was finished in time."""
        deadline_s = time.monotonic() + timeout_s
        drained = True
        try:
            self._core.drain(reason, timeout_s=timeout_s)
        except DeadlineExceededError as error:
            drained = False
            _LOG.error("batches were cut off", reason=error.message)
        grace_s = max(_LAST_REPLIES_S, deadline_s - time.monotonic()) if drained else _LAST_REPLIES_S
        ending = self._server.stop(grace_s)
        if self.sockets is not None:
            self.sockets.stop(grace_s)
        ending.wait(grace_s + _LAST_REPLIES_S)
        self._silence.stop(_LAST_REPLIES_S)
        self._idle.stop(_LAST_REPLIES_S)
        # Calls that were cut off may still be computing; they are not waited for.
        self.lanes.shutdown(wait=drained)
        return drained

    def _start_sockets(self, sockets: SocketListener) -> None:
        try:
            sockets.start()
        except OSError as error:
            self._server.stop(None)
            self.lanes.shutdown(wait=True)
            raise BindError(
                f"{self._core.task} cannot listen on {sockets.address} for its socket transport ({error}): end the "
                f"process that has the port (`ss -ltnp` shows it), choose another with --socket-port, or do without "
                f"with --transports grpc"
            ) from error

    def _add_services(self) -> None:
        core, server = self._core, self._server
        self.data.add_to(server)
        directory_pb2_grpc.add_DirectoryServicer_to_server(DirectoryServicer(core), server)
        membership_pb2_grpc.add_MembershipServicer_to_server(MembershipServicer(core), server)
        inspection_pb2_grpc.add_InspectionServicer_to_server(InspectionServicer(core), server)
        control_pb2_grpc.add_ControlServicer_to_server(ControlServicer(core), server)
        checkpoints_pb2_grpc.add_CheckpointsServicer_to_server(
            CheckpointsServicer(self._checkpoints, core.task), server
        )
        health_pb2_grpc.add_HealthServicer_to_server(self._health, server)
        for name in SERVICE_NAMES:
            self._health.set(name, health_pb2.HealthCheckResponse.SERVING)
        self._health.set(READY, health_pb2.HealthCheckResponse.NOT_SERVING)
        reflection.enable_server_reflection((*SERVICE_NAMES, health.SERVICE_NAME, reflection.SERVICE_NAME), server)


class TaskProcess:
    """A ps task, its server and its heartbeats. Started once, ended once; CannotStartError if its state is unusable."""

    def __init__(self, options: ServerOptions):
        self._options = options
        self._incarnation = uuid4()
        self._heartbeats: list[PsHeartbeats] = []
        self._address = ""
        self._task = open_task(options, self._start_heartbeats, self._tell_ready)
        self.core: Final = self._task.core

    @property
    def address(self) -> str:
        """Where the other tasks are to find it, as "host:port", once it is started."""
        return self._address

    def start(self, *, tells_programs: bool = True) -> None:
        """Listens and serves.

        Args:
            tells_programs: Whether it says so on standard output, in a line for a program that has started it.

        Raises:
            BindError: It cannot listen.
        """
        options, core, replicated = self._options, self.core, self._task.replicated
        self._server = PsServer(
            core,
            host=options.host,
            port=options.port,
            max_concurrent=options.max_concurrent,
            control_threads=options.control_threads,
            message_timeout_s=options.message_timeout_s,
            header_bounds=options.header_bounds,
            limits=options.server_limits,
            follow_timeout_s=_SILENT_LEASES * options.lease_s,
            staging_limit_bytes=options.staging_limit_bytes,
            transports=options.transports,
            socket_settings=options.socket_settings,
            shared_memory_limit_bytes=options.shared_memory_limit_bytes,
            descriptor_reserve=options.descriptor_reserve,
        )
        if replicated is not None:
            admit = None if self._server.sockets is None else self._server.sockets.admit
            self._server.add(lambda server: replicated.add_to(server, admit))
        try:
            port = self._server.start()
        except BindError:
            self._close_durable(drained=True)
            if replicated is not None:
                replicated.close(drained=True)
            raise
        self._address = options.advertised_address(port)
        _LOG.info("listening", address=self._address, store=str(core.store_incarnation))
        if tells_programs:
            _announce(core, self._address, port, durability=options.durability.name.lower())
        if replicated is None:
            self._start_heartbeats(epoch=0)
            self._server.set_ready(True)
        else:
            replicated.start()

    def retire(self) -> None:
        """Before the end: has the other process of a replicated task go on without this one, if there is one."""
        replicated = self._task.replicated
        if replicated is not None:
            replicated.retire(self._options.drain_timeout_s)

    def stop(self) -> bool:
        """Drains and ends; returns whether all accepted batches are finished, and kept on disk if they must be."""
        replicated = self._task.replicated
        if replicated is not None:
            replicated.stop_following()
        for beats in self._heartbeats:
            beats.stop()
        drained = self._server.stop("the process is ending", timeout_s=self._options.drain_timeout_s)
        closed = self._close_durable(drained=drained)
        if replicated is not None:
            closed = replicated.close(drained=drained) and closed
        keeps = self._options.durability is not DurabilityMode.NONE
        _LOG.info("stopped", drained=drained, kept=closed and keeps)
        return drained and closed

    def _close_durable(self, *, drained: bool) -> bool:
        """Returns whether all that must be kept on disk is; True if nothing must."""
        durable = self._task.durable
        return durable is None or durable.close(drained=drained, timeout_s=self._options.drain_timeout_s)

    def _tell_ready(self, is_ready: bool) -> None:
        self._server.set_ready(is_ready)

    def _start_heartbeats(self, epoch: int) -> None:
        beats = PsHeartbeats(
            self.core,
            PsAddress(self.core.task, self._address, self._incarnation, epoch),
            peers_of(self._options.place, self._options.cluster_spec),
            lease_s=self._options.lease_s,
        )
        self._heartbeats.append(beats)
        beats.start()


def use_compiled_rules(when_idle: Callable[[], None] | None = None) -> None:
    """Has rules compiled where they are used much, if numba is here: a ps is worth the memory and the seconds.

    Args:
        when_idle: Called in a thread of the background each time that nothing is left to compile.
    """
    compiled_row_kernels.compile_when_used(when_idle)
    compiled_loops.compile_when_used(when_idle)


def run(options: ServerOptions) -> int:
    """Runs a ps task until a signal or a Shutdown call ends it; returns the exit code."""
    configure_logs(level=options.log_level, log_format=options.log_format, task=options.place)
    fault_points.install_from_environment(is_allowed=options.allow_faults)
    allow_many()
    use_compiled_rules(when_idle=garbage.settle)
    sys.setswitchinterval(SWITCH_INTERVAL_S)
    try:
        process = TaskProcess(options)
    except CannotStartError as error:
        _LOG.error("cannot start", reason=str(error))
        return error.exit_code
    except KeyboardInterrupt:
        return 128 + signal.SIGINT  # while the state was being restored; the next start does it again
    signals = _signal_pipe()
    try:
        process.start()
    except BindError as error:
        _LOG.error("cannot start", reason=str(error))
        return 1
    threading.Thread(target=_obey_signals, args=(signals, process), name="signals", daemon=True).start()
    garbage.settle()
    process.core.shutdown_requested.wait()  # as long as the process lives
    _LOG.info("draining", timeout_s=options.drain_timeout_s)
    if not process.stop():
        os._exit(1)  # the interpreter would wait for the threads of the calls that were cut off
    return 0


def _announce(core: ParameterServer, address: str, port: int, *, durability: str) -> None:
    """Says that the process listens and where, on standard output in one line for a program."""
    if sys.stdout.isatty():
        return
    line = {
        "event": "listening",
        "task": core.task,
        "address": address,
        "port": port,
        "pid": os.getpid(),
        "store": str(core.store_incarnation),
        "durability": durability,
    }
    try:
        sys.stdout.write(json.dumps(line) + "\n")
        sys.stdout.flush()
    except OSError as error:
        _LOG.warning("nobody reads standard output", reason=str(error))


def _signal_pipe() -> int:
    """Makes signals that end the process write to a pipe; returns the end to read their numbers from, a byte each.

    Handlers run between any two steps of the main thread, which may hold a lock then; a thread that reads a pipe may
    wait. A signal that was ignored at the start, as under ``nohup``, stays ignored.
    """
    read_end, write_end = os.pipe()
    os.set_blocking(write_end, False)
    signal.set_wakeup_fd(write_end, warn_on_full_buffer=False)
    for signum in (signal.SIGTERM, signal.SIGINT):
        if signal.getsignal(signum) is not signal.SIG_IGN:
            signal.signal(signum, lambda _signum, _frame: None)
    return read_end


def _obey_signals(pipe: int, process: TaskProcess) -> None:
    """Ends the process in good order at the first signal, and at once at the second."""
    first = signal.Signals(os.read(pipe, 1)[0])
    _LOG.info("received signal", signal=first.name)

    def end() -> None:
        if first is signal.SIGTERM:  # the others go on; Ctrl-C ends them all
            process.retire()
        process.core.shutdown(f"it received {first.name}", timeout_s=0)

    threading.Thread(target=end, name="end", daemon=True).start()
    second = signal.Signals(os.read(pipe, 1)[0])
    _LOG.warning("received a second signal, ending at once", signal=second.name)
    os._exit(128 + second)
