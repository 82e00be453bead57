"""What a user may give to open a checkpoint, and what an error says of what is not there."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from ps_protocol.errors import DataLossError, InvalidValueError, NotFoundError, UnimplementedError
from ps_protocol.tensorflow_files.bundle import index_path
from ps_protocol.tensorflow_files.bundle_writer import new_checkpoint
from ps_protocol.tensorflow_files.checkpoint import open_tensorflow
from ps_protocol.tensorflow_files.state_file import new_state, write_state
from tests.checkpoint_files import extracted


@pytest.fixture
def prefix(tmp_path: Path) -> Path:
    found = tmp_path / "model.ckpt-5"
    with new_checkpoint(found) as writer:
        writer.add("w", np.arange(3))
    write_state(tmp_path, new_state(tmp_path, str(found)))
    return found


@pytest.mark.parametrize("ending", ["", ".index", ".data-00000-of-00001"])
def test_a_prefix_or_any_of_its_files(ending: str, prefix: Path) -> None:
    with open_tensorflow(f"{prefix}{ending}") as checkpoint:
        assert checkpoint["w"].read().tolist() == [0, 1, 2]


def test_a_directory_or_a_relative_one(prefix: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with open_tensorflow(prefix.parent) as checkpoint:
        assert list(checkpoint) == ["w"]
    monkeypatch.chdir(prefix.parent)
    write_state(".", new_state(".", "model.ckpt-5"))
    paths: list[str | Path] = [".", prefix.parent, Path(prefix.name)]
    for path in paths:
        with open_tensorflow(path) as checkpoint:
            assert list(checkpoint) == ["w"]


def test_files_of_version_1_and_a_pattern_of_them(tmp_path: Path) -> None:
    whole = extracted("version_1", tmp_path)
    for path in (whole.path, whole.folder):
        with open_tensorflow(path) as checkpoint:
            assert set(checkpoint) == set(whole.tensors)
    shards = extracted("version_1_sharded", tmp_path)
    prefix = f"{shards.path}".partition("-?")[0]
    for given in (shards.path, shards.folder, prefix, f"{prefix}-*"):
        with open_tensorflow(given) as checkpoint:
            assert set(checkpoint) == set(shards.tensors)
    with open_tensorflow(f"{prefix}-00001-of-00002") as checkpoint:  # one file alone was asked for
        assert 0 < len(checkpoint) < len(shards.tensors)


def test_what_is_missing_is_named(prefix: Path) -> None:
    folder = prefix.parent
    with pytest.raises(NotFoundError, match=r"there is no checkpoint .*/other: neither .*/other\.index nor a file"):
        open_tensorflow(folder / "other")
    with pytest.raises(NotFoundError, match=r"and there is no directory .*/nowhere$"):
        open_tensorflow(folder / "nowhere" / "model")
    (folder / "empty").mkdir()
    said = (
        r"/empty has no checkpoint: there is neither a file 'checkpoint'.*, nor variables/variables\.index of .*Model$"
    )
    with pytest.raises(NotFoundError, match=said):
        open_tensorflow(folder / "empty")
    (folder / "checkpoint").unlink()
    with pytest.raises(NotFoundError, match=r"it has model\.ckpt-5: give one of these, as .*/model\.ckpt-5$"):
        open_tensorflow(folder)
    index_path(prefix).unlink()
    with pytest.raises(NotFoundError, match=r"ckpt-5\.index is missing, though model\.ckpt-5\.data-00000-of-00001 is"):
        open_tensorflow(prefix)


def test_a_directory_may_be_moved(prefix: Path, tmp_path: Path) -> None:
    """Then the paths in the file "checkpoint" lead nowhere, if they are absolute."""
    moved = tmp_path / "moved"
    moved.mkdir()
    for each in [each for each in tmp_path.iterdir() if each.is_file()]:
        shutil.move(each, moved)
    with open_tensorflow(moved) as checkpoint:
        assert checkpoint["w"].read().tolist() == [0, 1, 2]
    index_path(moved / prefix.name).unlink()
    with pytest.raises(NotFoundError, match=r"the newest checkpoint is .*, but it is neither there nor in"):
        open_tensorflow(moved)


def test_files_may_be_given_by_their_url_and_others_are_refused(prefix: Path) -> None:
    for given in (f"file://{prefix}", f"file://{prefix.parent}"):
        with open_tensorflow(given) as checkpoint:
            assert list(checkpoint) == ["w"]
    with pytest.raises(UnimplementedError, match=r"gs://bucket/m is not on this machine.*copy it here"):
        open_tensorflow("gs://bucket/m")
    with (
        pytest.raises(UnimplementedError, match="s3://bucket/m is not on this machine"),
        new_checkpoint("s3://bucket/m"),
    ):
        pass
    with pytest.raises(UnimplementedError, match="is not on this machine"):
        write_state("hdfs://bucket", new_state("hdfs://bucket", "m"))
    assert not Path("s3:").exists()


def test_a_file_of_something_else_is_refused(tmp_path: Path) -> None:
    (tmp_path / "photo").write_bytes(b"\x89PNG" * 100)
    with pytest.raises(DataLossError, match="photo is no table of TensorFlow's"):
        open_tensorflow(tmp_path / "photo")
    (tmp_path / "checkpoint").write_text("no: such")
    with pytest.raises(DataLossError, match="checkpoint does not say which checkpoints there are"):
        open_tensorflow(tmp_path)
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe")
    with pytest.raises(DataLossError, match="checkpoint does not say which checkpoints there are"):
        open_tensorflow(tmp_path)
    (tmp_path / "checkpoint").write_text("")
    with pytest.raises(InvalidValueError, match="names no newest checkpoint"):
        open_tensorflow(tmp_path)


def test_a_table_that_is_no_checkpoint_is_refused(prefix: Path) -> None:
    index_path(prefix).rename(prefix)  # what would be of version 1
    with pytest.raises(DataLossError, match="is a table, but not a checkpoint"):
        open_tensorflow(prefix)
