"""TensorFlow 1's functions of the file "checkpoint". What they write and say was compared with TensorFlow 2.21."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

import worker_client.compat.v1 as tf
from ps_protocol.errors import NotFoundError
from worker_client.checkpoints.tensorflow import write_tensorflow


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_relative_paths_are_relative_to_the_directory() -> None:
    Path("u").mkdir()
    tf.train.update_checkpoint_state("u", "u/x")
    text = 'model_checkpoint_path: "x"\nall_model_checkpoint_paths: "x"\n'
    assert Path("u/checkpoint").read_text() == text
    state = tf.train.get_checkpoint_state("u")
    assert state is not None
    assert (state.model_checkpoint_path, state.all_model_checkpoint_paths) == ("u/x", ["u/x"])
    assert str(state) == text.replace('"x"', '"u/x"')


def test_all_that_is_known_is_written() -> None:
    Path("u").mkdir()
    stamps = [1.5, 2.0]
    tf.train.update_checkpoint_state(
        "u", "u/x", ["u/w", "u/x"], all_model_checkpoint_timestamps=stamps, last_preserved_timestamp=3.25
    )
    assert Path("u/checkpoint").read_text() == (
        'model_checkpoint_path: "x"\nall_model_checkpoint_paths: "w"\nall_model_checkpoint_paths: "x"\n'
        "all_model_checkpoint_timestamps: 1.5\nall_model_checkpoint_timestamps: 2.0\nlast_preserved_timestamp: 3.25\n"
    )
    state = tf.train.get_checkpoint_state("u")
    assert state is not None
    assert (state.all_model_checkpoint_timestamps, state.last_preserved_timestamp) == (stamps, 3.25)


def test_absolute_paths_stay_and_text_is_escaped(folder: Path) -> None:
    tf.train.update_checkpoint_state(".", '/abs/x"é')
    assert Path("checkpoint").read_text() == (
        'model_checkpoint_path: "/abs/x\\"é"\nall_model_checkpoint_paths: "/abs/x\\"é"\n'
    )
    state = tf.train.get_checkpoint_state(".")
    assert state is not None
    assert state.model_checkpoint_path == '/abs/x"é'
    tf.train.update_checkpoint_state(str(folder), "x", ["w", "x"], latest_filename="other")
    state = tf.train.get_checkpoint_state(folder, "other")
    assert state is not None
    assert state.all_model_checkpoint_paths == [f"{folder}/w", f"{folder}/x"]


def test_wrong_uses_are_refused(folder: Path) -> None:
    with pytest.raises(ValueError, match="Checkpoint timestamps, if provided, must match checkpoint paths"):
        tf.train.update_checkpoint_state(".", "x", ["w"], all_model_checkpoint_timestamps=[1.5])
    with pytest.raises(RuntimeError, match="conflicts with path used for checkpoint state"):
        tf.train.update_checkpoint_state(folder, f"{folder}/checkpoint")
    with pytest.raises(NotFoundError, match="there is no directory nowhere"):
        tf.train.update_checkpoint_state("nowhere", "nowhere/x")
    assert list(folder.iterdir()) == []


def test_a_file_that_cannot_be_read_is_logged_and_ignored(caplog: pytest.LogCaptureFixture) -> None:
    assert tf.train.get_checkpoint_state("nowhere") is None
    Path("checkpoint").write_text("foo bar")
    logger = logging.getLogger("tensorflow")
    logger.addHandler(caplog.handler)
    try:
        assert tf.train.get_checkpoint_state(".") is None
        assert tf.train.latest_checkpoint(".") is None
        assert "checkpoint does not say which checkpoints there are" in caplog.text
        Path("checkpoint").write_text('model_checkpoint_path: "gone"')
        assert tf.train.latest_checkpoint(".") is None
        assert "Couldn't match files for checkpoint ./gone" in caplog.text
    finally:
        logger.removeHandler(caplog.handler)
    Path("checkpoint").write_text("")
    with pytest.raises(ValueError, match=r"Invalid checkpoint state loaded from \."):
        tf.train.get_checkpoint_state(".")


def test_checkpoints_are_found_counted_and_removed() -> None:
    write_tensorflow("d/m-1", {"a": 1.0})
    write_tensorflow("d/m-2", {"a": 2.0})
    Path("d/m-2.meta").write_text("")
    Path("d/old").write_text("of version 1")
    tf.train.update_checkpoint_state("d", "d/m-2", ["d/m-1", "d/m-2"])
    assert tf.train.latest_checkpoint("d") == "d/m-2"
    assert [tf.train.checkpoint_exists(each) for each in ("d/m-1", "d/old", "d/m-?", "d/m-3", "")] == [
        *(True, True, True, False, False)
    ]
    times = tf.train.get_checkpoint_mtimes(["d/m-1", "d/m-3", "d/old"])
    assert times == [Path("d/m-1.index").stat().st_mtime, Path("d/old").stat().st_mtime]
    tf.train.remove_checkpoint("d/m-2")
    tf.train.remove_checkpoint("d/m-3")
    tf.train.remove_checkpoint("d/old", checkpoint_format_version=1)
    assert sorted(each.name for each in Path("d").iterdir()) == ["checkpoint", "m-1.data-00000-of-00001", "m-1.index"]
    assert tf.train.latest_checkpoint("d") is None


def test_names_that_could_be_patterns_are_names(folder: Path) -> None:
    for name in ("run[1]/m", "run1/m", "run1/*", "run1/m-1"):
        write_tensorflow(name, {"a": 1.0})
    for name in ("run[1]/m", "run1/*"):
        assert tf.train.checkpoint_exists(name)
        assert tf.train.get_checkpoint_mtimes([name]) == [Path(f"{name}.index").stat().st_mtime]
    tf.train.update_checkpoint_state("run[1]", "run[1]/m")
    assert tf.train.latest_checkpoint("run[1]") == "run[1]/m"
    for _ in range(2):  # also when it is gone already
        tf.train.remove_checkpoint("run[1]/m")
        tf.train.remove_checkpoint("run1/*")
    assert [tf.train.checkpoint_exists(each) for each in ("run1/m", "run1/m-1", "run[1]/m")] == [True, True, True]
    assert not Path("run[1]/m.index").exists()
    for name in ("old-00000-of-00002", "old-00001-of-00002", "old.meta", "older.meta"):
        Path(name).write_text("")
    tf.train.remove_checkpoint("old-?????-of-00002", tf.train.SaverDef.V1)
    assert sorted(each.name for each in folder.glob("old*")) == ["older.meta"]


def test_a_directory_may_be_given_by_its_url(folder: Path) -> None:
    url = f"file://{folder}"
    write_tensorflow(f"{url}/m", {"a": 1.0})
    tf.train.update_checkpoint_state(url, f"{url}/m")
    assert Path("checkpoint").read_text().startswith('model_checkpoint_path: "m"')
    assert tf.train.latest_checkpoint(url) == f"{url}/m"
    assert tf.train.checkpoint_exists(f"{url}/m")
    assert tf.train.load_variable(url, "a") == 1.0
    tf.train.remove_checkpoint(f"{url}/m")
    assert [each.name for each in folder.iterdir()] == ["checkpoint"]


def test_a_state_is_made_as_it_would_be_written() -> None:
    state = tf.train.generate_checkpoint_state_proto("d", "d/b", ["d/a"])
    assert (state.model_checkpoint_path, state.all_model_checkpoint_paths) == ("b", ["a", "b"])
