"""A ps container serves, cannot do more than it must, and ends when it is told to."""

from __future__ import annotations

import pytest

from tests.compose.engine import ComposeProject

pytestmark = [pytest.mark.compose, pytest.mark.slow, pytest.mark.timeout(1500)]


@pytest.fixture
def ps(cluster: ComposeProject) -> ComposeProject:
    """A cluster of which only the ps tasks run, and are healthy."""
    cluster.compose("up", "--detach", "--wait", "ps0", "ps1", timeout=180)
    return cluster


def in_ps(ps: ComposeProject, *command: str) -> str:
    return ps.compose("exec", "-T", "ps0", *command, check=False).strip()


def test_is_healthy_and_found_by_name(ps: ComposeProject) -> None:
    assert ps.inspect("ps0")["State"]["Health"]["Status"] == "healthy"
    ps.compose("exec", "-T", "ps0", "shardscope", "health", "ps1:2222")


def test_has_no_privileges(ps: ComposeProject) -> None:
    assert in_ps(ps, "id", "--user") == "10001"
    assert in_ps(ps, "sh", "-c", "touch /app/file && echo written") == ""
    assert in_ps(ps, "sh", "-c", "touch /tmp/file && echo written") == "written"
    status = in_ps(ps, "cat", "/proc/self/status")
    assert "CapEff:\t0000000000000000" in status
    assert "NoNewPrivs:\t1" in status


def test_ends_in_good_order_on_sigterm(ps: ComposeProject) -> None:
    ps.compose("stop", "ps0")
    assert ps.exit_code("ps0") == 0
