"""``torchrun`` as the launcher: its ranks are the workers; what it starts again takes the place of what was there."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.errors import AlreadyExistsError

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TIMEOUT_S = 150.0

SHARES = """
import sys
import shardscope as ss

with ss.connect(sys.argv[1]) as client:
    total = ss.get_variable("total", [], initializer=ss.zeros_initializer())
    index, count = client.shard
    total.assign_add(float(sum(range(1, 101)[index::count])))
    ss.barrier("added")
    # In one piece, since the other process writes to the same pipe.
    line = f"{client.task} of {client.num_workers}: chief {client.is_chief}, total {float(total):.0f}"
    sys.stdout.write(f"{line}\\n")
"""

DIES = """
import os, signal, sys
import shardscope as ss

is_first = os.environ["TORCHELASTIC_RESTART_COUNT"] == "0"
with ss.connect(sys.argv[1]) as client:
    total = ss.get_variable("total", [], initializer=ss.zeros_initializer())
    total.assign_add(1.0 if is_first else 10.0)
    ss.barrier(f"added {is_first}")
    if is_first:
        if client.task.index == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        signal.pause()  # until torchrun ends this one
    sys.stdout.write(f"{client.task}: {float(total):.0f}\\n")
"""


@pytest.fixture
def cluster() -> Iterator[LocalCluster]:
    with LocalCluster(num_ps=2) as started:
        yield started


def torchrun(cluster: LocalCluster, folder: Path, program: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Runs a program in two processes, which are given the addresses of the ps tasks alone."""
    path = folder / "program.py"
    path.write_text(program, encoding="utf-8")
    outside = ("TF_CONFIG", "RANK", "WORLD_SIZE", "LOCAL_RANK", "MASTER_", "TORCHELASTIC_")
    return subprocess.run(
        [
            *(sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", *options),
            *(str(path), cluster.cluster_spec.to_flag()),
        ],
        env={
            **{name: value for name, value in os.environ.items() if not name.startswith(outside)},
            "OMP_NUM_THREADS": "1",
            "PYTHONPATH": os.pathsep.join(sys.path),
        },
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


def test_ranks_are_workers(cluster: LocalCluster, tmp_path: Path) -> None:
    done = torchrun(cluster, tmp_path, SHARES)
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == [
        "worker:0 of 2: chief True, total 5050",
        "worker:1 of 2: chief False, total 5050",
    ]


def test_a_program_that_torchrun_starts_again_goes_on(cluster: LocalCluster, tmp_path: Path) -> None:
    done = torchrun(cluster, tmp_path, DIES, "--max-restarts", "1")
    assert done.returncode == 0, done.stderr
    assert sorted(done.stdout.splitlines()) == ["worker:0: 22", "worker:1: 22"]
    assert "exitcode: -9" in done.stderr


def test_a_process_that_was_started_again_need_not_wait_for_the_lease_of_the_one_before(
    cluster: LocalCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As when that one is on a machine that cannot be reached: nobody knows that it is dead."""
    for name, value in {"RANK": "1", "WORLD_SIZE": "2"}.items():
        monkeypatch.setenv(name, value)
    flag = cluster.cluster_spec.to_flag()
    stays = "import sys, shardscope as ss; ss.connect(sys.argv[1], lease_s=6); print('in', flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", stays, flag], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as before:
        try:
            assert before.stdout is not None
            assert before.stdout.readline() == "in\n"
            with pytest.raises(AlreadyExistsError, match="worker:1"):
                ss.connect(flag)
            monkeypatch.setenv("TORCHELASTIC_RESTART_COUNT", "1")
            with ss.connect(flag) as again:
                assert again.shard == (1, 2)
        finally:
            before.kill()
