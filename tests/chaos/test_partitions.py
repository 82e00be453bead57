"""A pair whose network is divided: never do two acknowledge, and it heals when the cables are back.

The two processes, their coordinator and workers are on hosts of their own, and so is the test. A worker writes on each
side of whatever is divided: if two processes acknowledged updates, those of one of them would be missing in the sums.
"""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Final, TypeAlias

import pytest

from ps_cluster.inspection.health_probe import check_health
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB, WORKER_JOB, ClusterSpec, TfConfig
from ps_protocol.errors import ShardscopeError
from ps_protocol.liveness import READY
from ps_protocol.service_types import ReplicaRole
from ps_protocol.task_id import TaskId
from ps_server.replication.decisions import EXIT_SUPERSEDED
from tests.chaos.namespaces import Hosts
from tests.chaos.patience import connect_impatiently
from tests.chaos.ps_processes import PsTask
from tests.chaos.soak.pauses import Pauses
from tests.chaos.soak.report import outcomes
from tests.chaos.soak.settings import ROOT
from tests.chaos.soak.variables import acknowledged_path, num_updates, soak_variables
from tests.chaos.soak.worker import ENOUGH_FILE
from tests.conftest import Eventually
from tests.etcd_process import EtcdProcess
from worker_client.transport import grpc

pytestmark = [pytest.mark.chaos, pytest.mark.integration]

Way: TypeAlias = tuple[str, str]

LEASE_S: Final = 1.0
LASTS_LEASES: Final = 1.5
TIMEOUT_S: Final = 60.0
PROBE_S: Final = 0.3
PORT: Final = 2222  # of hosts that are this test's own
ETCD_PORTS: Final = (2379, 2380)
ENOUGH: Final = 10
EVERYBODY: Final = ("primary", "backup", "coordinator", "test")
PLACES: Final = {PS_JOB: "ps", BACKUP_JOB: "backup"}


class DividedPair:
    """A pair, its coordinator, and three workers: beside each process of the pair, and at the test's own host.

    Args:
        hosts: "ps", "backup" and "coordinator".
        directory: For logs, and for what the workers write down.
        resources: Ends the processes.
        eventually: Waits.
    """

    def __init__(self, hosts: Hosts, directory: Path, resources: ExitStack, eventually: Eventually):
        self.hosts = hosts
        self._directory = directory
        self._eventually = eventually
        etcd = EtcdProcess(
            directory / "etcd",
            ports=ETCD_PORTS,
            host=hosts.address("coordinator"),
            command=hosts.command("coordinator"),
        )
        resources.enter_context(etcd).wait_until_ready()
        self.spec = ClusterSpec(
            {
                **{job: [f"{hosts.address(name)}:{PORT}"] for job, name in PLACES.items()},
                WORKER_JOB: [f"{hosts.address('test')}:{index + 1}" for index in range(4)],
            }
        )
        self._pair = {name: resources.enter_context(self._process(job, name, etcd.url)) for job, name in PLACES.items()}
        for process in self._pair.values():
            process.start()
        self.heal()
        self._writers = {name: index for index, name in enumerate(("ps", "backup", "test"))}
        for name, index in self._writers.items():
            resources.callback(_end, self._writer(name, index))
        self._pauses = Pauses(directory, len(self._writers))
        self.go_on(*self._writers)

    def _process(self, job: str, name: str, coordinator: str) -> PsTask:
        (self._directory / name).mkdir()
        process = PsTask(
            self._directory / name,
            host=self.hosts.address(name),
            port=PORT,
            command=(*self.hosts.command(name), sys.executable),
            is_backup=job == BACKUP_JOB,
            options=("--coordinator", coordinator, "--lease", str(LEASE_S)),
        )
        process.cluster, process.backups = ([self.spec.task_address(each, 0)] for each in PLACES)
        return process

    def _writer(self, name: str, index: int) -> subprocess.Popen[bytes]:
        command = [*(self.hosts.command(name) if name in self._pair else ()), sys.executable]
        options = ["--directory", str(self._directory), "--updates", "1", "--seed", "1", "--life", "0"]
        config = TfConfig(cluster=self.spec, task=TaskId(WORKER_JOB, index))
        with (self._directory / f"writer-{name}.log").open("wb") as log:
            return subprocess.Popen(
                [*command, "-m", "tests.chaos.soak.worker", *options, "--transport", "auto"],
                cwd=ROOT,
                env={**os.environ, "TF_CONFIG": config.to_json()},
                stdout=log,
                stderr=log,
            )

    def end_writers(self) -> None:
        """Has them end in good order."""
        (self._directory / ENOUGH_FILE).touch()

    def roles(self) -> dict[str, str]:
        """Which host is in which role of a scenario; the pair is whole."""
        backups = [name for name in self._pair if self._role(name) is ReplicaRole.BACKUP]
        assert len(backups) == 1, f"not whole: {backups}"
        [primary] = set(self._pair) - set(backups)
        return {"primary": primary, "backup": backups[0], "coordinator": "coordinator", "test": "test"}

    def _role(self, name: str) -> ReplicaRole:
        service = grpc.connect(self._pair[name].address, task="ps:0")
        try:
            replication = service.status(timeout_s=TIMEOUT_S).replication
        finally:
            service.close()
        assert replication is not None
        return replication.role

    def heal(self) -> None:
        """Waits until the pair is whole; a process that has ended itself is started again."""

        def is_whole() -> bool:
            for process in self._pair.values():
                if process.exit_code is not None:
                    assert process.wait() == EXIT_SUPERSEDED, process.log
                    process.start()
            return all(_is_ready(process.address) for process in self._pair.values())

        self._eventually(is_whole, timeout_s=TIMEOUT_S, message="the pair is whole")

    def go_on(self, *names: str) -> None:
        """Waits until each of these writers has got more answers."""
        paths = {name: acknowledged_path(self._directory, self._writers[name], 0) for name in names}
        aims = {name: num_updates(path) + ENOUGH for name, path in paths.items()}
        self._eventually(
            lambda: all(num_updates(paths[name]) >= aim for name, aim in aims.items()),
            timeout_s=TIMEOUT_S,
            message=f"the writers beside {names} go on",
        )

    def check_sums(self) -> None:
        """A new worker gets in, and finds every update that was acknowledged, once."""
        variables = soak_variables(1)
        with self._pauses.pause(TIMEOUT_S), connect_impatiently(self.spec, WORKER_JOB, len(self._writers)):
            values = [variable.declare().read_value() for variable in variables]
            found = outcomes(variables, values, self._directory)
        assert [each.verdict for each in found] == ["equal"] * len(variables), found

    def is_lost(self, way: Way) -> bool:
        """Whether what a host sends to another one gets no answer, and no refusal."""
        source, target = way
        port = ETCD_PORTS[0] if target == "coordinator" else PORT
        asks = f"import socket; socket.create_connection(('{self.hosts.address(target)}', {port}), {PROBE_S})"
        tried = subprocess.run(
            [*(() if source == "test" else self.hosts.command(source)), sys.executable, "-S", "-c", asks],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return "TimeoutError" in tried.stderr


def _end(writer: subprocess.Popen[bytes]) -> None:
    """Waits for its end; it has been told that it has sent enough."""
    try:
        writer.wait(TIMEOUT_S)
    finally:
        writer.kill()
        writer.wait(TIMEOUT_S)


def _is_ready(address: str) -> bool:
    try:
        return check_health(address, service=READY, timeout_s=TIMEOUT_S) == "SERVING"
    except ShardscopeError:
        return False


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory, eventually: Eventually) -> Iterator[DividedPair]:
    """One for all tests, each of which begins and ends with a whole pair and no packet lost."""
    with ExitStack() as resources:
        hosts = resources.enter_context(Hosts("ps", "backup", "coordinator"))
        divided = DividedPair(hosts, tmp_path_factory.mktemp("pair"), resources, eventually)
        resources.callback(divided.end_writers)
        yield divided


def between(one: str, others: Sequence[str]) -> list[Way]:
    return [way for other in others if other != one for way in ((one, other), (other, one))]


BESIDE_BOTH: Final = ("primary", "backup", "test")


@pytest.mark.parametrize(
    ("ways", "go_on"),
    [
        pytest.param(between("primary", ["backup"]), ["test"], id="the pair from each other"),
        pytest.param(between("primary", EVERYBODY), ["backup", "test"], id="the primary from everybody"),
        pytest.param(between("backup", EVERYBODY), ["primary", "test"], id="the backup from everybody"),
        pytest.param(between("coordinator", ["primary"]), BESIDE_BOTH, id="the coordinator from the primary"),
        pytest.param(between("coordinator", ["backup"]), BESIDE_BOTH, id="the coordinator from the backup"),
        pytest.param(between("coordinator", ["primary", "backup"]), BESIDE_BOTH, id="the coordinator from both"),
        pytest.param([("primary", "backup")], ["test"], id="what the primary says to the backup"),
        pytest.param([("backup", "primary")], ["test"], id="what the backup says to the primary"),
        pytest.param([("primary", each) for each in EVERYBODY[1:]], ["backup", "test"], id="what the primary says"),
        pytest.param(
            [(each, "primary") for each in EVERYBODY[1:]], ["backup", "test"], id="what is said to the primary"
        ),
        pytest.param([("coordinator", "primary")], BESIDE_BOTH, id="what the coordinator says to the primary"),
    ],
)
def test_a_divided_pair_goes_on_in_one_place_and_heals(
    pair: DividedPair, ways: Sequence[Way], go_on: Sequence[str]
) -> None:
    pair.heal()
    hosts = pair.roles()
    lost = [(hosts[source], hosts[target]) for source, target in ways]
    pair.hosts.lose(*lost)
    try:
        assert all(pair.is_lost(way) for way in lost if way[1] != "test")
        began_s = time.monotonic()
        while time.monotonic() - began_s < LASTS_LEASES * LEASE_S:  # until no earlier promise counts any more
            pair.go_on(*[hosts[each] for each in go_on])
    finally:
        pair.hosts.lose()
    pair.heal()
    pair.go_on("ps", "backup", "test")
    pair.check_sums()


def test_a_pair_that_is_divided_without_its_coordinator_waits_for_it(pair: DividedPair, eventually: Eventually) -> None:
    """Nobody may decide which of the two goes on; then the first one that reaches the coordinator does."""
    pair.heal()
    hosts = pair.roles()
    ways = between("primary", ["backup"]) + between("coordinator", ["primary", "backup"])
    pair.hosts.lose(*[(hosts[source], hosts[target]) for source, target in ways])
    try:
        eventually(
            lambda: not _is_ready(pair.spec.ps_addresses()[0]) and not _is_ready(pair.spec.task_address(BACKUP_JOB, 0)),
            timeout_s=TIMEOUT_S,
            message="neither process may be relied on",
        )
        pair.hosts.lose(*[(hosts[source], hosts[target]) for source, target in between("primary", ["backup"])])
        pair.go_on("test")
    finally:
        pair.hosts.lose()
    pair.heal()
    pair.go_on("ps", "backup", "test")
    pair.check_sums()
