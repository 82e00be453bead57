"""Faults that tests inject."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from ps_protocol import fault_points
from ps_protocol.fault_points import (
    Fault,
    FaultAction,
    FaultPlan,
    InjectedFaultError,
    fault_point,
    install_from_environment,
    installed,
    parse_plan,
    times_received,
)


def test_without_a_plan_nothing_happens() -> None:
    assert fault_point("reply.send") is None


def test_a_place_is_told_what_to_do_in_its_turn() -> None:
    with installed(FaultPlan((Fault("reply.send", FaultAction.DROP, first=2, last=3),))) as plan:
        assert [fault_point("reply.send") for _ in range(4)] == [None, FaultAction.DROP, FaultAction.DROP, None]
        assert fault_point("request.send") is None
        assert (plan.fired("reply.send"), plan.fired("request.send")) == (2, 0)
    assert fault_point("reply.send") is None


def test_a_failure_is_raised_at_the_place() -> None:
    with installed(FaultPlan((Fault("journal.write", FaultAction.FAIL),))), pytest.raises(InjectedFaultError):
        fault_point("journal.write")


def test_what_arrives_counts_once_twice_or_is_lost() -> None:
    faults = (Fault("request", FaultAction.DUPLICATE, 2, 2), Fault("request", FaultAction.DROP, 3, 3))
    with installed(FaultPlan(faults)):
        assert [times_received("request"), times_received("request")] == [1, 2]
        with pytest.raises(InjectedFaultError, match="request: drop"):
            times_received("request")


def test_a_plan_that_is_in_force_is_not_begun_anew() -> None:
    with installed(FaultPlan((Fault("loop", FaultAction.DROP, 2, 2),))):
        assert fault_point("loop") is None
        install_from_environment({"SHARDSCOPE_FAULTS": "loop=cut"}, is_allowed=True)
        assert fault_point("loop") is FaultAction.DROP


def test_a_plan_needs_leave(caplog: pytest.LogCaptureFixture) -> None:
    install_from_environment({"SHARDSCOPE_FAULTS": "loop=drop"}, is_allowed=False)
    assert fault_point("loop") is None
    assert "SHARDSCOPE_FAULTS is ignored" in caplog.text


def test_every_place_is_documented() -> None:
    root = Path(fault_points.__file__).parent.parent
    sources = [path for package in ("ps_*", "worker_client") for path in root.glob(f"{package}/**/*.py")]
    calls = re.compile(r'(?:fault_point|times_received|before_send)\(\s*"([a-z_.]+)"')
    places = {place for path in sources for place in calls.findall(path.read_text(encoding="utf-8"))}
    assert len(places) >= 10
    assert fault_points.__doc__ is not None
    documented = set(re.findall(r"[a-z]+\.[a-z_]+", fault_points.__doc__))
    assert places <= documented


def test_reads_a_plan() -> None:
    plan = parse_plan("reply.send=drop@3; journal.commit=delay:0.5@2-4;frame=cut;")
    assert plan.faults == (
        Fault("reply.send", FaultAction.DROP, 3, 3),
        Fault("journal.commit", FaultAction.DELAY, 2, 4, 0.5),
        Fault("frame", FaultAction.CUT),
    )


@pytest.mark.parametrize("text", ["reply.send", "reply.send=explode", "a=drop@x", "=drop", "a=drop@1-"])
def test_refuses_a_malformed_plan(text: str) -> None:
    with pytest.raises(ValueError, match="SHARDSCOPE_FAULTS"):
        parse_plan(text)


def test_a_process_crashes_where_its_environment_says_and_leaves_word(tmp_path: Path) -> None:
    log = tmp_path / "faults.jsonl"
    program = (
        "from ps_protocol.fault_points import fault_point, install_from_environment\n"
        "install_from_environment(is_allowed=True)\n"
        "for number in range(5):\n"
        "    fault_point('loop')\n"
        "    print(number, flush=True)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={"SHARDSCOPE_FAULTS": "loop=crash@3", "SHARDSCOPE_FAULT_LOG": str(log)},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stdout) == (-9, "0\n1\n")
    assert "faults will be injected on purpose" in done.stderr
    fired = json.loads(log.read_text())
    assert (fired["place"], fired["action"], fired["pass"]) == ("loop", "crash", 3)
