"""The socket transport between processes: chosen, refused, and left when its ps dies."""

from __future__ import annotations

import logging

import numpy as np
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_protocol.errors import StateLostError, UnavailableError
from worker_client.transport.sockets.path import SocketTransport

pytestmark = pytest.mark.integration


@pytest.mark.parametrize("transport", ["tcp", "unix", "socket", "auto"])
def test_large_and_small_values_travel_between_processes(transport: str) -> None:
    with (
        LocalCluster(num_ps=2) as cluster,
        ss.connect(cluster.cluster_spec, transport=transport) as client,
    ):
        for index in range(2):
            assert isinstance(client.fanout.handle(index).endpoint.transport, SocketTransport)
        values = [np.arange(size, dtype=np.float32) for size in (1, 1000, 1_000_000, 3_000_000)]
        variables = [
            ss.get_variable(f"v{value.size}", initializer=ss.constant_initializer(0.0), shape=value.shape)
            for value in values
        ]
        client.assign_add_all(list(zip(variables, values, strict=True)))
        futures = [variable.assign_add(value, wait=False) for variable, value in zip(variables, values, strict=True)]
        for future in futures:
            future.result(120)
        for read, value in zip(client.read_all(variables), values, strict=True):
            np.testing.assert_array_equal(read, 2 * value)


def test_a_transport_that_no_ps_offers_is_refused_with_the_remedy() -> None:
    with (
        LocalCluster(num_ps=1, ps_arguments=["--transports", "grpc"]) as cluster,
        pytest.raises(UnavailableError, match="--transports"),
    ):
        ss.connect(cluster.cluster_spec, transport="tcp", connect_timeout_s=3.0)


def test_a_ps_without_sockets_is_used_over_grpc(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    with (
        LocalCluster(num_ps=1, ps_arguments=["--transports", "grpc"]) as cluster,
        ss.connect(cluster.cluster_spec),
    ):
        ss.get_variable("v", [], initializer=ss.zeros_initializer()).assign_add(1.0)
    assert [record.levelname for record in caplog.records if "go over gRPC" in record.message] == ["WARNING"]


def test_a_ps_that_is_killed_and_started_anew_is_found_again() -> None:
    with (
        LocalCluster(num_ps=1) as cluster,
        ss.connect(cluster.cluster_spec, transport="tcp", operation_timeout_s=20.0),
    ):
        variable = ss.get_variable("v", [], initializer=ss.zeros_initializer())
        variable.assign_add(1.0)
        cluster.kill_ps(0)
        cluster.restart_ps(0)
        with pytest.raises(StateLostError):
            variable.assign_add(1.0)
