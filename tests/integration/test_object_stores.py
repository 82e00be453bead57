"""Checkpoints in a bucket: saved and restored as in a folder; and what is wrong there is said, and changes nothing."""

from __future__ import annotations

import itertools
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Literal

import numpy as np
import obstore
import pytest

import worker_client as ss
from ps_cluster import LocalCluster
from ps_cluster.local.processes import ProcessSupervisor
from ps_cluster.local.reserved_ports import LOOPBACK, ReservedPorts
from ps_protocol.checkpoints import bucket as buckets
from ps_protocol.checkpoints.store import StoreError
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.fault_points import Fault, FaultAction, FaultPlan, installed
from tests.commands import shardscope
from tests.conftest import Eventually
from tests.integration.test_up import Launch
from tests.s3_process import ACCESS_KEY, SECRET_KEY, S3Process, environment_of
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, assert_equal

pytestmark = pytest.mark.integration

Through = Literal["ps", "client"]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Process]:
    with S3Process() as s3:
        yield s3


@pytest.fixture
def bucket(s3: S3Process, monkeypatch: pytest.MonkeyPatch) -> str:
    """A new bucket, which this process can use."""
    _use(s3.endpoint, monkeypatch)
    return s3.new_bucket()


@pytest.fixture
def cluster() -> Iterator[SmallCluster]:
    with SmallCluster(2) as cluster:
        yield cluster


def _use(endpoint: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of(endpoint).items():
        monkeypatch.setenv(name, value)


@pytest.mark.parametrize("through", ["ps", "client"])
def test_training_goes_on_bit_for_bit_on_other_ps_tasks(bucket: str, through: Through) -> None:
    url = f"s3://{bucket}/models/run-7"
    with SmallCluster(2) as cluster:
        model = Model(cluster.client())
        model.train(0, 5)
        saved = cluster.client(1).save(f"{url}/", step=5, through=through)
        model.train(5, 10)
        expected = model.values()
    assert saved.path == f"{url}/step-000000005"
    for path in (url, saved.path):
        with SmallCluster(3) as cluster:
            client = cluster.client()
            model = Model(client, 3)
            report = client.restore(path, through=through)
            assert report.step == 5
            assert {"layer/divided/Adam/m", "layer/whole/Adam/v"} <= {*report.names("restored")}
            model.train(5, 10)
            assert_equal(model.values(), expected)
    (entry,) = ss.checkpoint.list(url)
    assert (entry.path, entry.problem) == (saved.path, "")
    assert ss.checkpoint.verify(url) == entry
    assert "layer/whole" in [each.name for each in ss.checkpoint.show(saved.path)]


def test_large_values_go_in_pieces(bucket: str, s3: S3Process, cluster: SmallCluster) -> None:
    client, url = cluster.client(), f"s3://{bucket}"
    with client.as_default():
        values = [
            ss.get_variable(f"v{index}", [5_000_000 + index], initializer=ss.random_normal_initializer(seed=index))
            for index in range(2)
        ]
    expected = [each.read_value() for each in values]
    client.save(url, name="x")
    sizes = [each["size"] for each in obstore.list(s3.remote(bucket), "x").collect()]
    assert max(sizes) > 20_000_000
    for each in values:
        each.assign(np.zeros(each.shape, np.float32))
    client.restore(url)
    assert_equal([each.read_value() for each in values], expected)
    assert s3.num_uploads(bucket) == 0


def test_a_task_that_fails_in_a_large_part_leaves_nothing(bucket: str, s3: S3Process, cluster: SmallCluster) -> None:
    client = cluster.client()
    with client.as_default():
        for index in range(2):
            ss.get_variable(f"v{index}", [5_000_000], initializer=ss.ones_initializer())
    plan = FaultPlan((Fault("checkpoint.write", FaultAction.FAIL, 9, 9),))
    with installed(plan), pytest.raises(FailedPreconditionError, match="cannot use") as caught:
        client.save(f"s3://{bucket}/run", name="x")
    assert plan.fired("checkpoint.write") == 1
    assert caught.value.task in ("ps:0", "ps:1")
    assert obstore.list(s3.remote(bucket)).collect() == []
    assert s3.num_uploads(bucket) == 0


@pytest.mark.parametrize("through", ["ps", "client"])
def test_an_interrupted_save_leaves_nothing(
    bucket: str, s3: S3Process, cluster: SmallCluster, eventually: Eventually, through: Through
) -> None:
    client, told, calls = cluster.client(), threading.Event(), itertools.count()
    model = Model(client)
    model.train(0, 2)
    with client.as_default():
        ss.get_variable("large", [10_000_000], initializer=ss.zeros_initializer())
    expected = model.values()

    def interrupt_first(*_: int) -> None:
        if next(calls) == 0:  # a later one would reach whatever runs then
            signal.raise_signal(signal.SIGINT)  # Python runs the handler on the main thread
        assert told.wait(60.0)

    with pytest.raises(KeyboardInterrupt):
        client.save(f"s3://{bucket}/run", name="x", through=through, show_progress=interrupt_first)
    told.set()
    eventually(lambda: obstore.list(s3.remote(bucket)).collect() == [], message="nothing is left")
    eventually(lambda: s3.num_uploads(bucket) == 0, message="no upload is left")
    assert_equal(model.values(), expected)
    client.save(f"s3://{bucket}/run", name="x", through=through)


def test_copies_of_other_tools_are_checkpoints(
    bucket: str, s3: S3Process, cluster: SmallCluster, tmp_path: Path
) -> None:
    client, url, remote = cluster.client(), f"s3://{bucket}/run", s3.remote(bucket)
    model = Model(client)
    model.train(0, 2)
    expected = model.values()
    client.save(url, name="x")
    client.save(tmp_path, name="y")
    for each in obstore.list(remote).collect():
        copy = tmp_path / str(each["path"]).removeprefix("run/")
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_bytes(obstore.get(remote, each["path"]).bytes())
    for path in (tmp_path / "y").iterdir():
        obstore.put(remote, f"run/y/{path.name}", path)
    for where in (tmp_path, url):
        assert {each.name for each in ss.checkpoint.list(where)} == {"x", "y"}
        assert ss.checkpoint.clean(where, older_than_s=1e-9) == []
    for copied in (tmp_path / "x", f"{url}/y"):
        ss.checkpoint.verify(copied)
        model.train(2, 1)
        client.restore(copied)
        assert_equal(model.values(), expected)
    client.save(url, name="z", keep=1)
    assert [each["path"] for each in obstore.list(remote).collect() if "run/z/" not in each["path"]] == []


def test_the_newest_stay(bucket: str, cluster: SmallCluster) -> None:
    client, url = cluster.client(), f"s3://{bucket}/run"
    Model(client)
    for name in ("c", "a", "b"):
        client.save(url, name=name, keep=2)
    assert [each.name for each in ss.checkpoint.list(url)] == ["a", "b"]


def test_a_shell_takes_urls(bucket: str) -> None:
    url = f"s3://{bucket}/run"
    with LocalCluster(num_ps=2, num_workers=1) as cluster:
        spec = f"ps={','.join(cluster.cluster_spec.ps_addresses())}"
        with ss.connect(cluster.cluster_spec):
            for index in range(2):
                ss.get_variable(f"v{index}", [3], initializer=ss.ones_initializer())
            done = shardscope("save", url, "--step", "7", "--cluster", spec)
            assert done.returncode == 0, done.stderr
            assert done.stdout.startswith(f"saved {url}/step-000000007: ")
        assert "2 variables" in shardscope("checkpoint", "show", url).stdout
        assert "v0  float32 [3]  ps:0" in shardscope("checkpoint", "show", url).stdout
        assert "is whole: 2 variables" in shardscope("checkpoint", "verify", f"{url}/step-000000007").stdout
        for more in ([], ["--through-client"]):
            done = shardscope("restore", url, "--cluster", spec, *more)
            assert done.returncode == 0, done.stderr
        done = shardscope("checkpoint", "clean", url)
        assert (done.returncode, done.stdout) == (0, f"nothing in {url} was left behind more than 86400 s ago\n")
        done = shardscope("save", f"s3://{bucket}-of-nobody/x", "--cluster", spec)
        assert done.returncode == 1
        assert "[ps:0]" in done.stderr
        assert "there is no such bucket" in done.stderr
    done = shardscope("checkpoint", "ls", f"s3://{bucket}-of-nobody")
    assert done.returncode == 1
    assert "there is no such bucket" in done.stderr


def test_up_goes_on_from_a_bucket(bucket: str, s3: S3Process, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The tasks take the bucket from their environment, and nothing is written here."""
    counts = (
        "import shardscope as ss; c = ss.connect(); v = ss.get_variable('v', [], initializer=ss.zeros_initializer());"
        "v.assign_add(1.0); print('counts', float(v)); c.close()"
    )
    supervisor, url = ProcessSupervisor(), f"s3://{bucket}/run"
    monkeypatch.chdir(tmp_path)

    def up(url: str, *options: str) -> Launch:
        return Launch(supervisor, [*options, "--checkpoint", url, "--", "python", "-c", counts], {})

    try:
        first = up(url, "--ps", "2")
        assert first.wait() == 0, first.text
        [entry] = ss.checkpoint.list(url)
        assert f"shardscope | no checkpoint in {url} yet: starting from nothing" in first.output
        assert f"shardscope | saved {entry.path}, " in first.text
        second = up(url)
        assert second.wait() == 0, second.text
        assert f"shardscope | restored {entry.path}: 1 variable, " in second.text
        assert "worker:0   | counts 2.0" in second.output
        wrong = up("s3://bucket-of-nobody/run")
        assert wrong.wait() == 1
        said = "cannot go on from s3://bucket-of-nobody/run: there is no such bucket; correct the URL or the endpoint"
        assert said in " ".join("\n".join(wrong.output + wrong.errors).split())
    finally:
        supervisor.close()
    assert [path.name for path in tmp_path.iterdir()] == []


@pytest.mark.parametrize("through", ["ps", "client"])
def test_nothing_is_saved_inside_another_checkpoint(bucket: str, cluster: SmallCluster, through: Through) -> None:
    client, url = cluster.client(), f"s3://{bucket}/run"
    Model(client).train(0, 1)
    first = client.save(url, name="x", through=through)
    with pytest.raises(FailedPreconditionError, match="run/x is a checkpoint, in which no other one can be saved"):
        client.save(first.path, name="y", through=through)
    assert [each.name for each in ss.checkpoint.list(url)] == ["x"]
    assert ss.checkpoint.list(first.path) == []


# -- what is damaged --------------------------------------------------------------------------


def _cut_off(content: bytes) -> bytes:
    return content[:-1]


def _flipped(content: bytes) -> bytes:
    return content[:-1] + bytes([content[-1] ^ 1])


@pytest.mark.parametrize("through", ["ps", "client"])
@pytest.mark.parametrize(
    ("file", "damage", "message"),
    [
        ("part-00001", _flipped, "part-00001.*checksum of the bytes"),
        ("part-00001", _cut_off, "part-00001.* bytes instead of"),
        ("part-00001", None, "part-00001.*it is not there"),
        ("manifest.json", _cut_off, "manifest.json.* cannot be used"),
    ],
    ids=["value", "cut off", "missing", "manifest"],
)
def test_what_is_damaged_is_refused_by_name(
    bucket: str,
    s3: S3Process,
    cluster: SmallCluster,
    through: Through,
    file: str,
    damage: Callable[[bytes], bytes] | None,
    message: str,
) -> None:
    client, url = cluster.client(), f"s3://{bucket}/run"
    model = Model(client)
    model.train(0, 1)
    client.save(url, name="x")
    model.train(1, 2)
    expected = model.values()
    remote = s3.remote(bucket)
    (key,) = [each["path"] for each in obstore.list(remote).collect() if file in each["path"]]
    if damage is None:
        obstore.delete(remote, key)
    else:
        obstore.put(remote, key, damage(bytes(obstore.get(remote, key).bytes())))
    with pytest.raises(FailedPreconditionError, match=message) as caught:
        client.restore(f"{url}/x", through=through)
    assert f"s3://{bucket}/run/x/" in caught.value.message
    assert_equal(model.values(), expected)
    with pytest.raises(FailedPreconditionError, match=message):
        ss.checkpoint.verify(f"{url}/x")


# -- what cannot be reached -------------------------------------------------------------------


@contextmanager
def _answering(answer: Callable[[BaseHTTPRequestHandler], None]) -> Iterator[str]:
    """An endpoint where each request has the same answer."""

    class Handler(BaseHTTPRequestHandler):
        def handle_one_request(self) -> None:
            self.raw_requestline = self.rfile.readline(65537)
            if self.raw_requestline and self.parse_request():
                answer(self)
            self.close_connection = True

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer((LOOPBACK, 0), Handler)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield f"http://{LOOPBACK}:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _refuse(handler: BaseHTTPRequestHandler) -> None:
    body = f"<Error><Code>SignatureDoesNotMatch</Code><AWSAccessKeyId>{ACCESS_KEY}</AWSAccessKeyId></Error>".encode()
    handler.send_response(403)
    handler.send_header("Content-Length", str(len(body)))
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)


def _wait_for(event: threading.Event) -> None:
    event.wait(60.0)


@pytest.fixture(params=["refused", "silent", "nobody", "no credentials", "no bucket"])
def out_of_reach(
    request: pytest.FixtureRequest, s3: S3Process, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[str, str]]:
    """A URL that cannot be used, and why."""
    kind: str = request.param
    is_over = threading.Event()
    if kind == "refused":
        with _answering(_refuse) as endpoint:
            _use(endpoint, monkeypatch)
            yield "s3://models/run", r"access is denied \(HTTP 403"
    elif kind == "silent":
        for bound in ("REQUEST_S", "UPLOAD_S", "REPEAT_S"):  # or the test would take as long as they are
            monkeypatch.setattr(buckets, bound, 1)
        with _answering(lambda _: _wait_for(is_over)) as endpoint:
            _use(endpoint, monkeypatch)
            yield "s3://models/run", "it has not answered within 1 s"
            is_over.set()
    elif kind == "nobody":
        monkeypatch.setattr(buckets, "REPEAT_S", 1)
        reserved = ReservedPorts(1)
        _use(f"http://{LOOPBACK}:{reserved.ports[0]}", monkeypatch)
        yield "s3://models/run", r"it cannot be reached \("
        reserved.close()
    elif kind == "no credentials":
        # Who has none in the environment asks the machine that he runs on for some; here that says no.
        with _answering(_refuse) as endpoint:
            _use(s3.endpoint, monkeypatch)
            monkeypatch.delenv("AWS_ACCESS_KEY_ID")
            monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
            monkeypatch.setenv("AWS_METADATA_ENDPOINT", endpoint)
            yield "s3://models/run", "no credentials for it; set AWS_ACCESS_KEY_ID"
    else:
        _use(s3.endpoint, monkeypatch)
        yield "s3://bucket-of-nobody/run", "there is no such bucket"


@pytest.mark.parametrize("through", ["ps", "client"])
def test_what_is_out_of_reach_is_said_and_changes_nothing(
    out_of_reach: tuple[str, str], cluster: SmallCluster, through: Through
) -> None:
    url, why = out_of_reach
    client = cluster.client()
    model = Model(client)
    model.train(0, 2)
    expected = model.values()
    with pytest.raises(FailedPreconditionError, match=why) as caught:
        client.save(url, name="x", through=through)
    assert caught.value.task == ("ps:0" if through == "ps" else "")
    assert url in caught.value.message
    said = [str(caught.value)]
    with pytest.raises(FailedPreconditionError, match=why) as caught:
        client.restore(url, through=through)
    said.append(str(caught.value))
    with pytest.raises(StoreError, match=why) as failed:
        ss.checkpoint.list(url)
    said.append(str(failed.value))
    assert not [text for text in said if ACCESS_KEY in text or SECRET_KEY in text]
    assert_equal(model.values(), expected)
    model.train(2, 1)


def test_a_store_that_ends_while_parts_are_written_is_named(
    cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    with S3Process() as s3:
        _use(s3.endpoint, monkeypatch)
        url = f"s3://{s3.new_bucket()}/run"
        client = cluster.client()
        model = Model(client)
        model.train(0, 2)
        expected = model.values()
        with pytest.raises(FailedPreconditionError, match=r"cannot be reached|has not answered") as caught:
            client.save(url, name="x", show_progress=lambda *_: s3.kill())
        assert caught.value.task.startswith("ps:")
        assert_equal(model.values(), expected)
        model.train(2, 1)


def test_ps_tasks_that_use_other_stores_are_named(
    bucket: str, cluster: SmallCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    client = cluster.client()
    Model(client)
    with S3Process() as other:
        checkpoints = client._handles[1].service.checkpoints
        begin = checkpoints.begin

        def begin_elsewhere(*arguments: Any, **named: Any) -> Any:
            with pytest.MonkeyPatch.context() as elsewhere:
                _use(other.endpoint, elsewhere)
                return begin(*arguments, **named)

        monkeypatch.setattr(checkpoints, "begin", begin_elsewhere)
        other.make_bucket(bucket)
        with pytest.raises(FailedPreconditionError, match=r"what ps:1 has written to s3://.* the same endpoint"):
            client.save(f"s3://{bucket}/run", name="x")
        assert obstore.list(other.remote(bucket)).collect() == []
    with pytest.raises(NotFoundError, match="there is no checkpoint at s3://"):
        client.restore(f"s3://{bucket}/run")


def test_a_url_with_a_secret_is_refused_without_repeating_it(cluster: SmallCluster) -> None:
    with pytest.raises(InvalidArgumentError, match="credentials come from the environment") as caught:
        cluster.client().save(f"s3://{ACCESS_KEY}:{SECRET_KEY}@models/run")
    assert SECRET_KEY not in str(caught.value)
