"""What every store of checkpoints must do: a folder, an object store in memory, those of S3, Google and Azure."""

from __future__ import annotations

import threading
import time
import zlib
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import numpy as np
import obstore
import pytest
from obstore.store import MemoryStore

from ps_protocol.checkpoints import locations
from ps_protocol.checkpoints.bucket import Bucket
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import SavedPart, part_file
from ps_protocol.checkpoints.object_store import UPLOAD_BYTES, WINDOW_BYTES, ObjectStore
from ps_protocol.checkpoints.pruning import prune
from ps_protocol.checkpoints.retention import Retention
from ps_protocol.checkpoints.store import (
    DEAD_S,
    CheckpointStore,
    check_part,
    clean_dead,
    manifest_piece,
    pending_name,
    read_manifest,
)
from ps_protocol.errors import AlreadyExistsError, FailedPreconditionError, NotFoundError
from tests.cloud_stores import AzureCloud, GoogleCloud
from tests.s3_process import S3Process

TASKS = ("ps:0", "ps:1")
HEADER_BYTES = 16
LARGE_BYTES = 2 * UPLOAD_BYTES + 12345
FUTURE_S = 3600.0


@dataclass(frozen=True)
class Place:
    """A place for checkpoints.

    Attributes:
        open: Opens it as one more process does.
        everything: Names of all files or objects in it.
        delete: Deletes one of these.
    """

    open: Callable[[], CheckpointStore]
    everything: Callable[[], list[str]]
    delete: Callable[[str], Any]


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Process]:
    with S3Process() as s3:
        yield s3


@pytest.fixture
def google(tmp_path: Path) -> Iterator[GoogleCloud]:
    with GoogleCloud(tmp_path / "account.json") as google:
        yield google


@pytest.fixture
def azure() -> Iterator[AzureCloud]:
    with AzureCloud() as azure:
        yield azure


@pytest.fixture(params=["folder", "file-url", "memory", "s3", "s3-root", "s3-unconditional", "gs", "az"])
def place(
    request: pytest.FixtureRequest,
    s3: S3Process,
    google: GoogleCloud,
    azure: AzureCloud,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Place:
    kind: str = request.param
    if kind in ("folder", "file-url"):
        root = tmp_path / "run 7"
        url = f"file://{tmp_path}/run%207" if kind == "file-url" else str(root)
        return Place(
            lambda: locations.open_store(url),
            lambda: sorted([str(each.relative_to(root)) for each in root.rglob("*") if each.is_file()]),
            lambda name: (root / name).unlink(),
        )
    if kind == "memory":
        memory = MemoryStore()
        return _objects(memory, "run", lambda: ObjectStore(Bucket("memory://run", memory), "run"))
    for name, value in {**s3.environment, **google.environment, **azure.environment}.items():
        monkeypatch.setenv(name, value)
    if kind in ("gs", "az"):
        remote = (google if kind == "gs" else azure).remote("models")
        return _objects(remote, "run", lambda: locations.open_store(f"{kind}://models/run"))
    if kind == "s3-unconditional":
        monkeypatch.setenv("AWS_CONDITIONAL_PUT", "disabled")
    bucket, prefix = s3.new_bucket(), "" if kind == "s3-root" else "models/run 7"
    url = f"s3://{bucket}/{prefix}".removesuffix("/")
    return _objects(s3.remote(bucket), prefix, lambda: locations.open_store(url))


def _objects(remote: Any, prefix: str, open_store: Callable[[], CheckpointStore]) -> Place:
    folder = f"{prefix}/" if prefix else ""
    return Place(
        open_store,
        lambda: sorted([each["path"].removeprefix(folder) for each in obstore.list(remote, prefix or None).collect()]),
        lambda name: obstore.delete(remote, folder + name),
    )


def content(size_bytes: int, seed: int = 0) -> bytes:
    return np.random.default_rng(seed).bytes(size_bytes)


def write_part(store: CheckpointStore, name: str, save: UUID, index: int, data: bytes) -> None:
    file = part_file(index, len(TASKS))
    with store.part_writer(name, save, file, len(data)) as writer:
        crc = writer.write(memoryview(data)[:HEADER_BYTES])
        for start in range(HEADER_BYTES, len(data), 4 * 1024**2):
            piece = data[start : start + 4 * 1024**2]
            assert writer.write(piece) == zlib.crc32(piece)
    store.note_part(name, save, SavedPart(file, TASKS[index], len(data), HEADER_BYTES, crc, 0, ()))


def write_checkpoint(place: Place, name: str, sizes: tuple[int, int] = (100, 200), step: int | None = None) -> UUID:
    """Writes a checkpoint as two ps tasks do."""
    save, stores = uuid4(), [place.open(), place.open()]
    for index, store in enumerate(stores):
        assert store.begin(name, save, TASKS[index]) == list(TASKS[: index + 1])
    for index, store in enumerate(stores):
        write_part(store, name, save, index, content(sizes[index], index))
    assert place.open().publish(name, save, TASKS, time.time(), step, {}) == sum(sizes)
    return save


def write_half(name: str, save: UUID, store: CheckpointStore) -> None:
    with store.part_writer(name, save, "part", LARGE_BYTES) as writer:
        writer.write(content(LARGE_BYTES - 1000))
        raise KeyError


def begun(place: Place, name: str = "x") -> tuple[CheckpointStore, UUID]:
    """A save of which both parts are there."""
    store, save = place.open(), uuid4()
    for index, task in enumerate(TASKS):
        store.begin(name, save, task)
        write_part(store, name, save, index, content(100))
    return store, save


def test_what_was_written_is_read(place: Place) -> None:
    sizes = (LARGE_BYTES, 100)
    save = write_checkpoint(place, "step-000000007", sizes, step=7)
    store = place.open()
    assert store.names() == ["step-000000007"]
    assert store.exists("step-000000007")
    manifest = read_manifest(store, "step-000000007")
    assert (manifest.save, manifest.step, manifest.size_bytes) == (save, 7, sum(sizes))
    for index, part in enumerate(manifest.parts):
        reader = check_part(store, manifest.name, part)
        assert reader.size_bytes == sizes[index]
        found = bytearray(sizes[index])
        assert reader.read_into(memoryview(found), 0) == zlib.crc32(found)
        assert found == content(sizes[index], index)
        reader.close()
    # Nothing else is there, so that any tool that copies the folder has the checkpoint.
    assert len(place.everything()) == 3


@pytest.mark.parametrize("seed", [1, 2])
def test_ranges_are_read_in_any_order(place: Place, seed: int) -> None:
    write_checkpoint(place, "x", (LARGE_BYTES, 100))
    store, draw, expected = place.open(), np.random.default_rng(seed), content(LARGE_BYTES, 0)
    assert LARGE_BYTES > WINDOW_BYTES
    first, *_ = read_manifest(store, "x").parts
    readers = [store.open("x", first.file) for _ in range(2)]
    offset = 0
    for _ in range(40):
        if draw.random() < 0.3:
            offset = int(draw.integers(0, LARGE_BYTES))
        length = min(int(draw.choice([1, 1000, 3_000_000])), LARGE_BYTES - offset)
        found = bytearray(length)
        assert readers[int(draw.integers(0, 2))].read_into(memoryview(found), offset) == zlib.crc32(found)
        assert found == expected[offset : offset + length]
        offset = (offset + length) % LARGE_BYTES
    for reader in readers:
        with pytest.raises(EOFError, match=f"ends at byte {LARGE_BYTES}"):
            reader.read_into(memoryview(bytearray(10)), LARGE_BYTES - 5)
        assert reader.read_into(memoryview(bytearray()), 0) == 0
        reader.close()
        reader.close()


def test_where_there_is_nothing(place: Place) -> None:
    store = place.open()
    assert store.names() == []
    assert not store.exists("x")
    assert store.clean(time.time() + FUTURE_S) == []
    with pytest.raises(NotFoundError, match="there is no checkpoint x in"):
        store.manifest_bytes("x")
    with pytest.raises(FileNotFoundError):
        store.open("x", "y")


def test_a_name_is_taken_once(place: Place) -> None:
    write_checkpoint(place, "x")
    before = place.everything()
    with pytest.raises(AlreadyExistsError, match="there is a checkpoint x in"):
        place.open().begin("x", uuid4(), "ps:0")
    assert place.everything() == before


def test_of_two_saves_under_one_name_the_first_one_is_there(place: Place) -> None:
    (one, first), (other, second) = begun(place), begun(place)
    one.publish("x", first, TASKS, 1.0, None, {})
    with pytest.raises(AlreadyExistsError, match="made meanwhile"):
        other.publish("x", second, TASKS, 1.0, None, {})
    other.discard("x", second)
    assert read_manifest(place.open(), "x").save == first
    assert len(place.everything()) == 3


def test_a_publication_is_repeated(place: Place) -> None:
    store, save = begun(place)
    assert [store.publish("x", save, TASKS, 1.0, None, {}) for _ in range(2)] == [200, 200]


def test_a_part_that_is_not_there_is_named_and_nothing_is_left(place: Place) -> None:
    store, save = place.open(), uuid4()
    store.begin("x", save, "ps:0")
    write_part(store, "x", save, 0, content(100))
    with pytest.raises(FailedPreconditionError, match=r"what ps:1 has written to .* cannot be seen by ps:0"):
        store.publish("x", save, TASKS, 1.0, None, {})
    store.discard("x", save)
    assert place.everything() == []


def test_a_part_that_is_shorter_than_it_says_is_named(place: Place) -> None:
    store, save = begun(place)
    name = next(each for each in place.everything() if each.endswith("00001-of-00002.safetensors"))
    place.delete(name)
    with store.part_writer("x", save, part_file(1, 2), 99) as writer:
        writer.write(content(99))
    with pytest.raises(FailedPreconditionError, match="what ps:1 has written"):
        store.publish("x", save, TASKS, 1.0, None, {})


def test_what_is_given_up_leaves_nothing(place: Place) -> None:
    store, save = begun(place)
    other = place.open()
    other.begin("x", save, "ps:2")
    with pytest.raises(KeyError):
        write_half("x", save, other)
    assert place.open().names() == []
    store.discard("x", save)
    other.discard("x", save)
    assert place.everything() == []
    with pytest.raises(FailedPreconditionError):
        store.publish("x", save, TASKS, 1.0, None, {})
    assert place.open().names() == []


def test_several_tasks_give_up_at_once(place: Place) -> None:
    one, save = begun(place)
    other = place.open()
    other.begin("x", save, "ps:2")
    with ThreadPoolExecutor() as pool:
        list(pool.map(lambda store: store.discard("x", save), [one, other]))
    assert place.open().names() == []
    one.discard("x", save)
    assert place.everything() == []


def test_a_part_is_begun_again(place: Place) -> None:
    store, save = begun(place)
    write_part(store, "x", save, 1, content(300, 9))
    assert store.publish("x", save, TASKS, 1.0, None, {}) == 400


def test_a_task_that_gives_up_late_takes_nothing_away(place: Place) -> None:
    late, save = begun(place)
    place.open().publish("x", save, TASKS, 1.0, None, {})
    before = place.everything()
    late.discard("x", save)
    assert place.everything() == before


def test_the_newest_stay(place: Place) -> None:
    for name in ("c", "a+b=@,_.-", "b"):
        write_checkpoint(place, name)
    store = place.open()
    assert store.names() == ["c", "a+b=@,_.-", "b"]
    prune(store, Retention(last=2), "b", time.time())
    assert store.names() == ["a+b=@,_.-", "b"]
    assert len(place.everything()) == 6
    prune(store, Retention(), "b", time.time())
    assert store.names() == ["a+b=@,_.-", "b"]


def test_the_one_that_was_just_made_stays(place: Place) -> None:
    for name in "abc":
        write_checkpoint(place, name)
    store = place.open()
    prune(store, Retention(last=1), "a", time.time())  # as if the clock of who made it were behind
    assert store.names() == ["a", "c"]


def test_one_that_is_pinned_stays(place: Place) -> None:
    for name in ("a", "b", "c"):
        write_checkpoint(place, name)
    store = place.open()
    with pytest.raises(NotFoundError, match="no checkpoint d"):
        store.pin("d", is_pinned=True)
    store.pin("a", is_pinned=True)
    assert [store.is_pinned(name) for name in "abcd"] == [True, False, False, False]
    prune(store, Retention(last=1), "c", time.time())
    assert store.names() == ["a", "c"]
    store.pin("a", is_pinned=False)
    store.pin("a", is_pinned=False)
    assert not store.is_pinned("a")
    store.pin("a", is_pinned=True)
    store.remove("a")
    store.remove("a")
    assert store.names() == ["c"]
    assert len(place.everything()) == 3


def test_what_another_one_removes_meanwhile_is_removed(
    place: Place, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Two savers that keep the newest of one folder remove the same ones, each at any moment of the other."""
    for name in "abc":
        write_checkpoint(place, name)
    first, second = place.open(), place.open()
    passed: list[str] = []

    def meanwhile(where: str) -> None:
        if where == "checkpoint.removing" and not passed:
            passed.append(where)
            prune(second, Retention(last=1), "c", time.time())
            second.remove("a")

    for module in ("folder_store", "object_store"):
        monkeypatch.setattr(f"ps_protocol.checkpoints.{module}.fault_point", meanwhile)
    prune(first, Retention(last=1), "c", time.time())
    assert passed
    assert first.names() == ["c"]
    assert len(place.everything()) == 3
    assert not caplog.records


def test_two_that_remove_the_same_side_by_side(place: Place) -> None:
    names = [f"x{number}" for number in range(4)]
    for name in names:
        write_checkpoint(place, name)
    barrier = threading.Barrier(2)

    def remove(store: CheckpointStore) -> None:
        for name in names:
            barrier.wait(timeout=30.0)
            store.remove(name)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(remove, [place.open(), place.open()]))
    assert place.everything() == []


def test_a_checkpoint_that_is_removed_is_not_pinned(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    write_checkpoint(place, "x")
    store = place.open()
    exists = store.exists

    def exists_no_longer(name: str) -> bool:
        found = exists(name)
        place.open().remove(name)
        return found

    monkeypatch.setattr(store, "exists", exists_no_longer)
    with pytest.raises(NotFoundError, match="no checkpoint x"):
        store.pin("x", is_pinned=True)
    assert place.everything() == []


def test_a_manifest_is_read_in_pieces(place: Place) -> None:
    write_checkpoint(place, "x")
    store = place.open()
    whole = store.manifest_bytes("x")
    pieces = [manifest_piece(store, "x", start, 100) for start in range(0, len(whole) + 100, 100)]
    assert b"".join([content for content, _ in pieces]) == whole
    assert {size_bytes for _, size_bytes in pieces} == {len(whole)}
    with pytest.raises(NotFoundError, match="no checkpoint y"):
        manifest_piece(store, "y", 0, 100)


def test_what_a_dead_save_has_left_behind_is_removed(place: Place) -> None:
    write_checkpoint(place, "whole")
    whole = place.everything()
    _, save = begun(place, "dead")
    store = place.open()
    assert store.clean(time.time() - 60.0) == []
    clean_dead(store, time.time())
    assert len(place.everything()) > len(whole)
    assert store.clean(time.time() + FUTURE_S) == [pending_name("dead", save)]
    assert place.everything() == whole
    _, save = begun(place, "dead")
    clean_dead(store, time.time() + DEAD_S + FUTURE_S)
    assert place.everything() == whole


def test_a_store_that_cannot_be_cleaned_is_no_failure_of_a_save(place: Place, caplog: pytest.LogCaptureFixture) -> None:
    store = place.open()

    def fail(before_s: float) -> list[str]:
        raise PermissionError("may not")

    with pytest.MonkeyPatch.context() as failing:
        failing.setattr(store, "clean", fail)
        clean_dead(store, time.time())
    assert "what dead saves have left behind" in caplog.text
    assert "may not" in caplog.text


def test_nothing_of_a_visible_checkpoint_is_taken_for_a_dead_save(place: Place) -> None:
    save = write_checkpoint(place, "x")
    before = place.everything()
    store = place.open()
    if not isinstance(store, FolderStore):  # as if the process had died before it removed what is for the save alone
        store.note_part("x", save, SavedPart("part", "ps:0", 1, 1, 0, 0, ()))
        assert store.clean(time.time() + FUTURE_S) == [pending_name("x", save)]
    assert store.clean(time.time() + FUTURE_S) == []
    assert place.everything() == before


def test_a_removal_that_has_died_is_finished(place: Place) -> None:
    write_checkpoint(place, "x")
    store = place.open()

    def die(*_: Any, **__: Any) -> None:
        raise InterruptedError

    with pytest.MonkeyPatch.context() as dying:
        if isinstance(store, FolderStore):
            dying.setattr("ps_protocol.checkpoints.folder_store.sync_directory", die)
        else:
            dying.setattr(store, "_delete_in", die)
        with pytest.raises(InterruptedError):
            store.remove("x")
    assert place.open().names() == []
    assert place.everything() != []
    assert len(store.clean(time.time() + FUTURE_S)) == 1
    assert place.everything() == []
