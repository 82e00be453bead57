"""A ps process with its state on disk, and a client that numbers its batches, for the tests of both."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

from ps_protocol.operations import Array, Batch, BatchReply, PsOperation, Read, Result
from worker_client.transport import grpc as grpc_transport
from worker_client.transport.grpc import GrpcPsService

TIMEOUT_S = 120.0
CLUSTER = ["--cluster", "ps=127.0.0.1:1;worker=127.0.0.1:3", "--task-index", "0", "--port", "0"]


class DurablePs:
    """A ps process. Ended, if it still runs, at the end of its block.

    Args:
        folder: Where its log is.
        arguments: Of the command line, besides the cluster.
        environ: Variables to set.
    """

    def __init__(self, folder: Path, *arguments: str, environ: Mapping[str, str] | None = None):
        outside = ("TF_CONFIG", "SHARDSCOPE_")
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(outside)}
        self._log = folder / f"{uuid4()}.log"
        with self._log.open("w", encoding="utf-8") as stderr:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "ps_server", *CLUSTER, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=stderr,
                text=True,
                env=inherited | dict(environ or {}),
            )
        assert self._process.stdout is not None
        self.ready: dict[str, Any] = json.loads(self._process.stdout.readline() or "{}")
        self._service: GrpcPsService | None = None

    @property
    def service(self) -> GrpcPsService:
        """A way to talk to it."""
        if self._service is None:
            self._service = grpc_transport.connect(f"127.0.0.1:{self.ready['port']}", task="ps:0")
        return self._service

    @property
    def log(self) -> list[dict[str, Any]]:
        """What it has logged."""
        return [json.loads(line) for line in self._log.read_text(encoding="utf-8").splitlines()]

    def kill(self) -> None:
        """Ends it by SIGKILL."""
        self._process.kill()
        self.wait()

    def end(self) -> int:
        """Ends it in good order; returns the exit code."""
        self._process.terminate()
        return self.wait()

    def wait(self) -> int:
        """Returns the exit code when it has ended."""
        if self._service is not None:
            self._service.close()
            self._service = None
        return self._process.wait(TIMEOUT_S)

    def __enter__(self) -> DurablePs:
        return self

    def __exit__(self, *_exception: object) -> None:
        self.kill()
        assert self._process.stdout is not None
        self._process.stdout.close()


class NumberingClient:
    """One incarnation of a client, which remembers what it sent and what it was answered."""

    def __init__(self) -> None:
        self.incarnation = uuid4()
        self.store = UUID(int=0)
        self.sequence = 0
        self.sent: list[tuple[Batch, BatchReply]] = []

    def hello(self, ps: DurablePs) -> None:
        """Opens a conversation."""
        self.store = ps.service.hello(self.incarnation, "worker:0", timeout_s=TIMEOUT_S).store

    def change(self, ps: DurablePs, *operations: PsOperation, timeout_s: float = TIMEOUT_S) -> BatchReply:
        """Sends a mutating batch."""
        self.sequence += 1
        batch = Batch(self.incarnation, self.store, self.sequence, operations)
        reply = ps.service.exchange(batch, timeout_s=timeout_s)
        self.sent.append((batch, reply))
        return reply

    def read(self, ps: DurablePs, *names: str) -> list[Array]:
        """Returns the values of variables."""
        reply = ps.service.exchange(
            Batch(self.incarnation, self.store, 0, tuple(Read(name) for name in names)), timeout_s=TIMEOUT_S
        )
        values = []
        for result in reply.replies:
            assert isinstance(result, Result), result
            assert result.tensor is not None
            values.append(result.tensor)
        return values
