"""Every fault of a message, with every operation, over every transport, for every durability: each counts once."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from ps_protocol.fault_points import Action, Fault, FaultPlan, installed
from ps_protocol.ps_service import DurabilityMode
from tests.chaos.operations import OPERATIONS, Operation
from tests.chaos.testbed import TestBed
from tests.conftest import no_leaks

pytestmark = pytest.mark.chaos

TRANSPORTS: Final = ("grpc", "tcp", "unix", "shm")
COMBINATIONS: Final = tuple(itertools.product(TRANSPORTS, DurabilityMode))

FAULTS: Final = (
    Fault("request.send", Action.DROP, last=1),
    Fault("request.send", Action.CUT, last=2),
    Fault("request.received", Action.DROP, last=1),
    Fault("request.received", Action.DUPLICATE),
    Fault("reply.send", Action.DROP, last=1),
    Fault("reply.send", Action.DROP, last=3),
    Fault("reply.send", Action.CUT, last=2),
    Fault("reply.send", Action.DELAY, last=1, seconds=0.01),
)

_numbers = itertools.count()


@pytest.fixture(autouse=True)
def _no_leaks() -> None:
    """The threads that serve a test are those of the bed, which is looked after as a whole."""


@pytest.fixture(scope="module", params=COMBINATIONS, ids=lambda each: f"{each[0]}-{each[1].name.lower()}")
def bed(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[TestBed]:
    transport, mode = request.param
    directory: Path = tmp_path_factory.mktemp("data")
    with no_leaks(), TestBed(transport, mode, directory) as made:
        yield made


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda each: each.__name__)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda each: f"{each.place}={each.action}@{each.last}")
def test_counts_once(bed: TestBed, fault: Fault, operation: Operation) -> None:
    with bed.client.as_default():
        steps = operation(bed.client, f"variable_{next(_numbers)}")
        next(steps)
        with installed(FaultPlan((fault,))) as plan:
            next(steps)
        assert plan.fired(fault.place) >= 1
        assert next(steps, "done") == "done"
