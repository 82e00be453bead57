"""The built-in store: processes that are stopped or killed anywhere, and directories that are not as they should be."""

from __future__ import annotations

import errno
import functools
import json
import os
import signal
import stat
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import pytest

from ps_protocol.errors import UnavailableError
from ps_server.coordination import file_store
from ps_server.coordination.file_store import FileStore
from ps_server.coordination.store import Entry

TIMEOUT_S: Final = 30.0
KEY: Final = "primary/ps:0"
MOST_CALLS: Final = 100


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "coordination"


@pytest.fixture
def store(directory: Path) -> Iterator[FileStore]:
    opened = FileStore(directory, "cluster")
    yield opened
    opened.close()


def read(store: FileStore) -> Entry | None:
    return store.read(KEY, timeout_s=TIMEOUT_S)


def write(store: FileStore, value: bytes, revision: int = 0) -> Entry:
    written, entry = store.compare_and_set(KEY, value, revision=revision, timeout_s=TIMEOUT_S)
    assert written
    assert entry is not None
    return entry


def write_many(directory: Path, times: int) -> Entry | None:
    """Another process's writes; returns the last."""
    store = FileStore(directory, "cluster")
    entry = read(store)
    for number in range(times):
        entry = write(store, b"other %d" % number, entry.revision if entry else 0)
    return entry


def newest(directory: Path) -> Path:
    return max(each for each in (directory / "cluster" / "primary%2Fps%3A0").iterdir() if each.name[0] != ".")


class CallsOfTheSystem:
    """Stands for ``os`` in the store: has something happen before one of its calls, counted from 0."""

    def __init__(self) -> None:
        self.count = 0
        self.names: list[str] = []
        self._at = -1
        self._happens: Callable[[], None] = lambda: None
        self._is_counting = False

    def before(self, number: int, happens: Callable[[], None]) -> None:
        self.count, self._at, self._happens, self._is_counting = 0, number, happens, True
        self.names.clear()

    def __getattr__(self, name: str) -> Any:
        found = (lambda descriptor: None) if name == "fsync" else getattr(os, name)
        return self._counted(name, found) if callable(found) else found

    def _counted(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            if self._is_counting:
                if self.count == self._at:
                    self._is_counting = False
                    self._happens()
                self.count += 1
                self.names.append(name)
            return function(*arguments, **options)

        return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> CallsOfTheSystem:
    """Nothing is synced in such a test, for which no power is lost."""
    interposed = CallsOfTheSystem()
    monkeypatch.setattr(file_store, "os", interposed)
    return interposed


@pytest.mark.parametrize("before", [0, 1, 4], ids=lambda writes: f"after-{writes}")
@pytest.mark.parametrize("meanwhile", [1, 2, 3, 4, 7], ids=lambda writes: f"overtaken-by-{writes}")
def test_a_writer_that_was_stopped_anywhere_writes_or_says_that_it_has_not(
    tmp_path: Path, calls: CallsOfTheSystem, before: int, meanwhile: int
) -> None:
    outcomes: set[bool] = set()
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        known = write_many(directory, before)
        store = FileStore(directory, "cluster")
        others: list[Entry | None] = []
        calls.before(number, lambda directory=directory, others=others: others.append(write_many(directory, meanwhile)))  # type: ignore[misc]
        revision = known.revision if known else 0
        written, entry = store.compare_and_set(KEY, b"ours", revision=revision, timeout_s=TIMEOUT_S)
        if not others:  # the call was over before
            assert written
            break
        outcomes.add(written)
        last = read(FileStore(directory, "cluster"))
        assert last is not None
        if written:  # the others have come after it
            assert entry == Entry(b"ours", last.revision - meanwhile)
        else:
            assert entry == last
        assert last == others[0]
        assert last.revision - (revision or last.revision - meanwhile - written) == meanwhile + written
        write_many(directory, 1)
        left = [each.name for each in (directory / "cluster" / "primary%2Fps%3A0").iterdir()]
        assert len(left) <= 2, "drafts and old revisions are deleted"
    else:
        pytest.fail(f"a write makes more than {MOST_CALLS} calls")
    assert outcomes == {False, True}


@pytest.mark.parametrize("before", [0, 1, 4], ids=lambda writes: f"after-{writes}")
def test_a_reader_that_was_stopped_anywhere_sees_an_old_or_a_new_value(
    tmp_path: Path, calls: CallsOfTheSystem, before: int
) -> None:
    values: set[bytes] = set()
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        known = write_many(directory, before)
        others: list[Entry | None] = []
        calls.before(number, lambda directory=directory, others=others: others.append(write_many(directory, 5)))  # type: ignore[misc]
        entry = read(FileStore(directory, "cluster"))
        if not others:
            break
        assert entry in (known, others[0])
        values.add(entry.value if entry else b"")
    else:
        pytest.fail(f"a read makes more than {MOST_CALLS} calls")
    assert len(values) == 2


def killed_at(calls: CallsOfTheSystem, number: int, write_once: Callable[[], object]) -> bool:
    """Writes in a process that is killed before one of its calls; returns whether it was, or had ended before."""
    calls.before(number, lambda: os.kill(os.getpid(), signal.SIGKILL))
    child = os.fork()
    if not child:
        try:
            write_once()
        finally:
            os._exit(0)
    _, status = os.waitpid(child, 0)
    calls.before(-1, lambda: None)
    assert status in (0, signal.SIGKILL)
    return status != 0


@pytest.mark.parametrize("before", [0, 1, 4], ids=lambda writes: f"after-{writes}")
def test_a_writer_that_is_killed_anywhere_leaves_the_store_whole(
    tmp_path: Path, calls: CallsOfTheSystem, before: int
) -> None:
    values: set[bytes] = set()
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        known = write_many(directory, before)
        revision = known.revision if known else 0
        store = FileStore(directory, "cluster")
        if not killed_at(calls, number, functools.partial(write, store, b"ours", revision)):
            break
        entry = read(FileStore(directory, "cluster"))
        assert entry == known or (entry is not None and entry.value == b"ours" and entry.revision > revision)
        values.add(entry.value if entry else b"")
        last = write_many(directory, 2)
        assert last is not None
        left = [each.name for each in (directory / "cluster" / "primary%2Fps%3A0").iterdir()]
        assert left.count(f"{last.revision:020}") == 1
        assert len(left) == 2, "what was left behind is deleted"
    else:
        pytest.fail(f"a write makes more than {MOST_CALLS} calls")
    assert values == {known.value if known else b"", b"ours"}


@pytest.mark.parametrize("meanwhile", [1, 2, 3, 4], ids=lambda writes: f"overtaken-by-{writes}")
def test_a_writer_that_was_stopped_does_not_take_a_revision_that_a_killed_one_was_deleting(
    tmp_path: Path, calls: CallsOfTheSystem, meanwhile: int
) -> None:
    """It is stopped before it links its draft. Others are killed once they have linked theirs, the last anywhere."""
    known = write_many(tmp_path / "dry", 1)
    assert known is not None
    calls.before(MOST_CALLS, lambda: None)
    write(FileStore(tmp_path / "dry", "cluster"), b"ours", known.revision)
    link = calls.names.index("link")
    for number in range(link + 1, MOST_CALLS):
        directory = tmp_path / str(number)
        known = write_many(directory, 1)
        assert known is not None
        killed: list[bool] = []

        def others(directory: Path, last: int, killed: list[bool], revision: int) -> None:
            for count in range(meanwhile):
                at = link + 1 if count < meanwhile - 1 else last
                other = FileStore(directory, "cluster")
                killed.append(killed_at(calls, at, functools.partial(write, other, b"other", revision + count)))

        calls.before(link, functools.partial(others, directory, number, killed, known.revision))
        written, entry = FileStore(directory, "cluster").compare_and_set(
            KEY, b"ours", revision=known.revision, timeout_s=TIMEOUT_S
        )
        assert not written
        assert entry == Entry(b"other", known.revision + meanwhile)
        assert all(killed[:-1])
        if not killed[-1]:
            break
    else:
        pytest.fail(f"a write makes more than {MOST_CALLS} calls")


def test_only_its_user_may_read_it_whatever_the_umask(directory: Path, store: FileStore) -> None:
    umask = os.umask(0)
    try:
        write(store, b"value")
    finally:
        os.umask(umask)
    for path in (directory, *directory.rglob("*")):
        assert stat.S_IMODE(path.stat().st_mode) == (0o700 if path.is_dir() else 0o600)


@pytest.mark.parametrize("mode", [0o777, 0o1777, 0o770, 0o720], ids=oct)
def test_a_directory_that_others_may_write_to_is_refused(directory: Path, store: FileStore, mode: int) -> None:
    directory.mkdir()
    directory.chmod(mode)
    with pytest.raises(
        UnavailableError, match=rf"did not read .*: other users may write to .* \(mode {mode:o}\); .* chmod it to 700"
    ):
        read(store)
    directory.chmod(0o755)
    assert read(store) is None


def replace_by_link(path: Path) -> None:
    """Puts a link to it in the place of a file or directory."""
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def test_links_are_not_followed(directory: Path, store: FileStore) -> None:
    entry = write(store, b"value")
    key = newest(directory).parent
    for path in (newest(directory), directory / "cluster" / "store.json", key, directory / "cluster"):
        replace_by_link(path)
        with pytest.raises(UnavailableError, match="did not read") as caught:
            read(store)
        assert isinstance(caught.value.__cause__, OSError)
        assert caught.value.__cause__.errno in (errno.ELOOP, errno.ENOTDIR)
        with pytest.raises(UnavailableError, match="did not write"):
            store.compare_and_set(KEY, b"other", revision=entry.revision, timeout_s=TIMEOUT_S)
        path.unlink()
        path.with_name("elsewhere").rename(path)
        assert read(store) == entry


def test_a_pipe_in_the_place_of_a_value_holds_up_nobody(directory: Path, store: FileStore) -> None:
    write(store, b"value")
    path = newest(directory)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(UnavailableError, match=r"is damaged, or was written to another store; put a copy"):
        read(store)


@pytest.mark.parametrize("which", ["directory", "namespace"])
def test_a_directory_that_was_removed_is_not_made_again_and_one_that_is_put_back_serves(
    directory: Path, store: FileStore, which: str
) -> None:
    entry = write(store, b"value")
    path = directory if which == "directory" else directory / "cluster"
    path.rename(path.with_name("elsewhere"))
    for _ in range(2):
        with pytest.raises(
            UnavailableError, match=r"did not read .* removed or moved, or its disk is not mounted; put"
        ):
            read(store)
        with pytest.raises(UnavailableError, match=r"did not write .* removed or moved"):
            store.compare_and_set(KEY, b"other", revision=entry.revision, timeout_s=TIMEOUT_S)
    with pytest.raises(UnavailableError, match=r"did not read .* removed or moved"):
        store.watch(KEY, revision=entry.revision, timeout_s=0.05)
    assert not path.exists()
    path.with_name("elsewhere").rename(path)
    assert read(store) == entry
    write(store, b"other", entry.revision)


def test_a_directory_that_is_removed_in_the_middle_of_a_write_is_noticed(
    tmp_path: Path, calls: CallsOfTheSystem
) -> None:
    num_refused = 0
    for number in range(MOST_CALLS):
        directory = tmp_path / str(number)
        known = write_many(directory, 1)
        assert known is not None
        store = FileStore(directory, "cluster")
        happened: list[Path] = []

        def move(directory: Path = directory, happened: list[Path] = happened) -> None:
            happened.append(directory.rename(f"{directory}-elsewhere"))

        calls.before(number, move)
        try:
            written, _ = store.compare_and_set(KEY, b"ours", revision=known.revision, timeout_s=TIMEOUT_S)
        except UnavailableError as error:
            num_refused += 1
            assert "removed or moved" in str(error)  # noqa: PT017 - whether there is one depends on the moment
        else:
            assert written
            if not happened:
                break
            # It was the last call, after which the directory might as well have been moved.
            assert not directory.exists()
    assert num_refused > 5


def test_a_store_in_the_place_of_another_one_is_refused_and_has_greater_revisions(
    directory: Path, store: FileStore
) -> None:
    entry = write(store, b"value")
    directory.rename(directory.with_name("elsewhere"))
    other = FileStore(directory, "cluster")
    fresh = write(other, b"of another history")
    assert fresh.revision > entry.revision
    with pytest.raises(
        UnavailableError, match=r"another store is in its place; put the directory back\. If that cannot be, end all"
    ):
        read(store)
    with pytest.raises(UnavailableError, match="another store is in its place"):
        store.compare_and_set(KEY, b"other", revision=fresh.revision, timeout_s=TIMEOUT_S)
    assert read(other) == fresh


@pytest.mark.parametrize("what", ["newest", "key"])
def test_values_that_were_removed_are_missed(directory: Path, store: FileStore, what: str) -> None:
    first = write(store, b"first")
    entry = write(store, b"second", first.revision)
    path = newest(directory) if what == "newest" else newest(directory).parent
    path.rename(directory / "elsewhere")
    with pytest.raises(UnavailableError, match=rf"revision {entry.revision} of .* was there, and now the newest is "):
        read(store)
    for revision in (0, first.revision, entry.revision):
        with pytest.raises(UnavailableError, match=r"did not write .* was there, and now"):
            store.compare_and_set(KEY, b"third", revision=revision, timeout_s=TIMEOUT_S)
    (directory / "elsewhere").rename(path)
    assert read(store) == entry


@pytest.mark.parametrize("damage", ["first", "middle", "last", "short", "empty", "other-key", "other-revision"])
def test_a_damaged_value_is_refused_until_it_is_whole_again(directory: Path, store: FileStore, damage: str) -> None:
    entry = write(store, b"a value of some length")
    store.compare_and_set("other", b"a value of some length", revision=0, timeout_s=TIMEOUT_S)
    later = write(store, entry.value, entry.revision)
    path = newest(directory)
    whole = path.read_bytes()
    damaged = {
        "first": bytes([whole[0] ^ 1]) + whole[1:],
        "middle": whole[:60] + bytes([whole[60] ^ 1]) + whole[61:],
        "last": whole[:-1] + bytes([whole[-1] ^ 1]),
        "short": whole[:-1],
        "empty": b"",
        "other-key": next((directory / "cluster" / "other").iterdir()).read_bytes(),
        "other-revision": path.with_name(f"{entry.revision:020}").read_bytes(),
    }
    path.write_bytes(damaged[damage])
    for each in (store, FileStore(directory, "cluster")):
        with pytest.raises(UnavailableError, match=rf"did not read .*revision {later.revision} of .* is damaged"):
            read(each)
    path.write_bytes(whole)
    assert read(store) == later


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b'{"format": 1, "store": "x", "base": 0}'], ids=repr)
def test_a_damaged_identity_is_refused_until_it_is_whole_again(
    directory: Path, store: FileStore, content: bytes
) -> None:
    entry = write(store, b"value")
    path = directory / "cluster" / "store.json"
    whole = path.read_bytes()
    path.write_bytes(content)
    for each in (store, FileStore(directory, "cluster")):
        with pytest.raises(UnavailableError, match=r"its file store.json is damaged \(.*\); put a copy of it back"):
            read(each)
    path.write_bytes(whole)
    assert read(store) == entry


def test_a_store_of_a_newer_version_is_refused(directory: Path, store: FileStore) -> None:
    write(store, b"value")
    path = directory / "cluster" / "store.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"format": 2}))
    with pytest.raises(UnavailableError, match=r"another version of Shardscope \(format 2; this one knows 1\)"):
        read(FileStore(directory, "cluster"))


def test_values_without_an_identity_are_not_taken_for_a_new_store(directory: Path, store: FileStore) -> None:
    write(store, b"value")
    (directory / "cluster" / "store.json").unlink()
    with pytest.raises(UnavailableError, match=r"holds primary%2Fps%3A0, but no store.json; give an empty directory"):
        read(FileStore(directory, "cluster"))


def failing(call: str, number: int, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Has one of the calls of the system fail, counted from 1."""
    real, count = getattr(os, call), iter(range(1, MOST_CALLS))

    def maybe_fail(*arguments: Any, **options: Any) -> Any:
        if next(count) == number:
            raise OSError(code, os.strerror(code))
        return real(*arguments, **options)

    monkeypatch.setattr(os, call, maybe_fail)


@pytest.mark.parametrize(
    ("call", "code", "remedy"),
    [
        ("write", errno.ENOSPC, "No space left on device; free some of the disk"),
        ("fsync", errno.EIO, "Input/output error; the disk fails"),
        ("fsync", errno.EDQUOT, "; free some of the disk, or raise the quota"),
        ("link", errno.EPERM, "; use a local file system that has hard links"),
        ("link", errno.ENOSPC, "; free some of the disk"),
        ("link", errno.EOPNOTSUPP, "; use a local file system that has hard links"),
        ("open", errno.EMFILE, "; raise the limit of open files"),
        ("open", errno.ENFILE, "; raise the limit of open files of the machine"),
        ("open", errno.EROFS, "; mount the disk so that it may be written to"),
        ("open", errno.EACCES, "; give the user of the ps tasks the right to read and write there"),
        ("open", errno.ENOTDIR, "; put a directory in its place"),
    ],
)
def test_a_disk_that_fails_is_named_and_nothing_was_written(
    store: FileStore, call: str, code: int, remedy: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = write(store, b"value")
    with monkeypatch.context() as patch:
        failing(call, 1, code, patch)
        with pytest.raises(UnavailableError, match=f"did not write .*{remedy}"):
            store.compare_and_set(KEY, b"other", revision=entry.revision, timeout_s=TIMEOUT_S)
    assert read(store) == entry
    write(store, b"other", entry.revision)


def test_a_disk_that_fails_after_the_write_leaves_it_open(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    entry = write(store, b"value")
    with monkeypatch.context() as patch:
        failing("fsync", 2, errno.EIO, patch)
        with pytest.raises(UnavailableError, match=r"did not say whether it wrote .*the disk fails"):
            store.compare_and_set(KEY, b"other", revision=entry.revision, timeout_s=TIMEOUT_S)
    assert read(store) == Entry(b"other", entry.revision + 1)


def test_what_another_process_wrote_is_on_disk_before_it_is_returned(
    directory: Path, store: FileStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The writer may have died before it could sync the name; a loss of power would take back what was read."""
    write(store, b"value")
    other = FileStore(directory, "cluster")
    other.read("another", timeout_s=TIMEOUT_S)
    with monkeypatch.context() as patch:
        failing("fsync", 1, errno.EIO, patch)
        with pytest.raises(UnavailableError, match=r"did not read .*the disk fails"):
            read(other)
    assert read(other) == read(store)


@pytest.mark.parametrize("number", [1, 2, 3, 4, 5], ids=["parent", "directory", "namespace", "keys", "draft"])
def test_what_another_process_made_is_on_disk_before_a_key_is_written(
    directory: Path, store: FileStore, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It may have been killed before it could sync what it made; a loss of power would take all keys with it."""
    store.compare_and_set("other", b"", revision=0, timeout_s=TIMEOUT_S)
    newest_key = directory / "cluster" / "primary%2Fps%3A0"
    newest_key.mkdir(mode=0o700)
    other = FileStore(directory, "cluster")
    with monkeypatch.context() as patch:
        failing("fsync", number, errno.EIO, patch)
        with pytest.raises(UnavailableError, match=r"did not write .*the disk fails"):
            other.compare_and_set(KEY, b"value", revision=0, timeout_s=TIMEOUT_S)
    assert list(newest_key.iterdir()) == []
    write(other, b"value")
