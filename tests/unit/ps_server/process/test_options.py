from __future__ import annotations

from pathlib import Path

import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.codec.limits import MAX_TAKEN_BYTES
from ps_protocol.errors import SettingError
from ps_protocol.grpc_edge.channel_options import ServerLimits
from ps_protocol.service_types import DurabilityMode
from ps_server.process.logs import LogFormat
from ps_server.process.options import OfferedTransport, ServerOptions, parse_options
from ps_server.transport.sockets.listener import SocketSettings

CLUSTER = "ps=host0:2222,host1:2223;worker=w:1"
TASK_1 = ["--cluster", CLUSTER, "--task-index", "1"]
TF_CONFIG = '{"cluster": {"ps": ["a:1", "b:2"], "worker": ["w:3"]}, "task": {"type": "%s", "index": %d}}'


def parse(*arguments: str, **environ: str) -> ServerOptions:
    return parse_options(arguments, environ)


def test_the_command_line_is_enough() -> None:
    assert parse(*TASK_1) == ServerOptions(
        cluster_spec=ClusterSpec.parse(CLUSTER), task_index=1, host="host1", port=2223
    )


def test_all_can_be_said() -> None:
    options = parse(
        *TASK_1,
        *("--durability", "Journal", "--data-dir", "state", "--snapshot-interval", "0.5"),
        *("--port", "0", "--bind", "0.0.0.0", "--memory-limit", "4G", "--staging-limit", "512M", "--job-seed", "-7"),
        *("--drain-timeout", "2.5", "--max-concurrent", "8", "--log-level", "DEBUG", "--log-format", "console"),
        *(
            "--functions",
            "team.rules",
            "--shared-memory-limit",
            "1G",
            "--transports",
            "socket",
            "--socket-port",
            "7000",
        ),
        *("--socket-checksums", "all", "--allow-faults"),
        *("--max-connections", "7", "--max-handshakes", "6", "--handshake-timeout", "1.5", "--max-slow", "5"),
        *("--max-message", "64M", "--max-grpc-connections", "8", "--idle-timeout", "2.5"),
        *("--stall-timeout", "3", "--slowest-rate", "1M", "--descriptor-reserve", "9"),
    )
    assert options == ServerOptions(
        cluster_spec=ClusterSpec.parse(CLUSTER),
        task_index=1,
        host="0.0.0.0",
        port=0,
        memory_limit_bytes=4 * 1024**3,
        staging_limit_bytes=512 * 1024**2,
        shared_memory_limit_bytes=1024**3,
        durability=DurabilityMode.JOURNAL,
        data_dir=Path("state"),
        snapshot_interval_s=0.5,
        job_seed=-7,
        drain_timeout_s=2.5,
        max_concurrent=8,
        transports=frozenset({OfferedTransport.GRPC, OfferedTransport.SOCKET}),
        socket_port=7000,
        checks_tensors=True,
        allow_faults=True,
        max_connections=7,
        max_message_bytes=64 * 1024**2,
        max_grpc_connections=8,
        idle_timeout_s=2.5,
        max_handshakes=6,
        handshake_timeout_s=1.5,
        max_slow=5,
        stall_timeout_s=3.0,
        slowest_rate=1024**2,
        descriptor_reserve=9,
        functions="team.rules",
        log_level="debug",
        log_format=LogFormat.CONSOLE,
    )
    assert (options.task, options.advertised_host) == ("ps:1", "host1")
    assert options.socket_settings == SocketSettings(
        host="0.0.0.0",
        port=7000,
        max_threads=8,
        max_connections=7,
        max_newcomers=6,
        max_slow=5,
        stall_timeout_s=3.0,
        slowest_bytes_per_s=1024**2,
        handshake_timeout_s=1.5,
        checks_tensors=True,
    )
    assert options.server_limits == ServerLimits(64 * 1024**2, 8, 1.5, 2.5)


@pytest.mark.parametrize("text", ["3M", "129M"])
def test_a_message_has_room_for_what_clients_send(text: str) -> None:
    with pytest.raises(SettingError, match=r"--max-message.*from 4M to 128M"):
        parse(*TASK_1, "--max-message", text)


def test_a_ps_with_a_backup_takes_no_larger_messages_than_another(tmp_path: Path) -> None:
    replicated = (*("--cluster", "ps=host0:1;backup=host1:2", "--task-index", "0"), "--coordinator", tmp_path.as_uri())
    assert parse_options(replicated, {}).server_limits.message_bytes == MAX_TAKEN_BYTES


def test_tf_config_is_enough() -> None:
    options = parse(TF_CONFIG=TF_CONFIG % ("ps", 1))
    assert (options.task_index, options.host, options.port) == (1, "b", 2)


def test_the_command_line_wins_over_tf_config() -> None:
    options = parse(*TASK_1, TF_CONFIG=TF_CONFIG % ("ps", 0))
    assert (options.task_index, options.host) == (1, "host1")
    assert parse("--task-index", "0", TF_CONFIG=TF_CONFIG % ("worker", 0)).host == "a"


def test_the_environment_stands_in_for_the_command_line() -> None:
    environ = {"SHARDSCOPE_CLUSTER": CLUSTER, "SHARDSCOPE_TASK_INDEX": "1", "SHARDSCOPE_BIND": "::"}
    options = parse_options(["--port", "7"], {**environ, "SHARDSCOPE_PORT": "9", "SHARDSCOPE_MEMORY_LIMIT": ""})
    assert (options.task_index, options.host, options.port, options.memory_limit_bytes) == (1, "[::]", 7, 0)


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [("0", 0), ("123", 123), ("1K", 1024), ("2 MiB", 2 * 1024**2), ("1.5g", 3 * 1024**3 // 2), ("1TB", 1024**4)],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse(*TASK_1, "--memory-limit", text).memory_limit_bytes == size_bytes


@pytest.mark.parametrize(("text", "host"), [("::1", "[::1]"), ("[::1]", "[::1]"), (" 10.0.0.1 ", "10.0.0.1")])
def test_addresses_to_listen_on(text: str, host: str) -> None:
    assert parse(*TASK_1, "--bind", text).host == host


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        ([], ["no ps tasks", "--cluster", "TF_CONFIG"]),
        (["--cluster", CLUSTER], ["Which ps task", "--task-index 0", "TF_CONFIG"]),
        (["--cluster", "worker=a:1", "--task-index", "0"], ["no ps tasks", "worker (1)"]),
        (["--cluster", CLUSTER, "--task-index", "5"], ["ps:5", "0, 1"]),
        (["--cluster", "ps=nohost", "--task-index", "0"], ["'nohost'", "no port", "host:2222"]),
        (["--cluster", "ps", "--task-index", "0"], ["'ps'", "'='"]),
        ([*TASK_1, "--functions", "rules.py:f"], ["--functions", "'rules.py:f'", "my_team.rules"]),
        ([*TASK_1, "--port", "70000"], ["--port", "70000", "0..65535"]),
        ([*TASK_1, "--port", "x"], ["--port", "'x'"]),
        ([*TASK_1, "--bind", "a:1"], ["--bind", "'a:1'", "--port"]),
        ([*TASK_1, "--bind", "a b"], ["--bind", "'a b'"]),
        ([*TASK_1, "--memory-limit", "lots"], ["--memory-limit", "'lots'", "4G"]),
        ([*TASK_1, "--memory-limit", "-1"], ["--memory-limit"]),
        ([*TASK_1, "--job-seed", "9" * 19], ["--job-seed", "64 bits"]),
        ([*TASK_1, "--drain-timeout", "soon"], ["--drain-timeout", "'soon'"]),
        ([*TASK_1, "--transports", "socket,pigeon"], ["--transports", "'pigeon'", "grpc, socket, shm"]),
        ([*TASK_1, "--transports", "shm"], ["--transports", "needs socket"]),
        ([*TASK_1, "--socket-port", "70000"], ["--socket-port", "0..65535"]),
        ([*TASK_1, "--max-concurrent", "0"], ["--max-concurrent", "at least 1"]),
        ([*TASK_1, "--log-level", "loud"], ["--log-level", "'loud'", "debug"]),
        ([*TASK_1, "--durability", "raid"], ["--durability", "'raid'", "journal"]),
        ([*TASK_1, "--durability", "journal"], ["--durability journal", "--data-dir"]),
        ([*TASK_1, "--durability", "snapshot"], ["--durability snapshot", "--data-dir"]),
        ([*TASK_1, "--data-dir", "state"], ["--data-dir state", "--durability none", "journal"]),
        ([*TASK_1, "--durability", "journal", "--data-dir", " "], ["--data-dir", "empty"]),
        ([*TASK_1, "--snapshot-interval", "0"], ["--snapshot-interval", "above 0"]),
        ([*TASK_1, "--no-such-option"], ["--no-such-option"]),
        ([*TASK_1, "stray"], ["stray"]),
    ],
)
def test_bad_options_are_told_in_one_line(arguments: list[str], parts: list[str]) -> None:
    with pytest.raises(SettingError) as refused:
        parse(*arguments)
    message = str(refused.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("tf_config", "parts"),
    [
        (TF_CONFIG % ("worker", 0), ["TF_CONFIG", "worker:0", "only a ps", "--task-index"]),
        (TF_CONFIG % ("ps", 9), ["ps:9"]),
        ("{not json", ["TF_CONFIG", "JSON"]),
        ('{"cluster": {"ps": ["a:1"]}}', ["Which ps task"]),
    ],
)
def test_a_bad_tf_config_is_told_in_one_line(tf_config: str, parts: list[str]) -> None:
    with pytest.raises(SettingError) as refused:
        parse(TF_CONFIG=tf_config)
    message = str(refused.value)
    assert "\n" not in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("advertise", "address"),
    [
        ("", "host1:7777"),
        ("elsewhere", "elsewhere:7777"),
        ("10.1.2.3:99", "10.1.2.3:99"),
        ("[::1]", "[::1]:7777"),
        ("[::1]:99", "[::1]:99"),
    ],
)
def test_addresses_to_be_found_at(advertise: str, address: str) -> None:
    arguments = ["--cluster", "ps=host0:1,host1:2", "--task-index", "1", "--advertise", advertise]
    assert parse_options(arguments, {}).advertised_address(7777) == address


@pytest.mark.parametrize("advertise", ["a b", "host:99999", "http://host", "::1"])
def test_an_address_that_nobody_can_be_found_at_is_refused(advertise: str) -> None:
    with pytest.raises(SettingError, match="--advertise"):
        parse_options(["--cluster", "ps=host0:1", "--task-index", "0", "--advertise", advertise], {})


def test_the_lease_may_be_said() -> None:
    arguments = ["--cluster", "ps=host0:1", "--task-index", "0"]
    assert parse_options(arguments, {}).lease_s == 10.0
    assert parse_options([*arguments, "--lease", "2.5"], {}).lease_s == 2.5
    assert parse_options(arguments, {"SHARDSCOPE_LEASE": "0"}).lease_s == 0.0
    replicated = ["--cluster", REPLICATED, "--task-index", "0", *COORDINATED]
    assert parse_options([*replicated, "--lease", "1"], {}).lease_s == 1.0


REPLICATED = "ps=a:1,b:2;backup=c:3,d:4;worker=w:1"
COORDINATED = ("--coordinator", "file:///state")


def test_the_second_process_of_a_replicated_task() -> None:
    first = parse("--cluster", REPLICATED, "--task-index", "1", *COORDINATED)
    assert (first.place, first.task, first.is_replicated, first.is_backup) == ("ps:1", "ps:1", True, False)
    assert (first.host, first.port) == ("b", 2)
    second = parse("--cluster", REPLICATED, "--task-index", "1", "--backup", *COORDINATED)
    assert (second.place, second.task, second.is_replicated, second.is_backup) == ("backup:1", "ps:1", True, True)
    assert (second.host, second.port, second.advertised_address(4)) == ("d", 4, "d:4")
    config = '{"cluster": {"ps": ["a:1", "b:2"], "backup": ["c:3", "d:4"]}, "task": {"type": "backup", "index": 0}}'
    assert parse(*COORDINATED, TF_CONFIG=config).place == "backup:0"
    assert parse("--cluster", "ps=a:1;backup=c:3", "--task-index", "0", *COORDINATED).is_replicated
    assert not parse(*TASK_1).is_replicated


@pytest.mark.parametrize(
    ("cluster", "arguments", "part"),
    [
        (CLUSTER, ["--backup"], "has no backups"),
        ("ps=a:1,b:2;backup=c:3", [], "2 ps tasks, but not as many backups"),
        (REPLICATED, [], "nothing decides which process of a ps task is the primary. Give --coordinator"),
        (REPLICATED, ["--coordinator", "here"], "--coordinator is 'here'"),
        (REPLICATED, [*COORDINATED, "--cluster-name", "a b"], "--cluster-name is 'a b'; it should be up to 63 letters"),
        (REPLICATED, [*COORDINATED, "--durability", "snapshot", "--data-dir", "state"], "cannot be had together"),
        (REPLICATED, [*COORDINATED, "--lease", "0"], "no backup could ever take over"),
        (REPLICATED, [*COORDINATED, "--lease", "0.9"], "--lease is 0.9; with backups it should be at least 1:"),
        (CLUSTER, ["--lease", "0.01"], "--lease is '0.01'; it should be 0 for never, or a number of seconds from 0.1"),
    ],
)
def test_what_replication_needs(cluster: str, arguments: list[str], part: str) -> None:
    with pytest.raises(SettingError, match=part):
        parse("--cluster", cluster, "--task-index", "0", *arguments)


def test_help_names_every_option(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        parse("--help")
    assert ended.value.code == 0
    shown = capsys.readouterr().out
    for option in ("--cluster", "--task-index", "--port", "--bind", "--memory-limit", "--job-seed", "--drain-timeout"):
        assert option in shown


def test_backups_go_with_a_journal() -> None:
    kept = ["--durability", "journal", "--data-dir", "state"]
    options = parse("--cluster", REPLICATED, "--task-index", "0", *COORDINATED, *kept)
    assert options.is_replicated
    assert options.durability is DurabilityMode.JOURNAL
