"""What an operator of pairs does: advice of docs/operations.md that no other test follows is followed here.

``tests/integration/test_advice.py`` has the whole list of advice, with the test of each.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Final

import numpy as np
import pytest

import worker_client as ss
from ps_cluster.inspection.health_probe import check_health
from ps_cluster.local.local_cluster import LocalCluster
from ps_cluster.local.reserved_ports import LOOPBACK, ReservedPorts
from ps_protocol.cluster_spec import BACKUP_JOB, PS_JOB
from ps_protocol.errors import ShardscopeError, StateLostError
from ps_protocol.liveness import READY
from ps_protocol.task_id import TaskId
from ps_server.process.options import parse_options
from tests.commands import shardscope
from tests.conftest import Eventually
from tests.etcd_process import etcd_cluster
from tests.integration.test_failover import LEASE_S, TIMEOUT_S, Failover, started
from tests.integration.test_replication import SIZE, Updates, counter_on, make_progress

pytestmark = pytest.mark.integration

ROOT: Final = Path(__file__).parents[2]
OPERATIONS: Final = (ROOT / "docs/operations.md").read_text(encoding="utf-8")
PS_0, BACKUP_0 = TaskId(PS_JOB, 0), TaskId(BACKUP_JOB, 0)


def shell_block(beginning: str) -> str:
    """The commands of a block of the documentation."""
    [found] = [
        each for each in re.findall(r"^```sh\n(.*?)^```$", OPERATIONS, re.MULTILINE | re.DOTALL) if beginning in each
    ]
    return str(found)


# -- states ---------------------------------------------------------------------------------------


def test_a_primary_alone_goes_on_when_its_coordinator_is_back(
    tmp_path: Path, resources: ExitStack, eventually: Eventually
) -> None:
    failover = started(resources, eventually, 1, tmp_path / "etcd")
    assert failover.etcd is not None
    variable = counter_on(0, resources.enter_context(ss.connect(failover.spec)))
    failover.kill(BACKUP_0)
    variable.assign_add(np.ones(SIZE, np.float32))  # it goes on alone
    failover.etcd.kill()
    flag = failover.spec.to_flag()
    eventually(
        lambda: "has not confirmed" in shardscope("ls", "--tasks", "--json", "--cluster", flag).stdout,
        timeout_s=TIMEOUT_S,
        message="the primary says what it waits for",
    )
    late = variable.assign_add(np.ones(SIZE, np.float32), wait=False)
    assert not late.done()
    failover.etcd.start()
    late.result(TIMEOUT_S)
    failover.cluster.restart(BACKUP_0)
    failover.heal()
    np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, 2.0))


def test_a_process_that_has_the_state_is_reached_again(resources: ExitStack, eventually: Eventually) -> None:
    """The other one has nothing, and says how to give the state up; nobody has to."""
    failover = started(resources, eventually, 1)
    variable = counter_on(0, resources.enter_context(ss.connect(failover.spec)))
    failover.kill(BACKUP_0)
    variable.assign_add(np.ones(SIZE, np.float32))  # it goes on alone
    failover.cluster.signal_ps(0, signal.SIGSTOP)
    failover.cluster.restart(BACKUP_0)
    eventually(
        lambda: failover.count_in_log(BACKUP_0, "shardscope promote ps:0 --accept-loss"),
        timeout_s=TIMEOUT_S,
        message="the process without state says what to do",
    )
    failover.cluster.signal_ps(0, signal.SIGCONT)
    failover.heal()
    failover.kill(PS_0)
    variable.assign_add(np.ones(SIZE, np.float32))
    np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, 2.0))


def test_ctrl_c_ends_a_primary_without_a_handover(resources: ExitStack, eventually: Eventually) -> None:
    failover = started(resources, eventually, 1)
    variable = counter_on(0, resources.enter_context(ss.connect(failover.spec)))
    with Updates(variable) as updates:
        make_progress(updates, eventually)
        primary = failover.cluster.process(PS_0)
        primary.send_signal(signal.SIGINT)
        assert primary.wait(TIMEOUT_S) == 0, primary.tail[-5:]
        make_progress(updates, eventually)
    assert failover.count_in_log(BACKUP_0, "the primary has been silent")
    np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))


# -- the coordinator's data -----------------------------------------------------------------------


@pytest.fixture(params=["files", "etcd"])
def away(
    request: pytest.FixtureRequest, tmp_path: Path, resources: ExitStack, eventually: Eventually
) -> tuple[Failover, Callable[[], None], Callable[[], None]]:
    """A pair, and what takes the data of its coordinator away and puts them back; etcd runs without them meanwhile."""
    aside = tmp_path / "aside"
    if request.param == "files":
        place = tmp_path / "coordination"
        cluster = LocalCluster(1, replicas=1, coordinator=f"file://{place}", ps_arguments=("--lease", str(LEASE_S)))
        failover = Failover(resources.enter_context(cluster), eventually)
        resources.callback(cluster.signal_all_ps, signal.SIGKILL)  # one whose other is gone would wait for it
        failover.heal()
        return failover, lambda: _rename(place, aside), lambda: _rename(aside, place)
    failover = started(resources, eventually, 1, tmp_path / "etcd")
    etcd = failover.etcd
    assert etcd is not None

    def take() -> None:
        etcd.kill()
        _rename(etcd.data, aside)
        etcd.start()
        etcd.wait_until_ready()

    def put_back() -> None:
        etcd.kill()
        etcd.remove_data()
        _rename(aside, etcd.data)
        etcd.start()
        etcd.wait_until_ready()

    return failover, take, put_back


def _rename(before: Path, after: Path) -> None:
    before.rename(after)


def test_data_of_a_coordinator_are_put_back(
    away: tuple[Failover, Callable[[], None], Callable[[], None]], resources: ExitStack, eventually: Eventually
) -> None:
    failover, take, put_back = away
    variable = counter_on(0, resources.enter_context(ss.connect(failover.spec)))
    with Updates(variable) as updates:
        make_progress(updates, eventually)
        take()
        eventually(
            lambda: failover.count_in_log(PS_0, "If that cannot be, end all processes"),
            timeout_s=TIMEOUT_S,
            message="the primary says that its coordinator has lost its data",
        )
        make_progress(updates, eventually)  # the pair goes on
        put_back()
        failover.kill(PS_0)
        make_progress(updates, eventually)
        failover.cluster.restart_ps(0)
        failover.heal()
    np.testing.assert_array_equal(variable.read_value(), np.full(SIZE, updates.acknowledged))


def test_without_the_data_of_a_coordinator_all_processes_begin_again(
    away: tuple[Failover, Callable[[], None], Callable[[], None]], resources: ExitStack
) -> None:
    failover, take, _ = away
    variable = counter_on(0, resources.enter_context(ss.connect(failover.spec)))
    take()
    failover.cluster.signal_all_ps(signal.SIGTERM)
    assert None not in failover.cluster.wait(TIMEOUT_S)
    for task in failover.places:
        failover.cluster.restart(task)
    failover.heal()
    with pytest.raises(StateLostError):
        variable.assign_add(np.ones(SIZE, np.float32))
    again = counter_on(0, resources.enter_context(ss.connect(failover.spec)))
    np.testing.assert_array_equal(again.read_value(), np.zeros(SIZE))


# -- commands -------------------------------------------------------------------------------------


def test_a_pair_is_started_as_it_is_written(tmp_path: Path, resources: ExitStack, eventually: Eventually) -> None:
    """The commands of the page, at addresses of this machine."""
    members = resources.enter_context(etcd_cluster(tmp_path))
    reserved = ReservedPorts(4)
    resources.callback(reserved.close)
    places = ["host0:2222", "host1:2222", "host1:2223", "host0:2223"]
    addresses = dict(zip(places, [f"{LOOPBACK}:{port}" for port in reserved.ports], strict=True))
    addresses |= {f"host{index}:2379": member.address for index, member in enumerate(members)}

    def here(block: str) -> list[str]:
        block = re.sub(r"host\d:\d+", lambda found: addresses[found[0]], block)
        return (
            block.replace("python -m", f"{sys.executable} -m")
            .replace("shardscope health", f"{sys.executable} -m ps_cluster health")
            .splitlines()
        )

    lines = here(shell_block('COORDINATOR="etcd://'))
    names = [line for line in lines if "ps_server" not in line]
    commands = [line for line in lines if line not in names]
    assert len(commands) == 2
    assert "--backup" in commands[1]
    for command in commands:
        process = subprocess.Popen(
            ["bash", "-c", "\n".join([*names, f"exec {command.partition('#')[0]} --lease {LEASE_S}"])],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        resources.callback(process.wait, TIMEOUT_S)
        resources.callback(process.kill)
    address = addresses["host0:2222"]

    def is_ready() -> bool:
        try:
            return check_health(address, service=READY, timeout_s=TIMEOUT_S) == "SERVING"
        except ShardscopeError:
            return False

    eventually(is_ready, timeout_s=TIMEOUT_S, message="the pair is complete")
    one, all_of_them = here(shell_block("shardscope health --ready"))
    for command, code in ((one, 0), (all_of_them, 1)):  # of the other ps task there is no process
        done = subprocess.run(
            ["bash", "-c", "\n".join([*names, command])], capture_output=True, timeout=TIMEOUT_S, check=False
        )
        assert done.returncode == code, done


def test_the_service_of_a_backup_in_compose_has_options_that_make_sense() -> None:
    [service] = re.findall(r"^```yaml\n  backup0:\n(.*?)^```$", OPERATIONS, re.MULTILINE | re.DOTALL)
    coordinator = re.search(r"SHARDSCOPE_COORDINATOR: (\S+)", service)
    config = re.search(r"TF_CONFIG: >-\n((?: {8}.*\n)+)", service)
    assert coordinator
    assert config
    text = " ".join(line.strip() for line in config[1].splitlines())
    options = parse_options([], {"TF_CONFIG": text, "SHARDSCOPE_COORDINATOR": coordinator[1]})
    assert options.place == str(BACKUP_0)
    assert len(json.loads(text)["cluster"]["backup"]) == 2
