"""``shardscope checkpoint diff|export|import``: what is printed, and exit codes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

import shardscope as ss
from ps_cluster.cli.app import app
from ps_cluster.inspection.task_table import format_size
from ps_protocol.checkpoints.folder_store import FolderStore
from tests.checkpoint_files import extracted
from tests.tensor_files import in_memory
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster, flip
from worker_client.checkpoints.new_checkpoint import write_checkpoint


@pytest.fixture
def run(tmp_path: Path) -> Path:
    arrays = {"layer/w": np.arange(6.0).reshape(2, 3), "layer/b": np.ones(3), "step": np.array(3)}
    write_checkpoint(FolderStore(tmp_path), "x", in_memory(arrays))
    return tmp_path / "x"


def shardscope(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["checkpoint", *map(str, arguments)])


def test_equal_different_and_trouble_have_their_own_codes(run: Path, tmp_path: Path) -> None:
    same = shardscope("diff", run, run)
    assert (same.exit_code, same.stdout) == (0, "0 tensors different, 3 equal\n")
    arrays: dict[str, Any] = {"layer/w": np.zeros((2, 3)), "layer/b": np.ones(3), "new": np.ones(1)}
    np.savez(tmp_path / "m.npz", **arrays)
    other = shardscope("diff", run, tmp_path / "m.npz")
    assert other.exit_code == 1
    assert other.stdout.splitlines() == [
        "values              layer/w  5 of 6 elements differ by at most 5",
        "only in the second  new      float64[1]",
        "only in the first   step     int64[]",
        "3 tensors different, 1 equal",
    ]
    some = shardscope("diff", run, tmp_path / "m.npz", "--names", "layer/*", "--names-only")
    assert (some.exit_code, some.stdout) == (0, "0 tensors different, 2 alike, their values not compared\n")
    mistyped = shardscope("diff", run, tmp_path / "m.npz", "--names", "lyer/*")
    assert (mistyped.exit_code, mistyped.stdout) == (2, "")
    assert "neither checkpoint has a name that fits lyer/*" in mistyped.stderr
    trouble = shardscope("diff", run, tmp_path / "none")
    assert trouble.exit_code == 2
    assert f"there is no checkpoint {tmp_path}/none" in trouble.stderr
    assert shardscope("diff", run).exit_code == 2


def test_a_checkpoint_goes_out_and_comes_back(run: Path, tmp_path: Path) -> None:
    target = tmp_path / "hub"
    made = shardscope("export", run, target, "--format", "pytorch", "--shard-size", "60", "--names", "m/*=layer/*")
    assert made.exit_code == 0, made.output
    assert made.stdout.splitlines() == [
        "left out step: it was not asked for",
        f"exported {target}/model.safetensors.index.json: 2 tensors, 72 B of values",
    ]
    again = shardscope("export", run, target, "--format", "pytorch")
    assert again.exit_code == 1
    assert "already exists; give another name, or overwrite=True, in a shell --overwrite" in " ".join(
        again.stderr.split()
    )
    assert shardscope("export", run, target, "--format", "pytorch", "--overwrite").exit_code == 0
    back = shardscope("import", target, tmp_path / "back", "--format", "pytorch", "--step", "4")
    assert back.exit_code == 0, back.output
    assert back.stdout == f"imported {tmp_path}/back/step-000000004: 3 tensors, 80 B of values\n"
    assert shardscope("diff", run, tmp_path / "back").exit_code == 0


def test_the_tensors_of_any_form_are_shown(run: Path, tmp_path: Path) -> None:
    ours = shardscope("show", run)
    lines = ["layer/b  float64 [3]  ps:0", "layer/w  float64 [2, 3]  ps:0", "step  int64 []  ps:0"]
    assert ours.stdout.splitlines() == [f"{run}: 3 variables, 336 B in 1 part", *lines]
    assert shardscope("export", run, tmp_path / "m", "--format", "tensorflow").exit_code == 0
    theirs = shardscope("show", tmp_path / "m")
    assert theirs.stdout.splitlines() == [
        f"{tmp_path}/m: TensorFlow, 3 tensors, 80 B of values",
        *["layer/b  float64 [3]", "layer/w  float64 [2, 3]", "step  int64 []"],
    ]
    missing = shardscope("show", tmp_path / "none")
    assert missing.exit_code == 1
    assert "there is no checkpoint" in missing.stderr


def test_all_count_variables_and_slots_as_wholes(tmp_path: Path) -> None:
    """Of a model with a variable in two parts on two ps tasks, trained by Adam."""
    with SmallCluster(2) as cluster:
        client = cluster.client()
        Model(client).train(0, 1)
        client.save(tmp_path, name="x")
        assert str(client.restore(tmp_path).counts) == "3 variables, 6 slots"
    size = format_size(entry_size(tmp_path))
    what = f"3 variables, 6 slots, {size} in 2 parts"
    heads, row = shardscope("ls", tmp_path).stdout.splitlines()
    assert heads.split() == ["name", "saved", "(UTC)", "variables", "slots", "size", "parts"]
    assert row.split()[3:] == ["3", "6", *size.split(), "2"]
    head, *rows = shardscope("show", tmp_path).stdout.splitlines()
    assert head == f"{tmp_path}/x: {what}"
    assert (
        len(rows) == 3 + 1 + 3 * 3
    )  # the variables, one of them in two parts, and m, v and step beside what is trained
    assert shardscope("verify", tmp_path).stdout.endswith(f"/x is whole: {what}\n")


def entry_size(folder: Path) -> int:
    [entry] = ss.checkpoint.list(folder)
    return entry.size_bytes


def flipped(path: Path) -> None:
    flip(path, path.stat().st_size // 2)


@pytest.mark.parametrize(
    ("form", "target", "file", "what"),
    [
        ("tensorflow", "m", "m.data-00000-of-00001", "TensorFlow, 3 tensors, 80 B of values"),
        ("tensorflow", "m", "m.index", "TensorFlow, 3 tensors, 80 B of values"),
        ("npz", "m.npz", "m.npz", "npz, 3 tensors, 80 B of values"),
    ],
)
def test_other_forms_are_verified_by_their_checksums(
    run: Path, tmp_path: Path, form: str, target: str, file: str, what: str
) -> None:
    place = tmp_path / "out" / target
    assert shardscope("export", run, place, "--format", form).exit_code == 0
    done = shardscope("verify", place)
    assert (done.exit_code, done.stdout) == (0, f"{place} is whole: {what}\n")
    flipped(place.with_name(file))
    damaged = shardscope("verify", place)
    assert (damaged.exit_code, damaged.stdout) == (1, "")
    assert str(place) in "".join(damaged.stderr.split())


def test_safetensors_are_verified_by_their_sizes_in_all_files(run: Path, tmp_path: Path) -> None:
    made = ss.checkpoint.export(run, tmp_path / "hub", format="safetensors", shard_size=60)
    done = shardscope("verify", tmp_path / "hub")
    note = "; it has no checksums, so that changed values would not be noticed"
    assert done.stdout == f"{made.path} is whole: safetensors, 3 tensors, 80 B of values{note}\n"
    last = max((tmp_path / "hub").glob("*.safetensors"))
    content = last.read_bytes()
    last.write_bytes(content[:-1])
    damaged = shardscope("verify", tmp_path / "hub")
    assert damaged.exit_code == 1
    assert "cut off or damaged" in " ".join(damaged.stderr.split())
    last.unlink()
    missing = shardscope("verify", made.path)
    assert missing.exit_code == 1
    assert f"{last.name} is missing" in " ".join(missing.stderr.split())


def test_what_only_others_can_read_is_said_to_be_unchecked(tmp_path: Path) -> None:
    done = shardscope("verify", extracted("tensor_lists", tmp_path).path)
    assert done.exit_code == 0
    assert "not checked, since only other programs can read it: list\n" in done.stdout


def test_a_checkpoint_of_another_form_cannot_be_pinned(tmp_path: Path) -> None:
    ss.checkpoint.write_tensorflow(tmp_path / "m", {"v": np.zeros(1)})
    for command in ("pin", "unpin"):
        done = shardscope(command, tmp_path / "m")
        assert done.exit_code == 1
        assert "of the form TensorFlow, and pins are for Shardscope's. Copy it" in " ".join(done.stderr.split())
        missing = shardscope(command, tmp_path / "none")
        assert missing.exit_code == 1
        assert "there is no checkpoint at" in missing.stderr


def test_what_has_no_checkpoints_is_not_an_empty_list(run: Path, tmp_path: Path) -> None:
    write_checkpoint(FolderStore(tmp_path), "a-longer-name", in_memory({"v": np.zeros(1), "w": np.zeros(1)}))
    ss.checkpoint.pin(tmp_path / "a-longer-name")
    heads, first, second = shardscope("ls", tmp_path).stdout.splitlines()
    assert heads == "name           saved (UTC)          variables  slots   size  parts"
    assert first.startswith("x              20")
    assert first.endswith("          3      0  336 B      1")
    assert second.startswith("a-longer-name  20")
    assert second.endswith("          2      0  200 B      1  pinned")
    alone = shardscope("ls", run)
    assert (alone.exit_code, alone.stdout.split()) == (0, [*heads.split(), *first.split()])
    (tmp_path / "a-longer-name" / "manifest.json").write_text("{}")
    _, first, second = shardscope("ls", tmp_path).stdout.splitlines()
    assert second.startswith("a-longer-name  cannot be used: ")
    (tmp_path / "empty").mkdir()
    for name, what in (("none", "there is no such folder"), ("empty", "it has no manifest.json")):
        found = shardscope("ls", tmp_path / name)
        assert (found.exit_code, found.stdout) == (1, "")
        assert f"there is no checkpoint at {tmp_path}/{name}: {what}" in " ".join(found.stderr.split())


def test_a_name_that_is_none_says_which_there_are(run: Path, tmp_path: Path) -> None:
    for what in ("show", "verify"):
        done = shardscope(what, tmp_path / "step-3")
        assert done.exit_code == 1
        assert f"there is no checkpoint {tmp_path}/step-3: " in " ".join(done.stderr.split())
        assert done.stderr.strip().endswith(f"{tmp_path} has {run.name}")


def test_an_npz_file_is_no_folder(run: Path, tmp_path: Path) -> None:
    done = shardscope("export", run, f"{tmp_path}/out/", "--format", "npz")
    assert done.exit_code == 1
    assert f"{tmp_path}/out is a folder; give the file in it" in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()


def test_cleaning_says_what_it_found(run: Path, tmp_path: Path) -> None:
    done = shardscope("clean", tmp_path)
    assert (done.exit_code, done.stdout) == (0, f"nothing in {tmp_path} was left behind more than 86400 s ago\n")
    missing = shardscope("clean", tmp_path / "none")
    assert (missing.exit_code, missing.stderr) == (1, f"shardscope: there is no folder {tmp_path}/none\n")


def test_the_list_of_commands_has_whole_sentences() -> None:
    for group in (["checkpoint"], []):
        done = CliRunner().invoke(app, [*group, "--help"], terminal_width=80)
        assert done.exit_code == 0
        assert "..." not in done.stdout.partition("Commands:")[2]


def test_slots_are_left_out_in_few_words(tmp_path: Path) -> None:
    arrays = {f"v{number}{slot}": np.zeros(1) for number in range(4) for slot in ("", "/Adam/m", "/Adam/v")}
    ss.checkpoint.write_tensorflow(tmp_path / "m", arrays)
    done = shardscope("import", tmp_path / "m", tmp_path / "run", "--name", "x")
    assert done.stdout.splitlines()[0].startswith(
        "left out v0/Adam/m, v0/Adam/v, v1/Adam/m, v1/Adam/v, v2/Adam/m and 3"
    )


def test_slots_of_tensorflow_are_said_to_be_variables(tmp_path: Path) -> None:
    ss.checkpoint.write_tensorflow(tmp_path / "m", {"w": np.zeros(1), "w/Adam": np.zeros(1), "w/Adam_1": np.zeros(1)})
    done = shardscope("import", tmp_path / "m", tmp_path / "run", "--name", "x")
    assert done.stdout.splitlines()[0] == (
        "as variables w/Adam, w/Adam_1: slots of TensorFlow 1's optimizers, which go on with them; those of ss.train "
        "begin anew"
    )


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["--format", "h5"], 2, "is not one of"),
        ([], 2, "Missing option"),
        (["--format", "npz", "--names", "a"], 2, "should be as NEW=OLD"),
        (["--format", "npz", "--names", "a=b"], 1, "has no variable 'b' for 'a'"),
        (["--format", "safetensors", "--shard-size", "many"], 1, "'many' is no size of files"),
    ],
)
def test_wrong_options_are_refused(run: Path, tmp_path: Path, arguments: list[str], code: int, message: str) -> None:
    done = shardscope("export", run, tmp_path / "out", *arguments)
    assert done.exit_code == code
    assert message in " ".join(done.stderr.split())
    assert not (tmp_path / "out").exists()
