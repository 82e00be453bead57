"""Channel and server options agree with each other and with the sizes that the protocol needs."""

from __future__ import annotations

from concurrent import futures
from uuid import UUID

import grpc
import grpc.experimental
import numpy as np
import pytest

from ps_protocol.codec import limits
from ps_protocol.codec.message_codec import encode_batch
from ps_protocol.grpc_edge import channel_options
from ps_protocol.grpc_edge.channel_options import ServerLimits
from ps_protocol.initializer_spec import Distribution, FanMode, InitializerSpec, VarianceScalingKind
from ps_protocol.operations import Batch, Declare, PartitionSlice, VariableSpec

CLIENT = dict(channel_options.client_options())
SERVER = dict(channel_options.server_options())


@pytest.mark.parametrize("options", [channel_options.client_options(), channel_options.server_options()])
def test_each_option_is_set_once(options: channel_options.Options) -> None:
    names = [name for name, _ in options]
    assert len(names) == len(set(names))


def test_grpc_takes_them() -> None:
    with grpc.insecure_channel("localhost:1", options=channel_options.client_options()):
        pass
    grpc.server(futures.ThreadPoolExecutor(1), options=channel_options.server_options()).stop(None)


def test_no_other_server_shares_the_port() -> None:
    assert SERVER["grpc.so_reuseport"] == 0


def test_a_client_takes_all_that_a_ps_sends_and_a_ps_only_what_its_setting_says() -> None:
    received = "grpc.max_receive_message_length"
    assert CLIENT[received] == SERVER["grpc.max_send_message_length"] == limits.MAX_MESSAGE_BYTES
    assert SERVER[received] == limits.MAX_TAKEN_BYTES
    assert dict(channel_options.server_options(ServerLimits(5_000_000)))[received] == 5_000_000


def test_a_connection_may_have_more_calls_than_a_ps_has_threads() -> None:
    assert SERVER["grpc.max_concurrent_streams"] in range(64, 1000)


def test_an_idle_connection_may_be_left_open() -> None:
    assert SERVER["grpc.max_connection_idle_ms"] == 60_000
    assert "grpc.max_connection_idle_ms" not in dict(channel_options.server_options(ServerLimits(idle_timeout_s=0)))


def test_a_unary_message_has_room_for_its_header() -> None:
    assert limits.CHUNK_SIZE_BYTES <= limits.UNARY_LIMIT_BYTES
    assert limits.UNARY_LIMIT_BYTES + limits.CHUNK_SIZE_BYTES < limits.MAX_TAKEN_BYTES


def test_a_hundred_thousand_declarations_fit_into_one_message() -> None:
    name = "scope/" * 20 + "weights"
    spec = VariableSpec(
        f"{name}/part_12", np.dtype(np.float32), (2**40, 2**40), PartitionSlice(name, (2**40,) * 2, (2**40,) * 2)
    )
    initializer = InitializerSpec(VarianceScalingKind(1.0, FanMode.FAN_AVG, Distribution.UNIFORM), -1)
    header, _ = encode_batch(Batch(UUID(int=1), UUID(int=2), 1, (Declare(spec, initializer),)))
    assert 100_000 * header.ByteSize() < limits.MAX_MESSAGE_BYTES


def test_a_dead_peer_is_noticed_within_twenty_seconds() -> None:
    for options in (CLIENT, SERVER):
        assert int(options["grpc.keepalive_time_ms"]) + int(options["grpc.keepalive_timeout_ms"]) <= 20_000
        assert options["grpc.keepalive_permit_without_calls"] == 1
        assert options["grpc.http2.max_pings_without_data"] == 0


def test_the_server_accepts_the_pings_of_the_clients() -> None:
    assert int(SERVER["grpc.http2.min_ping_interval_without_data_ms"]) < int(CLIENT["grpc.keepalive_time_ms"])


def test_a_late_ps_is_found_quickly() -> None:
    assert int(CLIENT["grpc.initial_reconnect_backoff_ms"]) <= 100
    assert int(CLIENT["grpc.max_reconnect_backoff_ms"]) <= 2_000


def test_grpc_retries_nothing_by_itself() -> None:
    assert CLIENT["grpc.enable_retries"] == 0


def test_the_thread_that_waits_for_a_stream_receives_it_itself() -> None:
    assert CLIENT[grpc.experimental.ChannelOptions.SingleThreadedUnaryStream] == 1


def test_channels_share_no_connection() -> None:
    assert CLIENT["grpc.use_local_subchannel_pool"] == 1


def test_long_errors_fit_into_the_trailers_on_both_sides() -> None:
    assert int(CLIENT["grpc.max_metadata_size"]) == int(SERVER["grpc.max_metadata_size"]) > 16 * 1024
