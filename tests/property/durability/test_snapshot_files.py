"""Whatever the state, its snapshot brings it back; whatever byte of it is changed, it is refused."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ps_server.durability.snapshots.files import CorruptSnapshotError, SnapshotFiles
from ps_server.log.state_image import StateImage
from tests.property.durability.state_images import comparable, images


@contextmanager
def fresh_files() -> Iterator[SnapshotFiles]:
    with tempfile.TemporaryDirectory() as folder:
        yield SnapshotFiles(Path(folder))


@settings(max_examples=60)
@given(images())
def test_a_snapshot_brings_the_state_back(image: StateImage) -> None:
    with fresh_files() as files:
        written = files.write(image)
        back, info = files.read(image.position)
    assert comparable(back) == comparable(image)
    assert info == written
    for variable in back.variables:
        assert variable.value is None or (variable.value.flags.writeable and variable.value.flags.c_contiguous)


@settings(max_examples=60)
@given(images(), st.randoms(use_true_random=False))
def test_any_changed_byte_is_refused(image: StateImage, random: Any) -> None:
    with fresh_files() as files:
        path = random.choice(sorted(files.write(image).path.iterdir()))
        content = bytearray(path.read_bytes())
        if not content:  # a ledger of nobody
            return
        content[random.randrange(len(content))] ^= 1 << random.randrange(8)
        path.write_bytes(content)
        with pytest.raises(CorruptSnapshotError) as refused:
            files.read(image.position)
    assert str(path) in str(refused.value)


@settings(max_examples=30)
@given(images(), st.randoms(use_true_random=False))
def test_a_file_that_was_cut_off_is_refused(image: StateImage, random: Any) -> None:
    with fresh_files() as files:
        path = random.choice(sorted(files.write(image).path.iterdir()))
        content = path.read_bytes()
        if not content:
            return
        path.write_bytes(content[: random.randrange(len(content))])
        with pytest.raises(CorruptSnapshotError, match=path.name):
            files.read(image.position)
