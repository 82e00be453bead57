"""``python -m ps_server`` as a process: how it begins, what it offers, how it ends."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any
from uuid import uuid4

import grpc
import numpy as np
import pytest
from grpc_health.v1 import health_pb2
from grpc_reflection.v1alpha import reflection_pb2

from ps_protocol.errors import UnavailableError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, RandomNormalKind
from ps_protocol.operations import Batch, BatchReply, Declare, Read, Result, Scatter, ScatterRule, VariableSpec
from ps_protocol.service_types import ServingState
from ps_server.__main__ import main
from ps_server.process.server import SERVICE_NAMES
from tests.conftest import Eventually
from worker_client.transport import grpc as grpc_transport
from worker_client.transport.grpc import GrpcPsService

pytestmark = [pytest.mark.integration, pytest.mark.usefixtures("new_interpreters")]

TIMEOUT_S = 120.0
CLUSTER = ["--cluster", "ps=127.0.0.1:1,127.0.0.1:2;worker=127.0.0.1:3", "--task-index", "0"]
SMALL = Declare(VariableSpec("w", np.dtype(np.float32), (3,)), InitializerSpec(ConstantKind(1.0)))
SERVING, NOT_SERVING = health_pb2.HealthCheckResponse.SERVING, health_pb2.HealthCheckResponse.NOT_SERVING


def slow_declaration(elements: int) -> Declare:
    """Keeps a ps busy, for about a second with each ten million elements."""
    return Declare(VariableSpec("slow", np.dtype(np.float32), (elements,)), InitializerSpec(RandomNormalKind(0.0, 1.0)))


class PsProcess:
    """A ps process, its ready line and ways to talk to it."""

    def __init__(self, arguments: list[str], *, environ: dict[str, str], log: Path, resources: ExitStack):
        self._log = log
        self._resources = resources
        with log.open("w", encoding="utf-8") as stderr:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "ps_server", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=environ,
            )
        resources.callback(self._end)
        assert self.process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self.process.stdout.readline() or "{}")

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.ready['port']}"

    @property
    def log_lines(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]

    def service(self) -> GrpcPsService:
        service = grpc_transport.connect(self.address, task="ps:0")
        self._resources.callback(service.close)
        return service

    def channel(self) -> grpc.Channel:
        channel = grpc.insecure_channel(self.address)
        self._resources.callback(channel.close)
        return channel

    def health(self, service: str = "") -> int:
        # Not by the generated stub, whose types do not say what it offers.
        check = self.channel().unary_unary(
            "/grpc.health.v1.Health/Check",
            request_serializer=health_pb2.HealthCheckRequest.SerializeToString,
            response_deserializer=health_pb2.HealthCheckResponse.FromString,
        )
        return int(check(health_pb2.HealthCheckRequest(service=service), timeout=TIMEOUT_S).status)

    def wait(self) -> int:
        return self.process.wait(TIMEOUT_S)

    def rest_of_output(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.read()

    def _end(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT_S)
        assert self.process.stdout is not None
        self.process.stdout.close()


StartPs = Callable[..., PsProcess]


@pytest.fixture
def start_ps(tmp_path: Path) -> Iterator[StartPs]:
    with ExitStack() as resources:

        def start(*arguments: str, **environ: str) -> PsProcess:
            log = tmp_path / f"{uuid4()}.log"
            return PsProcess(list(arguments), environ=environment(**environ), log=log, resources=resources)

        yield start


@pytest.fixture
def ps(start_ps: StartPs) -> PsProcess:
    return start_ps(*CLUSTER, "--port", "0")


def environment(**more: str) -> dict[str, str]:
    outside = ("TF_CONFIG", "SHARDSCOPE_")
    return {name: value for name, value in os.environ.items() if not name.startswith(outside)} | more


def send(service: GrpcPsService, *operations: Declare | Read | Scatter) -> BatchReply:
    client = uuid4()
    store = service.hello(client, "worker:0", timeout_s=TIMEOUT_S).store
    return service.exchange(Batch(client, store, 1, operations), timeout_s=TIMEOUT_S)


def start_slow_batch(
    ps: PsProcess, pool: ThreadPoolExecutor, eventually: Eventually, elements: int
) -> Callable[[], BatchReply]:
    """Sends a batch that takes long; returns when the ps has accepted it."""
    service = ps.service()
    sent = pool.submit(send, service, slow_declaration(elements))
    eventually(lambda: service.status(timeout_s=TIMEOUT_S).batches == 1, message="the batch is accepted")
    return lambda: sent.result(TIMEOUT_S)


# -- beginning ----------------------------------------------------------------------------------


def test_says_in_one_line_that_it_listens_and_logs_to_standard_error(ps: PsProcess) -> None:
    welcome = ps.service().hello(uuid4(), "worker:0", timeout_s=TIMEOUT_S)
    assert ps.ready == {
        "event": "listening",
        "task": "ps:0",
        "address": ps.address,
        "port": ps.ready["port"],
        "pid": ps.process.pid,
        "store": str(welcome.store),
        "durability": "none",
    }
    ps.process.send_signal(signal.SIGTERM)
    assert ps.wait() == 0
    assert ps.rest_of_output() == ""
    events = [line["event"] for line in ps.log_lines]
    assert events == ["listening", "received signal", "draining", "stopped"]
    assert {line["task"] for line in ps.log_lines} == {"ps:0"}
    assert ps.log_lines[-1]["kept"] is False  # its variables have ended with it


def test_every_start_has_a_store_of_its_own(start_ps: StartPs) -> None:
    stores = {start_ps(*CLUSTER, "--port", "0").ready["store"] for _ in range(2)}
    assert len(stores) == 2


def test_can_be_told_all_by_tf_config(start_ps: StartPs) -> None:
    config = {"cluster": {"ps": ["127.0.0.1:1", "127.0.0.1:2"]}, "task": {"type": "ps", "index": 1}}
    ps = start_ps(TF_CONFIG=json.dumps(config), SHARDSCOPE_PORT="0", SHARDSCOPE_JOB_SEED="42")
    welcome = ps.service().hello(uuid4(), "worker:0", timeout_s=TIMEOUT_S)
    assert (welcome.task, welcome.job_seed) == ("ps:1", 42)


def test_the_collector_of_garbage_does_not_stop_it_for_what_it_is_made_of(
    start_ps: StartPs, eventually: Eventually
) -> None:
    ps = start_ps(*CLUSTER, "--port", "0", "--log-level", "debug", "--log-format", "json")

    def set_apart() -> list[int]:
        return [line["objects"] for line in ps.log_lines if line["event"] == "set apart from the collector of garbage"]

    eventually(lambda: len(set_apart()) == 1, message="what it has started with is set apart")
    assert set_apart()[0] > 50_000
    rows = Declare(VariableSpec("rows", np.dtype(np.float32), (512, 32)), SMALL.initializer)
    scatter = Scatter("rows", ScatterRule.ADD, np.zeros(512, np.int64), np.ones((512, 32), np.float32))
    send(ps.service(), rows, scatter)
    eventually(lambda: len(set_apart()) >= 2, message="and so is what the compiler of kernels has left")


def test_listens_where_it_is_told_to(start_ps: StartPs) -> None:
    ps = start_ps("--cluster", "ps=ps.example:2222", "--task-index", "0", "--bind", "127.0.0.1", "--port", "0")
    assert ps.ready["address"] == f"ps.example:{ps.ready['port']}"
    assert ps.health() == SERVING


@pytest.mark.parametrize(
    ("arguments", "environ", "parts"),
    [
        ([], {}, ["no ps tasks", "--cluster", "TF_CONFIG"]),
        (["--cluster", "ps=a:1", "--task-index", "3"], {}, ["ps:3"]),
        (["--cluster", "worker=a:1", "--task-index", "0"], {}, ["no ps tasks", "worker"]),
        (["--cluster", "ps=a", "--task-index", "0"], {}, ["'a'", "no port"]),
        ([*CLUSTER, "--memory-limit", "much"], {}, ["--memory-limit", "'much'"]),
        ([*CLUSTER, "--frobnicate"], {}, ["--frobnicate"]),
        ([], {"TF_CONFIG": "{"}, ["TF_CONFIG", "JSON"]),
        (
            [],
            {"TF_CONFIG": '{"cluster": {"ps": ["a:1"], "worker": ["b:1"]}, "task": {"type": "worker", "index": 0}}'},
            ["TF_CONFIG", "worker:0"],
        ),
    ],
)
def test_bad_options_are_answered_with_one_clear_line(
    arguments: list[str],
    environ: dict[str, str],
    parts: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("ps_server.__main__.end_at_once_on_signals", lambda: None)  # of a process of its own
    monkeypatch.setattr(sys, "argv", ["ps_server", *arguments])
    for name in os.environ.keys() - environment().keys():
        monkeypatch.delenv(name)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    assert main() == 2
    told = capsys.readouterr()
    assert told.out == ""
    assert len(told.err.splitlines()) == 1
    assert all(part in told.err for part in parts), told.err


def test_bad_options_end_it() -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "ps_server", *CLUSTER, "--frobnicate"],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert (ended.returncode, ended.stdout) == (2, "")
    assert len(ended.stderr.splitlines()) == 1
    assert "--frobnicate" in ended.stderr


def test_a_port_in_use_is_said_so_and_its_owner_goes_on(start_ps: StartPs, ps: PsProcess) -> None:
    second = start_ps(*CLUSTER, "--port", str(ps.ready["port"]))
    assert second.wait() == 1
    assert second.ready == {}
    log = second._log.read_text(encoding="utf-8")
    assert f"cannot listen on {ps.address}" in log
    assert "--port" in log
    assert "Traceback" not in log
    assert ps.health() == SERVING


def test_a_socket_port_held_by_another_program_is_said_so(start_ps: StartPs) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        started = start_ps(*CLUSTER, "--port", "0", "--socket-port", str(holder.getsockname()[1]))
        assert started.wait() == 1
    log = started._log.read_text(encoding="utf-8")
    assert "--socket-port" in log
    assert "Traceback" not in log


def test_a_port_held_by_another_program_is_said_so(start_ps: StartPs) -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as holder:
        ps = start_ps(*CLUSTER, "--port", str(holder.getsockname()[1]))
        assert ps.wait() == 1


# -- what it offers -----------------------------------------------------------------------------


def test_health_is_told_for_the_whole_and_for_each_service(ps: PsProcess) -> None:
    assert [ps.health(name) for name in ("", *SERVICE_NAMES)] == [SERVING] * (1 + len(SERVICE_NAMES))
    with pytest.raises(grpc.RpcError) as unknown:
        ps.health("no.such.Service")
    assert isinstance(unknown.value, grpc.Call)
    assert unknown.value.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_lists_the_services(ps: PsProcess) -> None:
    ask = ps.channel().stream_stream(
        "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo",
        request_serializer=reflection_pb2.ServerReflectionRequest.SerializeToString,
        response_deserializer=reflection_pb2.ServerReflectionResponse.FromString,
    )
    (answer,) = ask(iter([reflection_pb2.ServerReflectionRequest(list_services="")]), timeout=TIMEOUT_S)
    listed = {service.name for service in answer.list_services_response.service}
    assert listed >= {*SERVICE_NAMES, "grpc.health.v1.Health", "grpc.reflection.v1alpha.ServerReflection"}
    assert "ps_protocol.v1.Data" in listed


def test_limits_given_on_the_command_line_hold(start_ps: StartPs) -> None:
    ps = start_ps(*CLUSTER, "--port", "0", "--memory-limit", "8")
    (reply,) = send(ps.service(), SMALL).replies
    assert "--memory-limit" in str(reply)
    assert ps.service().status(timeout_s=TIMEOUT_S).memory_limit_bytes == 8


# -- ending -------------------------------------------------------------------------------------


@pytest.mark.parametrize("signum", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_lets_accepted_batches_finish(ps: PsProcess, eventually: Eventually, signum: signal.Signals) -> None:
    with ThreadPoolExecutor(1) as pool:
        reply = start_slow_batch(ps, pool, eventually, elements=10_000_000)
        ps.process.send_signal(signum)
        assert isinstance(reply().replies[0], Result)
    assert ps.wait() == 0
    assert ps.log_lines[-1]["drained"] is True


def test_while_it_drains_it_refuses_what_is_new_and_can_be_inspected(ps: PsProcess, eventually: Eventually) -> None:
    service = ps.service()
    send(service, SMALL)
    service.drain("an upgrade", timeout_s=TIMEOUT_S)
    assert ps.health() == ps.health(SERVICE_NAMES[0]) == NOT_SERVING
    with pytest.raises(UnavailableError, match=r"draining \(an upgrade\)") as refused:
        send(service, SMALL)
    assert refused.value.retryable
    assert service.status(timeout_s=TIMEOUT_S).state is ServingState.STOPPED
    assert [each.spec.name for each in service.list_variables(timeout_s=TIMEOUT_S)] == ["w"]
    ps.process.send_signal(signal.SIGTERM)
    assert ps.wait() == 0


def test_a_shutdown_call_ends_it(ps: PsProcess) -> None:
    ps.service().shutdown("the job is done", timeout_s=TIMEOUT_S)
    assert ps.wait() == 0


def test_a_batch_that_takes_too_long_is_cut_off(start_ps: StartPs, eventually: Eventually) -> None:
    ps = start_ps(*CLUSTER, "--port", "0", "--drain-timeout", "0")
    with ThreadPoolExecutor(1) as pool:
        reply = start_slow_batch(ps, pool, eventually, elements=60_000_000)
        ps.process.send_signal(signal.SIGTERM)
        assert ps.wait() == 1
        with pytest.raises(UnavailableError):
            reply()
    assert "batches were cut off" in [line["event"] for line in ps.log_lines]


def test_a_second_signal_ends_it_at_once(start_ps: StartPs, eventually: Eventually) -> None:
    ps = start_ps(*CLUSTER, "--port", "0", "--drain-timeout", "1000")
    with ThreadPoolExecutor(1) as pool:
        reply = start_slow_batch(ps, pool, eventually, elements=60_000_000)
        ps.process.send_signal(signal.SIGTERM)
        eventually(lambda: "draining" in [line["event"] for line in ps.log_lines], message="it drains")
        ps.process.send_signal(signal.SIGTERM)
        assert ps.wait() == 128 + signal.SIGTERM
        with pytest.raises(UnavailableError):
            reply()


def test_a_signal_that_its_parent_ignores_is_ignored(tmp_path: Path, eventually: Eventually) -> None:
    # As a shell does for what it starts in the background: Ctrl-C is not meant for it.
    starter = (
        "import signal, subprocess, sys\n"
        "signal.signal(signal.SIGINT, signal.SIG_IGN)\n"
        "sys.exit(subprocess.call([sys.executable, '-m', 'ps_server', *sys.argv[1:]], restore_signals=False))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", starter, *CLUSTER, "--port", "0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
        env=environment(),
    ) as started:
        assert started.stdout is not None
        ready = json.loads(started.stdout.readline())
        os.kill(ready["pid"], signal.SIGINT)
        with closing(grpc_transport.connect(f"127.0.0.1:{ready['port']}", task="ps:0")) as service:
            assert isinstance(send(service, SMALL).replies[0], Result)
        os.kill(ready["pid"], signal.SIGTERM)
        assert started.wait(TIMEOUT_S) == 0
