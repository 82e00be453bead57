"""``shardscope workers --watch``, on a terminal and in a pipe, until Ctrl-C or until the cluster has gone."""

from __future__ import annotations

import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from tests.conftest import Eventually
from tests.integration.test_up_terminal import Terminal
from tests.integration.test_workers_command import TIMEOUT_S, command
from tests.unit.worker_client.optimizers.together import Worker, gradients

pytestmark = pytest.mark.integration

SCREEN, LEFT, CURSOR = b"\x1b[?1049h", b"\x1b[?1049l", b"\x1b[?25h"


@pytest.fixture
def resources() -> Iterator[ExitStack]:
    with ExitStack() as resources:
        yield resources


@pytest.fixture
def terminal(resources: ExitStack) -> Terminal:
    terminal = Terminal()
    resources.callback(terminal.close)
    terminal.resize(80, 24)
    return terminal


def begun(resources: ExitStack, cluster: LocalCluster) -> Worker:
    """A worker that has made a step."""
    client = resources.enter_context(ss.connect(cluster.cluster_spec))
    worker = Worker(client, ss.train.GradientDescent(0.25, name="descent", sync="bsp"))
    worker.step(gradients(0, 0))
    return worker


def watching(terminal: Terminal, cluster: LocalCluster) -> subprocess.Popen[bytes]:
    return terminal.start(*command(cluster, "workers", "--watch")[3:])


def last_view(terminal: Terminal) -> list[str]:
    """The lines of what is on the screen now: each view begins at its top left corner."""
    view = terminal.data.rpartition(b"\x1b[H")[2].decode()
    return [line.rstrip() for line in re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", view).splitlines() if line.strip()]


def test_it_has_a_screen_of_its_own_and_leaves_the_newest_view_behind(
    resources: ExitStack, terminal: Terminal, eventually: Eventually
) -> None:
    cluster = resources.enter_context(LocalCluster(num_ps=1, num_workers=1))
    worker = begun(resources, cluster)
    process = resources.enter_context(watching(terminal, cluster))
    eventually(lambda: "round 1" in terminal.text, timeout_s=TIMEOUT_S)
    worker.step(gradients(0, 1))
    eventually(lambda: "round 2" in terminal.text, timeout_s=TIMEOUT_S)
    terminal.resize(36, 24)  # too narrow for the table and for the line above it
    eventually(lambda: last_view(terminal)[:2] == ["descent: bsp, round 2, 1 live,", "computing"], timeout_s=TIMEOUT_S)
    assert max([len(line) for line in last_view(terminal)]) <= 36
    terminal.resize(36, 2)
    eventually(lambda: last_view(terminal)[1:] == ["... 3 more lines"], timeout_s=TIMEOUT_S)
    process.send_signal(signal.SIGINT)
    assert process.wait(TIMEOUT_S) == 128 + signal.SIGINT
    eventually(lambda: LEFT in terminal.data)
    assert terminal.data.count(SCREEN) == 1
    behind = terminal.data.rpartition(LEFT)[2]
    assert CURSOR in terminal.data[terminal.data.rindex(LEFT) - 20 :]
    eventually(lambda: b"worker:0" in terminal.data.rpartition(LEFT)[2])
    assert b"Traceback" not in behind


@pytest.mark.parametrize("is_over", [True, False])
def test_a_cluster_that_has_gone_is_told_and_waited_for_before(
    resources: ExitStack, terminal: Terminal, eventually: Eventually, is_over: bool
) -> None:
    cluster = resources.enter_context(LocalCluster(num_ps=1, num_workers=1))
    worker = begun(resources, cluster)
    if is_over:
        worker.optimizer.finish()
    process = resources.enter_context(watching(terminal, cluster))
    eventually(lambda: ("finished" if is_over else "live  ") in terminal.text, timeout_s=TIMEOUT_S)
    cluster.kill_ps(0)
    eventually(lambda: "no answer for" in terminal.text, timeout_s=TIMEOUT_S)
    assert process.wait(TIMEOUT_S) == (0 if is_over else 1)
    eventually(lambda: b"the cluster does not answer any more; no answer for" in terminal.data.rpartition(LEFT)[2])
    cluster.restart_ps(0)  # or else the worker would try to leave for a minute


def test_in_a_pipe_all_is_written_each_time_and_at_once(resources: ExitStack) -> None:
    cluster = resources.enter_context(LocalCluster(num_ps=1, num_workers=1))
    worker = begun(resources, cluster)
    process = subprocess.Popen(command(cluster, "workers", "--watch"), stdout=subprocess.PIPE, text=True)
    resources.enter_context(process)
    resources.callback(process.kill)
    assert process.stdout is not None
    views = []
    for number in (1, 2):
        lines = [process.stdout.readline() for _ in range(4)]
        while f"round {number}" not in lines[0]:
            lines = [process.stdout.readline() for _ in range(4)]
        views.append(lines)
        worker.step(gradients(0, 1))
    for heading, columns, row, blank in views:
        assert heading.startswith("descent: bsp, round")
        assert columns.split()[-2:] == ["seen", "does"]
        assert row.startswith("worker:0")
        assert blank == "\n"
