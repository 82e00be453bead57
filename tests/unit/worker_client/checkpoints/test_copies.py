"""Checkpoints are written in other forms, and made from them: whole or not at all, under other names, in pieces."""

from __future__ import annotations

import errno
from dataclasses import replace
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from safetensors.numpy import load_file

import shardscope as ss
import worker_client
import worker_client.compat.v1 as tf
from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import MANIFEST_FILE
from ps_protocol.errors import (
    AlreadyExistsError,
    DataLossError,
    DTypeMismatchError,
    FailedPreconditionError,
    InvalidArgumentError,
    InvalidValueError,
    NotFoundError,
    ResourceExhaustedError,
    UnimplementedError,
)
from ps_protocol.files.synced_files import SyncedWriter
from ps_protocol.operations import PartitionSlice
from ps_protocol.tensor_files import stored_tensor
from ps_protocol.tensorflow_files.state_file import write_state
from tests.checkpoint_files import extracted
from tests.tensor_files import in_memory
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, assert_equal, flip
from tests.unit.worker_client.checkpoints.test_contents import changed
from worker_client.checkpoints import copies
from worker_client.checkpoints.new_checkpoint import write_checkpoint

FORMS = {"tensorflow": "out/model.ckpt-3", "safetensors": "out/m.safetensors", "pytorch": "out", "npz": "out/m.npz"}
VARIABLES = {"layer/whole", "layer/divided", "steps"}


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A folder with a checkpoint of a trained model."""
    with SmallCluster(2) as cluster:
        client = cluster.client()
        Model(client, parts=3).train(0, 3)
        client.save(tmp_path / "run", step=3)
    return tmp_path / "run"


def written(tmp_path: Path, **arrays: Any) -> Path:
    write_checkpoint(FolderStore(tmp_path), "x", in_memory(arrays))
    return tmp_path / "x"


def spelled(form: str, name: str) -> str:
    return name.replace("/", ".") if form == "pytorch" else name


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("slots", [None, True, False])
def test_what_is_exported_is_what_was_saved(run: Path, tmp_path: Path, form: str, slots: bool | None) -> None:
    shown: list[tuple[int, int]] = []
    made = ss.checkpoint.export(
        run, tmp_path / FORMS[form], format=form, slots=slots, show_progress=lambda *sizes: shown.append(sizes)
    )
    with_slots = form == "tensorflow" if slots is None else slots
    found = ss.checkpoint.diff(run, made)
    with ss.checkpoint.open(made) as checkpoint:
        assert set(made.names) == set(checkpoint) >= {spelled(form, name) for name in VARIABLES}
    if form != "pytorch":
        assert {each.name for each in found.tensors} == set(made.left_out)
    assert set(made.left_out.values()) == (set() if with_slots else {copies._SLOT})
    for name in ("layer/divided/Adam/m", "layer/whole/Adam/step", "layer/divided/part_2/Adam/step"):
        assert (spelled(form, name) in made.names) == with_slots
    assert shown[-1] == (made.size_bytes, made.size_bytes)
    assert made.form == form


def test_names_are_chosen_and_changed_and_slots_go_with_their_variables(run: Path, tmp_path: Path) -> None:
    made = ss.checkpoint.export(
        run, tmp_path / "m.ckpt", format="tensorflow", names={"model/*": "layer/*", "model/whole": "steps"}
    )
    with ss.checkpoint.open(run) as before, ss.checkpoint.open(made) as after:
        assert set(after) == {
            *("model/whole", "model/whole/Adam/m", "model/whole/Adam/v", "model/whole/Adam/step", "model/divided"),
            *("model/divided/Adam/m", "model/divided/Adam/v"),
            *[f"model/divided/part_{part}/Adam/step" for part in range(3)],
        }
        for name in after:
            np.testing.assert_array_equal(after[name].read(), before[name.replace("model", "layer", 1)].read())
    assert made.left_out == {"steps": "it was not asked for"}
    with pytest.raises(InvalidArgumentError, match=r"no variable 'encoder/\*' for 'a/\*'; it has layer/divided"):
        ss.checkpoint.export(run, tmp_path / "n.ckpt", format="tensorflow", names={"a/*": "encoder/*"})
    assert not list(tmp_path.glob("n.ckpt*"))


def test_a_state_dict_goes_to_several_files(run: Path, tmp_path: Path) -> None:
    made = ss.checkpoint.export(run, tmp_path / "hub", format="pytorch", shard_size="0.8kB")
    assert made.path == f"{tmp_path}/hub/model.safetensors.index.json"
    files = sorted((tmp_path / "hub").glob("*.safetensors"))
    assert [file.name for file in files] == ["model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"]
    tensors = {name: value for file in files for name, value in load_file(file).items()}
    assert set(tensors) == {"layer.whole", "layer.divided", "steps"}
    assert tensors["layer.divided"].shape == (23, 3)


@pytest.mark.parametrize(("size", "size_bytes"), [("5GB", 5 * 10**9), ("2MiB", 2**21), (77, 77), ("1.5 kb", 1500)])
def test_sizes_are_read(size: Any, size_bytes: int) -> None:
    assert copies._size_bytes(size) == size_bytes


@pytest.mark.parametrize("size", ["", "five", "-1", 0, "5 XB", "0.1"])
def test_what_is_no_size_is_refused(run: Path, tmp_path: Path, size: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="is no size of files; give bytes, or as in 5GB"):
        ss.checkpoint.export(run, tmp_path / "out", format="pytorch", shard_size=size)


def test_the_prefix_of_tensorflow_files_is_no_folder(run: Path, tmp_path: Path) -> None:
    (tmp_path / "models").mkdir()
    with pytest.raises(
        InvalidArgumentError, match=r"/models is a folder; give the prefix .*, as .*/models/model\.ckpt$"
    ):
        ss.checkpoint.export(run, tmp_path / "models", format="tensorflow")
    with pytest.raises(InvalidArgumentError, match=r"/new is a folder; give the prefix .*, as .*/new/model\.ckpt$"):
        ss.checkpoint.export(run, f"{tmp_path}/new/", format="tensorflow")
    assert not [*tmp_path.glob("models.*"), *tmp_path.glob("new*")]


def test_what_is_exported_for_tensorflow_is_the_newest_of_its_folder(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    for number in (1, 2, 1):
        ss.checkpoint.export(run, folder / f"m-{number}", format="tensorflow", overwrite=True)
        assert tf.train.latest_checkpoint(str(folder)) == str(folder / f"m-{number}")
    folder.rename(tmp_path / "moved")
    state = tf.train.get_checkpoint_state(str(tmp_path / "moved"))
    assert state is not None
    assert state.all_model_checkpoint_paths == [f"{tmp_path}/moved/m-2", f"{tmp_path}/moved/m-1"]
    state.all_model_checkpoint_timestamps = [1.0, 2.0]
    state.last_preserved_timestamp = 1.0
    write_state(tmp_path / "moved", state)
    ss.checkpoint.export(run, tmp_path / "moved" / "m-3", format="tensorflow")
    state = tf.train.get_checkpoint_state(str(tmp_path / "moved"))
    assert state is not None
    assert [Path(each).name for each in state.all_model_checkpoint_paths] == ["m-2", "m-1", "m-3"]
    assert state.all_model_checkpoint_timestamps[:2] == [1.0, 2.0]
    assert len(state.all_model_checkpoint_timestamps) == 3
    assert state.last_preserved_timestamp == 1.0


def test_a_folder_of_checkpoints_stays_that_with_an_exported_one_in_it(run: Path, tmp_path: Path) -> None:
    ss.checkpoint.import_from(ss.checkpoint.export(run, tmp_path / "a.npz", format="npz"), tmp_path / "run", step=1)
    ss.checkpoint.export(run, tmp_path / "run" / "m", format="tensorflow")
    with ss.checkpoint.open(tmp_path / "run") as checkpoint:
        assert checkpoint.form == "Shardscope"


def test_an_export_is_refused_where_its_folder_could_not_name_it(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match="called as the file that says which checkpoint"):
        ss.checkpoint.export(run, tmp_path / "out" / "checkpoint", format="tensorflow")
    (tmp_path / "checkpoint").write_text("something else")
    with pytest.raises(DataLossError, match="checkpoint does not say which checkpoints there are"):
        ss.checkpoint.export(run, tmp_path / "m", format="tensorflow")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["checkpoint", "run"]


def test_wrong_arguments_are_refused(run: Path, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgumentError, match=r"'h5' is no form .* tensorflow, safetensors, pytorch, npz"):
        ss.checkpoint.export(run, tmp_path / "out", format="h5")
    with pytest.raises(InvalidArgumentError, match="shard_size is for safetensors and pytorch; npz is written without"):
        ss.checkpoint.export(run, tmp_path / "out", format="npz", shard_size=5)
    with pytest.raises(NotFoundError, match=f"no checkpoint {tmp_path}/none"):
        ss.checkpoint.export(tmp_path / "none", tmp_path / "out", format="npz")
    with pytest.raises(InvalidArgumentError, match="exported to a path here; s3://bucket/m is a URL"):
        ss.checkpoint.export(run, "s3://bucket/m", format="npz")
    one = written(tmp_path, **{"a/b": np.zeros(1), "a.b": np.zeros(1)})
    with pytest.raises(InvalidValueError, match=r"'a\.b' and 'a/b' would both be called 'a\.b'; say in names="):
        ss.checkpoint.export(one, tmp_path / "out", format="pytorch")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("form", FORMS)
def test_what_is_there_is_replaced_only_if_that_is_said(run: Path, tmp_path: Path, form: str) -> None:
    target = tmp_path / FORMS[form]
    other = written(tmp_path, steps=np.array(5))
    made = ss.checkpoint.export(other, target, format=form)
    with pytest.raises(AlreadyExistsError, match="already exists; give another name, or overwrite=True"):
        ss.checkpoint.export(run, target, format=form)
    assert ss.checkpoint.open(made)["steps"].read() == 5
    ss.checkpoint.export(run, target, format=form, overwrite=True)
    assert ss.checkpoint.open(made)["steps"].read() == 3


@pytest.mark.parametrize("form", FORMS)
def test_damage_is_named_and_leaves_nothing(run: Path, tmp_path: Path, form: str) -> None:
    part = run / "step-000000003" / "part-00001-of-00002.safetensors"
    flip(part, part.stat().st_size - 1)
    with pytest.raises(DataLossError, match=str(part)):
        ss.checkpoint.export(run, tmp_path / FORMS[form], format=form, slots=True)
    assert list((tmp_path / "out").rglob("*")) == []


def test_what_has_no_value_is_left_out_and_what_is_not_whole_is_an_error(tmp_path: Path) -> None:
    folder = written(tmp_path, a=np.zeros(3), b=np.ones(2), c=np.ones(2))
    changed(folder, lambda each: replace(each, initialized=False, checksums=()) if each.spec.name == "a" else each)
    made = ss.checkpoint.export(folder, tmp_path / "one.npz", format="npz")
    assert (made.names, made.left_out) == (("b", "c"), {"a": "it had no value when it was saved"})
    place = PartitionSlice("b", (4,), (2,))
    changed(folder, lambda each: replace(each, spec=replace(each.spec, slice=place)) if each.spec.name == "b" else each)
    with pytest.raises(FailedPreconditionError, match=r"'b' has the shape \[4\], and of its parts only these"):
        ss.checkpoint.export(folder, tmp_path / "two.npz", format="npz")
    ss.checkpoint.export(folder, tmp_path / "two.npz", format="npz", names={"c": "c"})


def test_a_dtype_that_a_form_does_not_have_is_named(tmp_path: Path) -> None:
    folder = written(tmp_path, wide=np.zeros(2, np.longdouble), text=[b"a"], narrow=np.ones(2, ml_dtypes.bfloat16))
    with pytest.raises(DTypeMismatchError, match=r"cannot hold .*, the dtype of 'text'|'wide'"):
        ss.checkpoint.export(folder, tmp_path / "m.safetensors", format="safetensors")
    with pytest.raises(DTypeMismatchError, match=r"TensorFlow's files cannot hold .*'wide'"):
        ss.checkpoint.export(folder, tmp_path / "m", format="tensorflow")
    ss.checkpoint.export(folder, tmp_path / "m.npz", format="npz")
    with np.load(tmp_path / "m.npz", allow_pickle=False) as found:
        assert {name: found[name].dtype.str[1:] for name in found} == {"wide": "f16", "text": "S1", "narrow": "f4"}


@pytest.mark.parametrize("form", FORMS)
def test_values_go_through_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str) -> None:
    monkeypatch.setattr(stored_tensor, "_PIECE_BYTES", 800)
    value = np.arange(40_000, dtype=np.float64).reshape(4_000, 10)
    folder = written(tmp_path, v=value, odd=np.arange(7, dtype=np.uint8))
    largest: list[int] = []
    plain = stored_tensor._fresh_array

    def counted(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Any:
        made = plain(shape, dtype)
        largest.append(made.nbytes)
        return made

    monkeypatch.setattr(stored_tensor, "_fresh_array", counted)
    made = ss.checkpoint.export(folder, tmp_path / FORMS[form], format=form)
    assert max(largest) == 800
    largest.clear()
    ss.checkpoint.import_from(made, tmp_path / "back", name="y")
    assert max(largest) == 800
    assert ss.checkpoint.diff(folder, tmp_path / "back" / "y").is_equal


# -- importing -----------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("num_ps", [1, 3])
def test_what_is_imported_is_restored_on_any_number_of_tasks(run: Path, tmp_path: Path, form: str, num_ps: int) -> None:
    exported = ss.checkpoint.export(run, tmp_path / FORMS[form], format=form, slots=True)
    of_source = "pytorch" if form == "pytorch" else None
    made = ss.checkpoint.import_from(exported, tmp_path / "imported", step=7, format=of_source)
    assert made.path == f"{tmp_path}/imported/step-000000007"
    assert set(made.names) == VARIABLES
    assert "layer/divided/Adam/m" in made.left_out
    assert "layer/divided/part_2/Adam/step" in made.left_out
    assert "optimizer" in made.left_out["layer/whole/Adam/step"]
    (entry,) = ss.checkpoint.list(tmp_path / "imported")
    assert (entry.step, entry.num_variables, entry.problem) == (7, 3, "")
    assert ss.checkpoint.verify(made) == entry
    with ss.checkpoint.open(run) as checkpoint:
        expected = [checkpoint[name].read() for name in ("layer/whole", "layer/divided", "steps")]
    for parts in (1, 2):
        with SmallCluster(num_ps) as cluster:
            client = cluster.client()
            model = Model(client, parts=parts)
            assert client.restore(tmp_path / "imported").step == 7
            assert_equal(model.values(), expected)
            model.train(3, 1)
    with SmallCluster(num_ps) as cluster:  # that has nothing yet
        client = cluster.client()
        client.restore(tmp_path / "imported")
        assert_equal(Model(client, parts=1).values(), expected)


def test_names_are_changed_on_the_way(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"model.encoder.w": np.arange(3.0), "model.encoder.b": np.ones(1), "head": np.ones(2)}
    np.savez(tmp_path / "m.npz", **arrays)
    names = {"encoder/*": "model.encoder.*"}
    made = ss.checkpoint.import_from(tmp_path / "m.npz", tmp_path / "run", name="x", names=names)
    assert set(made.names) == set(ss.checkpoint.open(tmp_path / "run")) == {"encoder/w", "encoder/b"}
    assert made.left_out == {"head": "it was not asked for"}
    made = ss.checkpoint.import_from(tmp_path / "m.npz", tmp_path / "run", name="y", format="npz")
    assert "model.encoder.w" in made.names
    with pytest.raises(InvalidArgumentError, match=r"no variable 'decoder\.\*' for 'd/\*'; it has head, model"):
        ss.checkpoint.import_from(tmp_path / "m.npz", tmp_path / "run", name="z", names={"d/*": "decoder.*"})


def test_names_of_a_state_dict_that_would_be_the_same_are_refused(tmp_path: Path) -> None:
    arrays: dict[str, Any] = {"a.b": np.zeros(1), "a/b": np.ones(1)}
    ss.checkpoint.export(written(tmp_path, **arrays), tmp_path / "m.safetensors", format="safetensors")
    with pytest.raises(InvalidValueError, match=r"'a\.b' and 'a/b' would both be called 'a/b'; say in names="):
        ss.checkpoint.import_from(tmp_path / "m.safetensors", tmp_path / "run", name="y", format="pytorch")
    names = {"first": "a.b", "second": "a/b"}
    made = ss.checkpoint.import_from(
        tmp_path / "m.safetensors", tmp_path / "run", name="y", format="pytorch", names=names
    )
    assert made.names == ("first", "second")


def test_text_comes_back(tmp_path: Path) -> None:
    words = np.array([[b"one", b"three\0"], [b"", b"\1"]], object)
    ss.checkpoint.write_tensorflow(tmp_path / "m", {"words": words, "short": np.array([b"a"], object)})
    ss.checkpoint.import_from(tmp_path / "m", tmp_path / "run", name="x")
    with ss.checkpoint.open(tmp_path / "run") as checkpoint:
        assert checkpoint["words"].read().tolist() == words.tolist()
        assert checkpoint["words"][1:].tolist() == words[1:].tolist()
    with SmallCluster(2) as cluster:
        client = cluster.client()
        client.restore(tmp_path / "run")
        client.save(tmp_path / "run", name="y")
    ss.checkpoint.export(tmp_path / "run" / "y", tmp_path / "n", format="tensorflow")
    assert ss.checkpoint.open(tmp_path / "n")["words"].read().tolist() == words.tolist()


def test_objects_of_tensorflow_are_imported_by_their_full_names(tmp_path: Path) -> None:
    recorded = extracted("objects", tmp_path)
    made = ss.checkpoint.import_from(recorded.folder, tmp_path / "run", name="x", names={"*": "first/*"})
    assert set(made.names) == {"kernel", "bias"}
    with ss.checkpoint.open(tmp_path / "run") as ours, ss.checkpoint.open(recorded.path) as theirs:
        np.testing.assert_array_equal(ours["kernel"].read(), theirs["first/kernel"].read())


def test_parts_of_tensorflow_are_put_together(tmp_path: Path) -> None:
    recorded = extracted("adam", tmp_path)
    made = ss.checkpoint.import_from(recorded.path, tmp_path / "run", name="x")
    assert ss.checkpoint.diff(recorded.path, made).is_equal
    with SmallCluster(2) as cluster:
        client = cluster.client()
        with client.as_default():
            partitioner = worker_client.fixed_size_partitioner(4)
            rows = worker_client.get_variable("embedding/rows", [10, 4], partitioner=partitioner)
        client.restore(made, partial=True)
        np.testing.assert_array_equal(rows.read_value(), ss.checkpoint.open(made)["embedding/rows"].read())


def test_what_cannot_be_imported_is_refused_by_name_and_leaves_nothing(run: Path, tmp_path: Path) -> None:
    folder = tmp_path / "imported"
    with pytest.raises(InvalidArgumentError, match=f"{run} is a checkpoint of Shardscope's already: restore it"):
        ss.checkpoint.import_from(run, folder)
    names: dict[str, Any] = {"a b": np.zeros(1)}
    np.savez(tmp_path / "names.npz", **names)
    with pytest.raises(InvalidArgumentError, match=r"'a b' is not a valid name of a variable.* say in names="):
        ss.checkpoint.import_from(tmp_path / "names.npz", folder)
    with pytest.raises(InvalidArgumentError, match="step is -1; it cannot be less than 0"):
        ss.checkpoint.import_from(tmp_path / "names.npz", folder, step=-1)
    with pytest.raises(InvalidArgumentError, match="cannot be the name of a checkpoint"):
        ss.checkpoint.import_from(tmp_path / "names.npz", folder, name="../x")
    with pytest.raises(InvalidArgumentError, match="'h5' is no form"):
        ss.checkpoint.import_from(tmp_path / "names.npz", folder, format="h5")
    with pytest.raises(UnimplementedError, match="'list' are of variant"):
        ss.checkpoint.import_from(extracted("tensor_lists", tmp_path).path, folder)
    assert not folder.exists()


def test_a_checkpoint_of_the_name_is_not_replaced(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", v=np.zeros(1))
    ss.checkpoint.import_from(tmp_path / "m.npz", tmp_path / "run", step=1)
    with pytest.raises(AlreadyExistsError, match="there is a checkpoint step-000000001 in"):
        ss.checkpoint.import_from(tmp_path / "m.npz", tmp_path / "run", step=1)
    assert len(ss.checkpoint.list(tmp_path / "run")) == 1


@pytest.mark.parametrize("fault", ["full disk", "damage"])
def test_an_import_that_fails_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    ss.checkpoint.write_tensorflow(tmp_path / "m", {"v": np.arange(100.0), "w": np.arange(3)})
    writes: list[int] = []
    if fault == "damage":
        flip(tmp_path / "m.data-00000-of-00001", 700)
    else:

        def write(self: SyncedWriter, data: Any, crc: int = 0) -> int:
            writes.append(len(data))
            raise OSError(errno.ENOSPC, "No space left on device")

        monkeypatch.setattr(SyncedWriter, "write", write)
    kind, message = {
        "damage": (DataLossError, "m.data-00000-of-00001 is damaged"),
        "full disk": (ResourceExhaustedError, "this process cannot use the folder .* No space left on device"),
    }[fault]
    with pytest.raises(kind, match=message):
        ss.checkpoint.import_from(tmp_path / "m", tmp_path / "run", step=1)
    assert bool(writes) == (fault == "full disk")
    assert list((tmp_path / "run").iterdir()) == []


def test_a_dtype_that_no_variable_has_is_named(tmp_path: Path) -> None:
    np.savez(tmp_path / "m.npz", v=np.zeros(1), times=np.zeros(1, "M8[s]"))
    with pytest.raises(UnimplementedError, match=r"'times' in .* datetime64"):
        ss.checkpoint.import_from(tmp_path / "m.npz", tmp_path / "run", step=1)
    ss.checkpoint.import_from(tmp_path / "m.npz", tmp_path / "run", step=1, names={"v": "v"})
    assert (tmp_path / "run" / "step-000000001" / MANIFEST_FILE).is_file()
