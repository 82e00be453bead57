"""Summaries are the bytes that TensorFlow 2.21 makes, and event files hold them as TensorBoard reads them."""

from __future__ import annotations

import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import worker_client.compat.v1 as tf


@pytest.fixture(autouse=True)
def graph() -> Iterator[tf.Graph]:
    with tf.Graph().as_default() as graph:
        yield graph


def run(fetched: Any) -> Any:
    with tf.Session() as session:
        return session.run(fetched)


def values(summary: Any) -> list[Any]:
    return list(tf.Summary.FromString(run(summary)).value)


def test_names_and_tags_are_tensorflows() -> None:
    with tf.name_scope("sc"):
        made = [
            tf.summary.scalar("x y", 1.0),
            tf.summary.scalar("loss", 1.0),
            tf.summary.scalar("/loss", 2),
            tf.summary.scalar("l", 2.0, family="f"),
            tf.summary.histogram(None, [1.0]),
        ]
    names = ["sc/x_y", "sc/loss", "sc/loss_1", "sc/f/l", "sc/HistogramSummary"]
    assert [each.op.name for each in made] == names
    assert [values(each)[0].tag for each in made] == [*names[:3], "f/sc/f/l", names[4]]
    assert [each.name for each in made[1].op.inputs] == ["sc/loss/tags:0", "sc/loss/values:0"]
    assert (made[0].dtype, made[0].shape, made[0].op.type) == (tf.string, (), "ScalarSummary")
    assert tf.get_collection(tf.GraphKeys.SUMMARIES) == made
    merged = [tf.summary.merge_all(), tf.summary.merge_all(name="all of it"), tf.summary.merge_all(scope="sc/loss")]
    assert [each.op.name for each in merged] == [
        "Merge/MergeSummary",
        "all_of_it/all_of_it",
        "Merge_1/MergeSummary",
    ]
    assert [value.tag for value in values(merged[2])] == ["sc/loss", "sc/loss_1"]


def test_there_may_be_nothing_to_merge() -> None:
    assert tf.summary.merge_all() is None
    kept = tf.summary.scalar("kept", 1.0, collections=["mine"])
    assert tf.summary.merge_all() is None
    assert tf.get_collection("mine") == [kept]
    assert tf.summary.merge([kept], collections=["mine"]) in tf.get_collection("mine")
    with pytest.raises(ValueError, match=r"needs one summary at least; tf\.summary\.merge_all\(\)"):
        tf.summary.merge([])


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (1.0, b"\n\x08\n\x01x\x15\x00\x00\x80?"),
        (0.0, b"\n\x08\n\x01x\x15\x00\x00\x00\x00"),
        (np.int64(2**40), b"\n\x08\n\x01x\x15\x00\x00\x80S"),
    ],
    ids=["one", "zero", "large"],
)
def test_a_scalar_has_tensorflows_bytes(value: Any, expected: bytes) -> None:
    assert run(tf.summary.scalar("x", value)) == expected


def test_a_histogram_has_tensorflows_bytes() -> None:
    assert run(tf.summary.histogram("h", [0.25, -3.0])) == (
        b"\n\x87\x01\n\x01h*\x81\x01\t\x00\x00\x00\x00\x00\x00\x08\xc0\x11\x00\x00\x00\x00\x00\x00\xd0?\x19\x00\x00"
        b"\x00\x00\x00\x00\x00@!\x00\x00\x00\x00\x00\x00\x06\xc0)\x00\x00\x00\x00\x00"
        b' "@2(\r\x9c\xc5\xa0)U\t\xc0h\xbc\x105\x9a\x07\x07\xc0\xedZ\xd3_\xc5\xea\xce?\x9c\x0b\x81\xc1\x1f\x01\xd1?\xff'
        b"\xff\xff\xff\xff\xff\xef\x7f:(\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00"
        b"\x00\x00\x00\x00\x00\x00\x00\x00\x00\x00\xf0?\x00\x00\x00\x00\x00\x00\x00\x00"
    )


def test_a_histogram_of_extremes_and_of_nothing() -> None:
    (value,) = values(tf.summary.histogram("h", [1.0, -2.5, 0, 0, 1e-14, 1e30]))
    assert list(value.histo.bucket) == [0, 1, 0, 3, 0, 1, 0, 1]
    assert list(value.histo.bucket_limit)[2:4] == [0, 1e-12]
    (value,) = values(tf.summary.histogram("h", tf.zeros([0])))
    largest = sys.float_info.max
    assert (value.histo.min, value.histo.max, value.histo.num) == (largest, -largest, 0)
    assert (list(value.histo.bucket_limit), list(value.histo.bucket)) == ([largest], [0])


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: tf.summary.scalar("s", tf.placeholder_with_default([1.0, 2.0], None)), r"not the same shape.*tag 's'"),
        (lambda: tf.summary.histogram("h", [1.0, float("nan")]), "Nan in summary histogram for: h"),
        (lambda: tf.summary.histogram("h", [1.0, float("-inf")]), "Infinity in Histogram for: h"),
        (lambda: tf.summary.image("i", tf.zeros([1, 2, 2, 2])), r"Tensor must be 4-D with last dim 1, 3, or 4"),
        (lambda: tf.summary.merge([tf.summary.scalar("a", 1.0)] * 2), "Duplicate tag a found in summary inputs"),
    ],
    ids=["vector", "nan", "infinity", "image", "twice"],
)
def test_values_that_are_refused_when_they_are_run(make: Any, message: str) -> None:
    with pytest.raises(tf.errors.InvalidArgumentError, match=message):
        run(make())


def test_what_is_no_number_or_no_text_is_refused_at_once() -> None:
    for wrong in ("text", True):
        with pytest.raises(TypeError, match="Value passed to parameter 'values' has DataType"):
            tf.summary.scalar("s", wrong)
    with pytest.raises(ValueError, match="to have dtype string"):
        tf.summary.text("t", tf.constant(3))


def test_text_has_tensorflows_bytes() -> None:
    expected = b"\n\x1a\n\x03txtB\t\x08\x07\x12\x00B\x03# aJ\x08\n\x06\n\x04text"
    assert run(tf.summary.text("txt", tf.constant("# a"))) == expected
    (value,) = values(tf.summary.text("several", tf.constant(["a", "b"])))
    assert list(value.tensor.string_val) == [b"a", b"b"]
    assert value.metadata.plugin_data.plugin_name == "text"


def pixels(png: bytes) -> Any:
    assert png[:8] == b"\x89PNG\r\n\x1a\n"
    width, height, depth, color = struct.unpack(">IIBB", png[16:26])
    channels = {0: 1, 2: 3, 6: 4}[color]
    size = struct.unpack(">I", png[33:37])[0]
    assert (depth, png[37:41]) == (8, b"IDAT")
    rows = np.frombuffer(zlib.decompress(png[41 : 41 + size]), np.uint8).reshape(height, 1 + width * channels)
    assert not rows[:, 0].any()  # no filter
    return rows[:, 1:].tolist()


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        (np.arange(4, dtype="f").reshape(1, 2, 2, 1), [[0, 85], [170, 255]]),
        (np.array([-5, 0, 5, 6], "f").reshape(1, 2, 2, 1), [[22, 128], [233, 255]]),
        (np.arange(8, dtype=np.uint8).reshape(1, 1, 2, 4), [[0, 1, 2, 3, 4, 5, 6, 7]]),
        (np.zeros((1, 1, 2, 1), "f"), [[0, 0]]),
        (np.array([1, np.nan, 2, np.inf], "f").reshape(1, 2, 2, 1), [[127, 255], [255, 255]]),
    ],
    ids=["positive", "signed", "bytes", "zero", "not finite"],
)
def test_images_have_tensorflows_pixels(image: Any, expected: Any) -> None:
    (value,) = values(tf.summary.image("i", tf.constant(image), max_outputs=1))
    assert value.tag == "i/image"
    assert (value.image.height, value.image.width, value.image.colorspace) == image.shape[1:]
    assert pixels(value.image.encoded_image_string) == expected


def test_only_so_many_images_are_kept() -> None:
    kept = values(tf.summary.image("i", tf.zeros([3, 1, 1, 1]), max_outputs=2))
    assert [each.tag for each in kept] == ["i/image/0", "i/image/1"]


# -- event files ------------------------------------------------------------------------------------


def events(file: Path) -> list[Any]:
    data, found = file.read_bytes(), []
    while data:
        (size,) = struct.unpack("<Q", data[:8])
        found.append(tf.Event.FromString(data[12 : 12 + size]))
        data = data[16 + size :]
    return found


def test_an_event_file_holds_what_was_written_in_order(graph: tf.Graph, tmp_path: Path) -> None:
    summary = run(tf.summary.scalar("loss", 0.5))
    with tf.summary.FileWriter(str(tmp_path), graph, filename_suffix=".end") as writer:
        assert writer.get_logdir() == str(tmp_path)
        writer.add_summary(summary, 3)
        writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="z", simple_value=1.5)]), np.int64(4))
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START))
        writer.add_run_metadata(tf.RunMetadata(), "once")
        with pytest.raises(ValueError, match="already used"):
            writer.add_run_metadata(tf.RunMetadata(), "once")
        writer.flush()
        (file,) = tmp_path.iterdir()
        assert len(events(file)) == 5
    assert file.name.startswith("events.out.tfevents.")
    assert file.name.endswith(".end")
    version, drawn, first, second, log = events(file)
    assert version.file_version == "brain.Event:2"
    assert b"loss" in drawn.graph_def
    assert (first.step, first.summary) == (3, tf.Summary.FromString(summary))
    assert (second.step, second.summary.value[0].tag) == (4, "z")
    assert log.session_log.status == tf.SessionLog.START


def test_a_directory_may_be_given_by_its_url(tmp_path: Path) -> None:
    with tf.summary.FileWriter(f"file://{tmp_path}") as writer:
        assert writer.get_logdir() == f"file://{tmp_path}"
    assert [each.name.partition(".tfevents")[0] for each in tmp_path.iterdir()] == ["events.out"]
    with pytest.raises(tf.errors.UnimplementedError, match="gs://bucket/logs is not on this machine"):
        tf.summary.FileWriter("gs://bucket/logs")


def test_a_writer_that_is_reopened_goes_on_in_another_file(tmp_path: Path) -> None:
    writer = tf.summary.FileWriter(tmp_path)
    writer.close()
    writer.close()
    with pytest.warns(UserWarning, match="closed FileWriter"):
        writer.add_summary(b"")
    writer.reopen()
    writer.reopen()
    writer.add_summary(tf.Summary(), 1)
    writer.close()
    assert sorted(len(events(file)) for file in tmp_path.iterdir()) == [1, 2]


def test_metadata_of_a_tag_is_written_once(tmp_path: Path) -> None:
    summary = run(tf.summary.text("t", tf.constant("a")))
    with tf.summary.FileWriter(tmp_path) as writer:
        writer.add_summary(summary, 1)
        writer.add_summary(summary, 2)
    (file,) = tmp_path.iterdir()
    assert [each.summary.value[0].HasField("metadata") for each in events(file)[1:]] == [True, False]


def test_what_was_written_is_flushed_after_a_time(tmp_path: Path) -> None:
    writer = tf.summary.FileWriter(tmp_path, flush_secs=0)
    writer.add_summary(tf.Summary(), 1)
    (file,) = tmp_path.iterdir()
    assert len(events(file)) == 2
    writer.close()


def test_a_program_that_ends_without_close_has_written_everything(tmp_path: Path) -> None:
    code = (
        f"import worker_client.compat.v1 as tf; writer = tf.summary.FileWriter({str(tmp_path)!r}); "
        f"writer.add_summary(tf.Summary(), 1)"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    (file,) = tmp_path.iterdir()
    assert len(events(file)) == 2


def test_a_directory_has_one_writer_in_the_cache(tmp_path: Path) -> None:
    writer = tf.summary.FileWriterCache.get(str(tmp_path))
    assert tf.summary.FileWriterCache.get(str(tmp_path)) is writer
    tf.summary.FileWriterCache.clear()
    assert tf.summary.FileWriterCache.get(str(tmp_path)) is not writer
    tf.summary.FileWriterCache.clear()


def test_what_is_no_graph_or_needs_a_session_is_refused(graph: tf.Graph, tmp_path: Path) -> None:
    with tf.summary.FileWriter(tmp_path) as writer:
        with pytest.raises(TypeError, match="must be an instance of `Graph`"):
            writer.add_graph(3)
        with pytest.raises(ValueError, match="Please pass only graph"):
            writer.add_graph(graph, graph_def=graph)
    with pytest.raises(NotImplementedError, match=r"add_summary"):
        tf.summary.FileWriter(tmp_path, session=object())


def test_the_library_is_imported_when_it_is_needed_and_named_when_it_is_missing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    code = "import sys, worker_client.compat.v1; print('tensorboardX' in sys.modules, 'absl' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout == "False False\n"

    def missing(name: str, *_: Any) -> Any:
        raise ModuleNotFoundError(f"No module named {name!r}", name="tensorboardX")

    monkeypatch.setattr("importlib.import_module", missing)
    with pytest.raises(ImportError, match="pip install tensorboardX"):
        tf.summary.scalar("s", 1.0)
