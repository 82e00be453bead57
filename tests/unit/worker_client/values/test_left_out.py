"""A name of TensorFlow's that is left out says why and what to use instead, from the table that the page repeats."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import worker_client.compat.v1 as tf
from worker_client.values import left_out

ROOT = Path(__file__).parents[4]
PAGE = (ROOT / "docs" / "tf1-names.md").read_text(encoding="utf-8")
CLASSES = ("Graph", "Operation", "Saver", "Session", "Tensor", "Variable")
PLAIN = [name for name, _ in left_out.rows() if "*" not in name and name.split(".")[0] not in CLASSES]
MEMBERS = [name for name, _ in left_out.rows() if name.split(".")[0] in CLASSES]


def asked(path: str) -> Any:
    found: Any = tf
    for part in path.split("."):
        found = getattr(found, part)
    return found


@pytest.mark.parametrize("path", PLAIN)
def test_a_name_says_why_it_is_left_out(path: str) -> None:
    with pytest.raises(AttributeError, match=re.escape(f"tf.{path} is left out of Shardscope: ")) as caught:
        asked(path)
    assert (left_out.reason_for(path) or "").replace("`", "") in str(caught.value)


@pytest.mark.parametrize("path", MEMBERS)
def test_a_member_says_why_it_is_left_out(path: str) -> None:
    owner, _, member = path.partition(".")
    graph = tf.Graph()
    with graph.as_default():
        variable = tf.Variable([1.0])
        owners = {
            "Graph": graph,
            "Operation": variable.op,
            "Saver": tf.train.Saver(),
            "Session": tf.Session(),
            "Tensor": variable + 1.0,
            "Variable": variable,
        }
    with pytest.raises(AttributeError, match=re.escape(f"{path} is left out of Shardscope: ")) as caught:
        getattr(owners[owner], member)
    assert (left_out.reason_for(path) or "").replace("`", "") in str(caught.value)


def test_the_type_of_variables_says_it_too() -> None:
    with pytest.raises(AttributeError, match="from_proto is left out of Shardscope"):
        asked("Variable.from_proto")


@pytest.mark.parametrize("member", ["frobnicate", "_private", "__wrapped__"])
def test_a_member_that_is_none_of_tensorflows_is_only_missing(member: str) -> None:
    with pytest.raises(AttributeError, match=f"'Graph' object has no attribute '{member}'"):
        getattr(tf.Graph(), member)


@pytest.mark.parametrize(
    ("path", "suggestion"),
    [
        ("get_varible", "get_variable"),
        ("train.AdamOptimiser", "AdamOptimizer"),
        ("nn.dropot", "dropout"),
        ("cond", None),
        ("train.export_meta_graph", None),
    ],
)
def test_a_slip_is_told_the_nearest_name_and_what_is_left_out_none(path: str, suggestion: str | None) -> None:
    program = f"import worker_client.compat.v1 as tf; tf.{path}"
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=False, cwd=ROOT
    )
    told = ended.stderr.splitlines()[-1]
    assert told.startswith("AttributeError: tf")
    assert told.partition(" Did you mean: ")[2] == (f"'{suggestion}'?" if suggestion else "")


@pytest.mark.parametrize(
    ("path", "remedy"),
    [
        ("train.sdca_optimizer", "AdamOptimizer"),
        ("train.ProfilerHook", "cProfile"),
        ("train.CheckpointManager", "tf.train.Saver"),
        ("summary.audio", "add_summary"),
        ("nn.conv3d_transpose", "get_variable"),
        ("nn.static_bidirectional_rnn", "get_variable"),
        ("TFRecordReader", "feed"),
        ("sparse_reduce_sum", "scatter_nd"),
        ("contrib.rnn", "regularizers"),
        ("contrib.layers.fully_connected", "regularizers"),
        ("linalg.svd", "numpy.linalg"),
        ("mul", "multiply"),
        ("batch_matmul", "matmul"),
        ("layers.conv3d", "get_variable"),
        ("data.Dataset", "placeholders"),
        ("contrib.layers.xavier_initializer", "glorot_uniform_initializer"),
        ("contrib.slim", "layers"),
    ],
)
def test_names_of_one_kind_and_names_in_what_is_left_out(path: str, remedy: str) -> None:
    with pytest.raises(AttributeError, match=remedy):
        asked(path)


@pytest.mark.parametrize("path", ["frobnicate", "train.frobnicate", "nn.frobnicate", "__wrapped__"])
def test_a_name_that_is_none_of_tensorflows_is_only_missing(path: str) -> None:
    with pytest.raises(AttributeError, match="has no attribute"):
        asked(path)
    assert not hasattr(tf, "frobnicate")


def test_what_replaces_a_name_is_there() -> None:
    for name in left_out.RENAMED.values():
        assert asked(name) is not None


def test_nothing_is_both_there_and_left_out() -> None:
    there = set(tf.__all__)
    assert not there & {name for name, _ in left_out.rows()}
    assert not there & set(left_out.RENAMED)


def test_reasons_name_something_to_do_instead() -> None:
    for name, reason in left_out.rows():
        assert len(reason) > 20, name


def test_the_page_has_every_reason_with_its_names() -> None:
    section = PAGE.partition("## Left out")[2]
    rows = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", section, re.MULTILINE))
    expected: dict[str, list[str]] = {}
    for name, reason in left_out.rows():
        expected.setdefault(reason, []).append(f"`{name}`")
    assert rows.pop("why, and what to use instead") == "names"
    assert {reason: names.split(", ") for reason, names in rows.items() if "---" not in reason} == expected
