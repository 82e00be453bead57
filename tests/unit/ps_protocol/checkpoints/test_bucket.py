"""What a bucket makes of answers that were lost, and of what obstore says of failures."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest
from obstore.exceptions import GenericError
from obstore.store import MemoryStore

from ps_protocol.checkpoints.bucket import Bucket, connect
from ps_protocol.checkpoints.manifest import SavedPart
from ps_protocol.checkpoints.object_store import UPLOAD_BYTES, ObjectStore
from ps_protocol.checkpoints.store import StoreError, check_part, read_manifest
from ps_protocol.errors import AlreadyExistsError, FailedPreconditionError
from tests.s3_process import environment_of

PIECE_BYTES = 1024
NO_ANSWER = (
    "Generic S3 error: Error performing PUT http://127.0.0.1:1/b/x?sig=abcdefgh in 3s - HTTP error: error sending"
)


@pytest.fixture
def bucket() -> Bucket:
    return Bucket("s3://bucket/run", MemoryStore())


class LostAnswer:
    """A file of which the answer to the last request is lost: when that is repeated, nothing is under way any more."""

    def __init__(self, file: Any, *, is_there: bool):
        self._file = file
        self._is_there = is_there

    def close(self) -> None:
        if self._is_there:
            self._file.close()
        raise FileNotFoundError("NoSuchUpload")


def test_an_upload_whose_last_answer_was_lost_is_done(bucket: Bucket) -> None:
    upload = bucket.upload("x", PIECE_BYTES)
    upload.write(bytes(3 * PIECE_BYTES))
    upload._file = LostAnswer(upload._file, is_there=True)
    upload.close()
    assert len(bucket.get("x")) == 3 * PIECE_BYTES


def test_an_upload_that_is_not_there_is_an_error(bucket: Bucket) -> None:
    bucket.put("x", b"of another size")
    upload = bucket.upload("x", PIECE_BYTES)
    upload.write(bytes(3 * PIECE_BYTES))
    upload._file = LostAnswer(upload._file, is_there=False)
    with pytest.raises(StoreError, match="the upload of x was given up by others"):
        upload.close()


def test_an_object_that_goes_while_it_is_read_is_an_error(bucket: Bucket) -> None:
    with pytest.raises(StoreError, match="the object x is no longer there"):
        bucket.get_range("x", 0, 1)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("status code: 503 Service: <Code>SlowDown</Code>", "it answers HTTP 503 SlowDown"),
        ("status code: 403 Forbidden: <Code>AccessDenied</Code>", r"access is denied \(HTTP 403 AccessDenied\)"),
        ("status code: 404 Not Found: <Code>NoSuchBucket</Code>", "there is no such bucket"),
        ("Error performing GET http://169.254.169.254/latest", "no credentials for it; set AWS_ACCESS_KEY_ID"),
        ("kind: Timeout, source: TimedOut", "not answered within 10 s"),
        ("kind: Builder, source: BadScheme", "set AWS_ALLOW_HTTP=true"),
        ('error sending request ... message: "Connection refused"', r"cannot be reached \(Connection refused\)"),
        ('kind: Connect ... error: "failed to lookup address"', r"cannot be reached \(failed to lookup address\)"),
        ("kind: Connect ... InvalidCertificate(UnknownIssuer)", "its certificate is not trusted here"),
        (NO_ANSWER, "Generic S3 error: Error performing PUT http://127.0.0.1:1/b/x in 3s"),
        ("it says 12345678-the-key\nand more", r"it says \.\.\."),
    ],
)
def test_a_failure_is_said_in_one_sentence(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, text: str, said: str
) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "12345678-the-key")
    with pytest.raises(StoreError, match=said) as caught, bucket.errors():
        raise GenericError(text)
    assert caught.value.filename == "s3://bucket/run"
    shown = str(caught.value)
    assert not [secret for secret in ("12345678", "abcdefgh", "and more", "\n") if secret in shown]
    assert caught.value.__suppress_context__
    assert bucket.is_silent == ("status code" not in text)


def test_an_endpoint_that_is_no_url_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in environment_of("no url at all").items():
        monkeypatch.setenv(name, value)
    with pytest.raises(StoreError, match=r"its endpoint is no URL; correct .*AWS_ENDPOINT_URL"):
        connect("s3", "models", "s3://models/run").head("x")


def test_who_does_not_answer_is_not_asked_to_clean_up(bucket: Bucket) -> None:
    store, save = ObjectStore(bucket, "run"), uuid4()
    store.begin("x", save, "ps:0")
    upload = bucket.upload("run/part", PIECE_BYTES)
    before = [each.key for each in bucket.list_in("run")]
    with pytest.raises(StoreError), bucket.errors():
        raise GenericError(NO_ANSWER)
    upload._file = None  # asked nothing
    upload.give_up(StoreError())
    store.discard("x", save)
    assert [each.key for each in bucket.list_in("run")] == before


@pytest.mark.parametrize("size_bytes", [0, 10 * UPLOAD_BYTES, 10**9, 10**11, 5 * 10**12])
def test_no_part_has_more_pieces_than_a_store_takes(
    bucket: Bucket, monkeypatch: pytest.MonkeyPatch, size_bytes: int
) -> None:
    begun = []
    monkeypatch.setattr(bucket, "upload", lambda _, piece_bytes: begun.append(piece_bytes))
    ObjectStore(bucket, "run").part_writer("x", uuid4(), "part", size_bytes)
    (piece_bytes,) = begun
    assert piece_bytes >= UPLOAD_BYTES
    assert piece_bytes * 10_000 >= size_bytes


def test_a_publication_after_another_outcome_is_refused(bucket: Bucket) -> None:
    store, save = ObjectStore(bucket, "run"), uuid4()
    store.begin("x", save, "ps:0")
    bucket.put(f"run/.x.{save.hex}.tmp/outcome", b"given up")
    with pytest.raises(FailedPreconditionError, match="was given up meanwhile"):
        store.publish("x", save, ["ps:0"], 1.0, None, {})


def test_of_two_that_publish_at_the_same_moment_one_is_refused(bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    store, saves = ObjectStore(bucket, "run"), [uuid4(), uuid4()]
    monkeypatch.setattr(store, "exists", lambda _: False)  # as both see it
    for save in saves:
        store.begin("x", save, "ps:0")
        with store.part_writer("x", save, "part", 4) as writer:
            crc = writer.write(b"part")
        store.note_part("x", save, SavedPart("part", "ps:0", 4, 4, crc, 0, ()))
    store.publish("x", saves[0], ["ps:0"], 1.0, None, {})
    with pytest.raises(AlreadyExistsError, match="made meanwhile"):
        store.publish("x", saves[1], ["ps:0"], 1.0, None, {})
    assert len(bucket.list_in("run")) == 2  # nothing of the second one
    manifest = read_manifest(store, "x")
    assert manifest.save == saves[0]
    check_part(store, "x", manifest.parts[0]).close()


def test_a_task_that_gives_up_while_another_publishes_removes_nothing(bucket: Bucket) -> None:
    store, save = ObjectStore(bucket, "run"), uuid4()
    store.begin("x", save, "ps:0")
    bucket.put(f"run/x/{save.hex}/part", b"content")
    bucket.put(f"run/.x.{save.hex}.tmp/outcome", b"published")
    before = [each.key for each in bucket.list_in("run")]
    store.discard("x", save)
    assert [each.key for each in bucket.list_in("run")] == before
