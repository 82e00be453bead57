"""Ps processes that are killed and started again on the same data directory."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest

from ps_protocol.errors import DeadlineExceededError, ResourceExhaustedError, ShardscopeError, StateLostError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec, RandomNormalKind, ValueKind
from ps_protocol.operations import (
    BatchReply,
    CountUpTo,
    Declare,
    Initialize,
    PartitionSlice,
    Read,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_protocol.service_types import DurabilityMode, Proposal
from tests.conftest import Eventually
from tests.integration.durable_ps import TIMEOUT_S, DurablePs, NumberingClient

pytestmark = pytest.mark.integration

WEIGHTS = VariableSpec("layer/weights", np.dtype(np.float32), (50, 40))
TABLE = VariableSpec("table/part_1", np.dtype(np.float64), (4, 3), PartitionSlice("table", (9, 3), (5, 0)))
STEP = VariableSpec("step", np.dtype(np.int64), ())
LATER = VariableSpec("later", np.dtype(np.float32), (7,))
NAMES = ("layer/weights", "table/part_1", "step")
ONE_MORE = Update("step", UpdateRule.ASSIGN_ADD, np.array(1, np.int64))


class StartPs(Protocol):
    def __call__(
        self, mode: str, *arguments: str, directory: Path | None = None, environ: Mapping[str, str] | None = None
    ) -> DurablePs: ...


@pytest.fixture
def start_ps(tmp_path: Path) -> Iterator[StartPs]:
    with ExitStack() as processes:

        def start(
            mode: str, *arguments: str, directory: Path | None = None, environ: Mapping[str, str] | None = None
        ) -> DurablePs:
            kept_in = ("--durability", mode, "--data-dir", str(directory or tmp_path / "state"))
            return processes.enter_context(DurablePs(tmp_path, *kept_in, *arguments, environ=environ))

        yield start


def declare_all(client: NumberingClient, ps: DurablePs) -> None:
    client.hello(ps)
    client.change(
        ps,
        Declare(WEIGHTS, InitializerSpec(RandomNormalKind(0.0, 1.0), seed=5)),
        Declare(TABLE, InitializerSpec(ValueKind(np.arange(12.0).reshape(4, 3)))),
        Declare(STEP, InitializerSpec(ConstantKind(0.0))),
        Declare(LATER),
    )
    ps.service.place([Proposal(spec, 0) for spec in (WEIGHTS, TABLE, STEP)], timeout_s=TIMEOUT_S)


def change_all(client: NumberingClient, ps: DurablePs) -> None:
    client.change(
        ps,
        Update(WEIGHTS.name, UpdateRule.ASSIGN_SUB, np.full(WEIGHTS.shape, 0.1, np.float32)),
        Scatter(TABLE.name, ScatterRule.ADD, np.array([0, 3, 3]), np.ones((3, 3))),
        CountUpTo(STEP.name, 1000),
        Read(TABLE.name),
    )
    client.change(ps, Scatter(TABLE.name, ScatterRule.ADD, np.array([99]), np.ones((1, 3))), ONE_MORE)


def state(client: NumberingClient, ps: DurablePs) -> object:
    """All that clients can see of a ps, but for what it has counted since its start."""
    return (
        [value.tolist() for value in client.read(ps, *NAMES)],
        ps.service.list_variables(timeout_s=TIMEOUT_S),
        ps.service.list_placements(timeout_s=TIMEOUT_S),
        ps.ready["store"],
    )


def said(reply: BatchReply) -> object:
    """A reply as plain values."""
    return [
        (each.code, each.message, each.variable)
        if isinstance(each, ShardscopeError)
        else (each.version, each.initialized, each.spec, None if each.tensor is None else each.tensor.tolist())
        for each in reply.replies
    ]


def position(ps: DurablePs) -> int:
    durability = ps.service.status(timeout_s=TIMEOUT_S).durability
    assert durability is not None
    assert durability.committed_position == durability.last_position
    return durability.last_position


# -- journal ------------------------------------------------------------------------------------


def test_all_that_was_acknowledged_survives_a_kill(start_ps: StartPs) -> None:
    client = NumberingClient()
    ps = start_ps("journal")
    declare_all(client, ps)
    for _ in range(3):
        change_all(client, ps)
        before = state(client, ps), position(ps)
        ps.kill()
        ps = start_ps("journal")
        assert (state(client, ps), position(ps)) == before
        for batch, reply in client.sent:  # without another hello
            assert said(ps.service.exchange(batch, timeout_s=TIMEOUT_S)) == said(reply)
        assert (state(client, ps), position(ps)) == before
    client.change(ps, Initialize(LATER.name, InitializerSpec(ConstantKind(2.0))), ONE_MORE)
    assert client.read(ps, LATER.name, STEP.name)[1] == 7


def test_all_survives_a_good_end(start_ps: StartPs) -> None:
    client = NumberingClient()
    ps = start_ps("journal")
    declare_all(client, ps)
    before = state(client, ps)
    assert ps.end() == 0
    ps = start_ps("journal")
    assert state(client, ps) == before
    assert ps.ready["durability"] == "journal"


def test_a_client_that_is_gone_stays_gone(start_ps: StartPs) -> None:
    client = NumberingClient()
    ps = start_ps("journal")
    declare_all(client, ps)
    ps.service.goodbye(client.incarnation, timeout_s=TIMEOUT_S)
    assert ps.end() == 0
    with pytest.raises(ShardscopeError, match="has said goodbye"):
        client.hello(start_ps("journal"))


def test_an_error_after_which_nothing_is_safe_ends_the_process(start_ps: StartPs, tmp_path: Path) -> None:
    client = NumberingClient()
    fired = tmp_path / "fired"
    faults = {"SHARDSCOPE_FAULTS": "journal.after_commit=fail@3-3", "SHARDSCOPE_FAULT_LOG": str(fired)}
    ps = start_ps("journal", "--allow-faults", environ=faults)
    client.hello(ps)

    def work() -> None:
        # A commit has one record or two, so nobody knows which of these the third is for.
        client.change(ps, Declare(STEP, InitializerSpec(ConstantKind(0.0))))
        for _ in range(2):
            client.change(ps, ONE_MORE)

    with pytest.raises(ShardscopeError):
        work()
    assert ps.wait() == 4
    assert [json.loads(line)["place"] for line in fired.read_text().splitlines()] == ["journal.after_commit"]
    told = [line for line in ps.log if line["level"] == "critical"]
    assert len(told) == 1
    assert "can no longer be made safe" in told[0]["event"]
    assert start_ps("journal").ready["store"] == ps.ready["store"]


# -- snapshot -----------------------------------------------------------------------------------


def test_a_good_end_keeps_the_state_and_the_store(start_ps: StartPs) -> None:
    client = NumberingClient()
    ps = start_ps("snapshot")
    declare_all(client, ps)
    for _ in range(2):
        change_all(client, ps)
        before = state(client, ps), position(ps)
        assert ps.end() == 0
        ps = start_ps("snapshot")
        assert (state(client, ps), position(ps)) == before
        for batch, reply in client.sent:
            assert said(ps.service.exchange(batch, timeout_s=TIMEOUT_S)) == said(reply)


def test_a_kill_takes_the_state_back_to_the_snapshot_and_clients_are_told(start_ps: StartPs) -> None:
    client = NumberingClient()
    ps = start_ps("snapshot")
    declare_all(client, ps)
    assert ps.end() == 0
    ps = start_ps("snapshot")
    client.change(ps, ONE_MORE)
    ps.kill()
    again = start_ps("snapshot")
    assert again.ready["store"] != ps.ready["store"]
    with pytest.raises(StateLostError, match=r"has the state of its snapshot of 20.* UTC, and what came after is lost"):
        client.read(again, STEP.name)
    assert [line["reason"] for line in again.log if line["event"] == "updates were lost"]
    client.hello(again)
    assert client.read(again, STEP.name) == [0]
    again.kill()
    assert start_ps("snapshot").ready["store"] != again.ready["store"]


@pytest.mark.parametrize("mode", ["snapshot", "journal"])
def test_a_kill_before_the_first_snapshot_loses_all_and_says_so(mode: str, start_ps: StartPs) -> None:
    client = NumberingClient()
    ps = start_ps("snapshot")
    declare_all(client, ps)
    ps.kill()
    ps = start_ps(mode)
    with pytest.raises(StateLostError, match="had no snapshot yet, and all is lost"):
        client.read(ps, STEP.name)
    assert ps.service.list_variables(timeout_s=TIMEOUT_S) == []


def test_snapshots_are_taken_at_intervals(start_ps: StartPs, eventually: Eventually) -> None:
    client = NumberingClient()
    ps = start_ps("snapshot", "--snapshot-interval", "0.1")
    declare_all(client, ps)
    last = position(ps)

    def taken() -> bool:
        durability = ps.service.status(timeout_s=TIMEOUT_S).durability
        assert durability is not None
        assert (durability.mode, durability.obstacle) == (DurabilityMode.SNAPSHOT, "")
        return durability.snapshot_position == last and durability.snapshot_bytes > WEIGHTS.size_bytes

    eventually(taken, message="a snapshot is taken")
    before = state(client, ps)
    ps.kill()
    again = start_ps("snapshot")
    client.hello(again)
    assert state(client, again)[:3] == before[:3]  # type: ignore[index]  # tuples


@pytest.mark.chaos
@pytest.mark.parametrize("place", ["snapshot.before_rename", "snapshot.after_rename", "snapshot.before_drop"])
def test_a_crash_while_a_snapshot_is_taken(place: str, start_ps: StartPs, tmp_path: Path) -> None:
    client = NumberingClient()
    ps = start_ps("snapshot")
    declare_all(client, ps)
    assert ps.end() == 0
    fired = tmp_path / "fired"
    faults = {"SHARDSCOPE_FAULTS": f"{place}=crash", "SHARDSCOPE_FAULT_LOG": str(fired)}
    ps = start_ps("snapshot", "--snapshot-interval", "1", "--allow-faults", environ=faults)
    client.change(ps, ONE_MORE)
    assert ps.wait() == -9
    assert [json.loads(line)["place"] for line in fired.read_text().splitlines()] == [place]
    again = start_ps("snapshot")
    client.hello(again)
    assert client.read(again, STEP.name) == [0 if place == "snapshot.before_rename" else 1]
    left = [path.name for path in (tmp_path / "state" / "ps-0" / "snapshots").iterdir()]
    assert left == [f"{position(again):020}"]


@pytest.mark.parametrize("mode", ["snapshot", "journal"])
def test_a_good_end_says_that_the_state_is_kept(start_ps: StartPs, mode: str) -> None:
    ps = start_ps(mode)
    assert ps.end() == 0
    assert (ps.log[-1]["event"], ps.log[-1]["kept"]) == ("stopped", True)


# -- from one mode to the other -----------------------------------------------------------------


def test_the_mode_may_change_between_runs(start_ps: StartPs) -> None:
    client = NumberingClient()
    ps = start_ps("journal")
    declare_all(client, ps)
    for kept, mode in ((ps.kill, "snapshot"), (ps.end, "journal"), (ps.kill, "journal"), (ps.end, "snapshot")):
        change_all(client, ps)
        before = state(client, ps), position(ps)
        getattr(ps, kept.__name__)()
        ps = start_ps(mode)
        assert (state(client, ps), position(ps)) == before


# -- refusals -----------------------------------------------------------------------------------


def test_a_second_process_is_refused(start_ps: StartPs) -> None:
    first = start_ps("journal")
    second = start_ps("journal")
    assert second.wait() == 1
    assert second.ready == {}
    (told,) = second.log
    assert f"process {first.ready['pid']}" in told["reason"]


def test_a_damaged_snapshot_is_never_served(start_ps: StartPs, tmp_path: Path) -> None:
    client = NumberingClient()
    ps = start_ps("snapshot")
    declare_all(client, ps)
    before = state(client, ps)
    assert ps.end() == 0
    for mode, name in (("snapshot", "values.safetensors"), ("journal", "ledger.bin")):
        (path,) = (tmp_path / "state").rglob(name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
        refused = start_ps(mode)
        assert (refused.wait(), refused.ready) == (3, {})
        (told,) = refused.log
        assert told["event"] == "cannot start"
        assert str(path) in told["reason"]
        content[len(content) // 2] ^= 4
        path.write_bytes(content)
    assert state(client, start_ps("journal")) == before


def test_a_damaged_journal_is_never_served(start_ps: StartPs, tmp_path: Path) -> None:
    client = NumberingClient()
    ps = start_ps("journal")
    declare_all(client, ps)
    assert ps.end() == 0
    (path,) = (tmp_path / "state").rglob("journal-*.sqlite")
    content = bytearray(path.read_bytes())
    where = content.index(b"layer/weights")
    content[where] ^= 4
    path.write_bytes(content)
    refused = start_ps("journal")
    assert (refused.wait(), refused.ready) == (3, {})
    (told,) = refused.log
    assert str(path) in told["reason"]


def test_a_state_beyond_the_memory_limit_is_refused(start_ps: StartPs) -> None:
    client = NumberingClient()
    ps = start_ps("snapshot")
    declare_all(client, ps)
    assert ps.end() == 0
    refused = start_ps("snapshot", "--memory-limit", "1K")
    assert refused.wait() == 1
    assert "--memory-limit" in refused.log[-1]["reason"]
    assert state(client, start_ps("snapshot"))


# -- a full disk --------------------------------------------------------------------------------


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 8 MiB, of which 6 are taken by a file."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m", "none", disk], capture_output=True, check=False)
    if mounted.returncode:
        pytest.skip(f"no small disk can be made here: {mounted.stderr.decode()}")
    (disk / "ballast").write_bytes(bytes(6 * 1024**2))
    yield disk
    subprocess.run(["umount", "--lazy", disk], check=True)


@pytest.mark.chaos
def test_a_full_disk_refuses_updates_and_loses_nothing(
    start_ps: StartPs, small_disk: Path, eventually: Eventually
) -> None:
    spec = VariableSpec("w", np.dtype(np.float64), (32_768,))
    ones = Update("w", UpdateRule.ASSIGN_ADD, np.ones(spec.shape))
    client = NumberingClient()
    ps = start_ps("journal", directory=small_disk / "state")
    client.hello(ps)
    client.change(ps, Declare(spec, InitializerSpec(ConstantKind(0.0))))
    applied = 0
    with pytest.raises(DeadlineExceededError):  # noqa: PT012 - which one fails is not known
        while applied < 40:
            client.change(ps, ones, timeout_s=10)
            applied += 1
    unanswered = client.sequence
    with pytest.raises(ResourceExhaustedError, match=r"nothing was applied") as refused:
        client.change(ps, ones)
    assert refused.value.retryable
    durability = ps.service.status(timeout_s=TIMEOUT_S).durability
    assert durability is not None
    assert "free some" in durability.obstacle
    assert durability.committed_position < durability.last_position
    (small_disk / "ballast").unlink()
    eventually(lambda: position_or_none(ps), message="the journal goes on")
    client.change(ps, ones)
    total = client.read(ps, "w")[0]
    assert (total == applied + 2).all(), "the one that was not answered in time, and the one after, count"
    assert client.sequence == unanswered + 2
    ps.kill()
    again = start_ps("journal", directory=small_disk / "state")
    assert (client.read(again, "w")[0] == total).all()
    again.kill()


def position_or_none(ps: DurablePs) -> int | None:
    durability = ps.service.status(timeout_s=TIMEOUT_S).durability
    assert durability is not None
    return durability.last_position if durability.committed_position == durability.last_position else None


@pytest.mark.chaos
def test_a_full_disk_fails_snapshots_but_not_updates(
    start_ps: StartPs, small_disk: Path, eventually: Eventually
) -> None:
    spec = VariableSpec("w", np.dtype(np.float64), (512, 1024))
    client = NumberingClient()
    ps = start_ps("snapshot", "--snapshot-interval", "0.1", directory=small_disk / "state")
    client.hello(ps)
    client.change(ps, Declare(spec, InitializerSpec(ConstantKind(1.0))))

    def obstacle() -> str:
        durability = ps.service.status(timeout_s=TIMEOUT_S).durability
        assert durability is not None
        return durability.obstacle

    assert "No space left" in eventually(obstacle, message="the snapshot fails")
    client.change(ps, Update("w", UpdateRule.ASSIGN_ADD, np.ones(spec.shape)))
    assert (client.read(ps, "w")[0] == 2).all()
    (small_disk / "ballast").unlink()
    assert ps.end() == 0
    again = start_ps("snapshot", directory=small_disk / "state")
    assert (client.read(again, "w")[0] == 2).all()
    again.kill()


@pytest.mark.chaos
def test_a_ps_with_snapshots_that_was_killed_starts_on_a_full_disk(start_ps: StartPs, small_disk: Path) -> None:
    client = NumberingClient()
    ps = start_ps("snapshot", directory=small_disk / "state")
    client.hello(ps)
    client.change(ps, Declare(VariableSpec("w", np.dtype(np.float64), (4,)), InitializerSpec(ConstantKind(1.0))))
    assert ps.end() == 0
    killed = start_ps("snapshot", directory=small_disk / "state")
    killed.kill()
    (small_disk / "more").write_bytes(bytes(shutil.disk_usage(small_disk).free))
    assert shutil.disk_usage(small_disk).free == 0
    again = start_ps("snapshot", directory=small_disk / "state")
    assert again.ready["store"] != killed.ready["store"], "updates since the snapshot may be missing, so it is another"
    client.hello(again)
    assert client.read(again, "w")[0].tolist() == [1.0] * 4
    (small_disk / "more").unlink()
    again.kill()
    assert start_ps("snapshot", directory=small_disk / "state").ready["store"] != again.ready["store"]


def test_faults_are_not_injected_because_of_the_environment_alone(start_ps: StartPs, tmp_path: Path) -> None:
    client = NumberingClient()
    fired = tmp_path / "fired"
    ps = start_ps(
        "journal", environ={"SHARDSCOPE_FAULTS": "batch.before_reply=crash", "SHARDSCOPE_FAULT_LOG": str(fired)}
    )
    declare_all(client, ps)
    assert ps.end() == 0
    assert not fired.exists()
    assert any("SHARDSCOPE_FAULTS is ignored" in line["event"] for line in ps.log)
