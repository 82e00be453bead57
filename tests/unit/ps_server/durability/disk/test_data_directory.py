"""A task's directory is its own, one process's at a time, and in a form that this version knows."""

from __future__ import annotations

import json
import logging
import os
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from ps_protocol.task_id import TaskId
from ps_server.durability.disk import data_directory
from ps_server.durability.disk.data_directory import DataDirectory, DataDirectoryError, DirectoryInUseError

PS_0 = TaskId("ps", 0)

HOLDER = """
import sys, time
from pathlib import Path
from ps_protocol.task_id import TaskId
from ps_server.durability.disk.data_directory import DataDirectory
held = DataDirectory.open(Path(sys.argv[1]), task=TaskId("ps", 0), num_ps=2)
print("held", flush=True)
sys.stdin.read()
"""


def test_a_new_directory_gets_an_incarnation_that_stays(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path / "deep" / "data", task=PS_0, num_ps=2) as first:
        assert first.is_new
        assert first.path == tmp_path / "deep" / "data" / "ps-0"
        incarnation = first.store_incarnation
    with DataDirectory.open(tmp_path / "deep" / "data", task=PS_0, num_ps=2) as again:
        assert not again.is_new
        assert again.store_incarnation == incarnation


def test_tasks_share_a_root(tmp_path: Path) -> None:
    with (
        DataDirectory.open(tmp_path, task=PS_0, num_ps=2) as first,
        DataDirectory.open(tmp_path, task=TaskId("ps", 1), num_ps=2) as second,
        DataDirectory.open(tmp_path, task=TaskId("backup", 0), num_ps=2) as backup,
    ):
        assert len({first.path, second.path, backup.path}) == 3
        assert len({first.store_incarnation, second.store_incarnation, backup.store_incarnation}) == 3


def test_a_renewed_incarnation_is_on_disk(tmp_path: Path) -> None:
    with DataDirectory.open(tmp_path, task=PS_0, num_ps=1) as directory:
        before = directory.store_incarnation
        renewed = directory.renew_store_incarnation()
        assert before != renewed == directory.store_incarnation
    with DataDirectory.open(tmp_path, task=PS_0, num_ps=1) as again:
        assert again.store_incarnation == renewed


def test_a_directory_in_use_is_refused_and_names_the_process(tmp_path: Path) -> None:
    holder = f"ps-0 is held by the process {os.getpid()} on .*another directory"
    with DataDirectory.open(tmp_path, task=PS_0, num_ps=1), pytest.raises(DirectoryInUseError, match=holder):
        DataDirectory.open(tmp_path, task=PS_0, num_ps=1)
    DataDirectory.open(tmp_path, task=PS_0, num_ps=1).close()


def test_a_killed_process_lets_go(tmp_path: Path) -> None:
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as holder:
        try:
            assert holder.stdout is not None
            assert holder.stdout.readline() == "held\n"
            with pytest.raises(DirectoryInUseError, match=f"the process {holder.pid} "):
                DataDirectory.open(tmp_path, task=PS_0, num_ps=2)
        finally:
            holder.send_signal(signal.SIGKILL)
            holder.wait(30)
        with DataDirectory.open(tmp_path, task=PS_0, num_ps=2) as taken_over:
            assert not taken_over.is_new


def test_a_child_process_does_not_inherit_the_lock(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE) as before:
        with DataDirectory.open(tmp_path, task=PS_0, num_ps=1):
            after = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
        with after, DataDirectory.open(tmp_path, task=PS_0, num_ps=1):
            assert after.poll() is None
            after.communicate(timeout=30)
        before.communicate(timeout=30)


def test_another_tasks_directory_is_refused(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path, task=PS_0, num_ps=2).close()
    (tmp_path / "ps-0").rename(tmp_path / "ps-1")
    with pytest.raises(DataDirectoryError, match=r"ps-1 holds the state of ps:0, but this is ps:1"):
        DataDirectory.open(tmp_path, task=TaskId("ps", 1), num_ps=2)


def test_another_number_of_ps_tasks_is_refused(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path, task=PS_0, num_ps=2).close()
    with pytest.raises(DataDirectoryError, match="belongs to a cluster of 2 ps tasks, but this one has 3"):
        DataDirectory.open(tmp_path, task=PS_0, num_ps=3)


def test_a_newer_format_is_refused(tmp_path: Path) -> None:
    DataDirectory.open(tmp_path, task=PS_0, num_ps=2).close()
    path = tmp_path / "ps-0" / "format.json"
    path.write_text(json.dumps({"format": data_directory.FORMAT_VERSION + 1, "unheard": "of"}))
    with pytest.raises(DataDirectoryError, match="newer version of Shardscope"):
        DataDirectory.open(tmp_path, task=PS_0, num_ps=2)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff",
        b"{}",
        b"[]",
        b'{"format": 1, "task": "ps:0", "ps_tasks": 2, "store_incarnation": "no uuid"}',
        b'{"format": 1, "task": 7, "ps_tasks": 2, "store_incarnation": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"}',
        b'{"format": null, "task": "ps:0", "ps_tasks": 2, "store_incarnation": "6f9619ff-8b86-4d01-b42d-00cf4fc964ff"}',
    ],
)
def test_a_damaged_format_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    DataDirectory.open(tmp_path, task=PS_0, num_ps=2).close()
    path = tmp_path / "ps-0" / "format.json"
    path.write_bytes(content)
    with pytest.raises(DataDirectoryError, match=r"format\.json is damaged"):
        DataDirectory.open(tmp_path, task=PS_0, num_ps=2)
    assert path.read_bytes() == content


def test_state_without_a_format_is_refused(tmp_path: Path) -> None:
    (tmp_path / "ps-0" / "snapshots").mkdir(parents=True)
    with pytest.raises(DataDirectoryError, match=r"holds snapshots, but no format\.json"):
        DataDirectory.open(tmp_path, task=PS_0, num_ps=2)


def test_a_start_that_was_killed_before_it_wrote_the_format_is_no_obstacle(tmp_path: Path) -> None:
    (tmp_path / "ps-0").mkdir()
    (tmp_path / "ps-0" / "lock").touch()
    (tmp_path / "ps-0" / ".format.json.tmp").write_bytes(b"{")
    with DataDirectory.open(tmp_path, task=PS_0, num_ps=2) as directory:
        assert directory.is_new


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "data").touch()
    with pytest.raises(DataDirectoryError, match=r"data/ps-0 cannot be used: Not a directory; ps:0 needs"):
        DataDirectory.open(tmp_path / "data", task=PS_0, num_ps=1)


def test_a_file_system_without_locks_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flock(_descriptor: int, _operation: int) -> None:
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", flock)
    with pytest.raises(DataDirectoryError, match="has no locks"):
        DataDirectory.open(tmp_path, task=PS_0, num_ps=1)


def test_a_network_file_system_is_warned_of(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(data_directory, "_file_system", lambda _path: "nfs4")
    with caplog.at_level(logging.WARNING), DataDirectory.open(tmp_path, task=PS_0, num_ps=1):
        assert "network file system (nfs4)" in caplog.text


def test_the_file_system_of_a_path_is_known() -> None:
    assert data_directory._file_system(Path("/proc/self")) == "proc"


@pytest.mark.parametrize("lead", ["file", "nothing", "directory", "pipe"])
def test_a_lock_that_is_not_what_it_seems_is_left_alone(lead: str, tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("precious")
    (tmp_path / "ps-0").mkdir()
    lock = tmp_path / "ps-0" / "lock"
    match lead:
        case "file":
            lock.symlink_to(victim)
        case "nothing":
            lock.symlink_to(tmp_path / "made")
        case "directory":
            lock.mkdir()
        case "pipe":
            os.mkfifo(lock)
    with pytest.raises(DataDirectoryError, match=r"lock is no regular file"):
        DataDirectory.open(tmp_path, task=PS_0, num_ps=1)
    assert victim.read_text() == "precious"
    assert not (tmp_path / "made").exists()


def test_it_is_its_users_alone_whatever_the_umask(tmp_path: Path) -> None:
    (tmp_path / "old" / "ps-0").mkdir(parents=True)
    (tmp_path / "old" / "ps-0").chmod(0o775)
    before = os.umask(0)
    try:
        for root in (tmp_path / "new", tmp_path / "old"):
            with DataDirectory.open(root, task=PS_0, num_ps=1) as directory:
                assert stat.S_IMODE(directory.path.stat().st_mode) == 0o700
                assert {stat.S_IMODE(each.stat().st_mode) for each in directory.path.iterdir()} == {0o600}
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o700
