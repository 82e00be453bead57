"""Every fault of a message, with every operation, over every transport, for every durability: each counts once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from ps_protocol.service_types import DurabilityMode
from ps_server.transport.grpc import data as grpc_data
from tests.chaos.operations import CHUNK_BYTES, OPERATIONS, Operation
from tests.chaos.testbed import TestBed
from tests.conftest import no_leaks
from worker_client.transport import grpc as grpc_client
from worker_client.transport.shared_memory import pool as segment_pool

pytestmark = pytest.mark.chaos

TRANSPORTS: Final = ("grpc", "tcp", "unix", "shm")
COMBINATIONS: Final = tuple(itertools.product(TRANSPORTS, DurabilityMode))

FAULTS: Final = (
    Fault("request.send", FaultAction.DROP, last=1),
    Fault("request.send", FaultAction.CUT, last=2),
    Fault("request.received", FaultAction.DROP, last=1),
    Fault("request.received", FaultAction.DUPLICATE),
    Fault("reply.send", FaultAction.DROP, last=3),
    Fault("reply.send", FaultAction.CUT, last=2),
    Fault("reply.send", FaultAction.DELAY, last=1, seconds=0.01),
    # On sockets a stream in which frames are doubled or changed; over gRPC they are lost.
    Fault("request.send", FaultAction.DUPLICATE, last=1),
    Fault("request.send", FaultAction.DAMAGE, last=2),
    Fault("reply.send", FaultAction.DUPLICATE, last=1),
    Fault("reply.send", FaultAction.DAMAGE, last=2),
)

SEGMENT_BYTES: Final = 4 * 1024**2

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _no_leaks() -> None:
    """The threads that serve a test are those of the bed, which is looked after as a whole."""


@pytest.fixture(scope="module", params=COMBINATIONS, ids=lambda each: f"{each[0]}-{each[1].name.lower()}")
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBed]:
    transport, mode = request.param
    directory: Path = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch, no_leaks(), TestBed(transport, mode, directory) as made:
        patch.setattr(grpc_client, "UNARY_LIMIT_BYTES", CHUNK_BYTES)
        patch.setattr(grpc_client, "CHUNK_SIZE_BYTES", CHUNK_BYTES)
        patch.setattr(grpc_data, "CHUNK_SIZE_BYTES", CHUNK_BYTES)
        patch.setattr(segment_pool, "MIN_SEGMENT_BYTES", SEGMENT_BYTES)  # a new one after every fault
        yield made


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: f"{each.place}={each.action}@{min(each.last, 9)}")
def test_counts_once(bed: TestBed, fault: Fault, operation: Operation) -> None:
    with bed.client.as_default():
        steps = operation(bed.client, f"variable_{next(_numbers)}")
        next(steps)
        with installed(FaultPlan((fault,))) as plan:
            next(steps)
        assert plan.fired(fault.place) >= 1
        assert next(steps, "done") == "done"
