"""Who may read what is written is what the umask says, as of other programs' files."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import worker_client as ss
import worker_client.compat.v1 as tf
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster


@pytest.fixture(params=[0o022, 0o002, 0o077], ids=oct)
def umask(request: pytest.FixtureRequest) -> Iterator[int]:
    before = os.umask(request.param)
    yield request.param
    os.umask(before)


def wrong_modes(place: Path, umask: int) -> list[str]:
    """Which files and folders do not have the mode that the umask gives them."""
    found = sorted(place.rglob("*"))
    assert [each for each in found if each.is_file()]
    expected = {True: 0o777 & ~umask, False: 0o666 & ~umask}
    modes = {each: stat.S_IMODE(each.stat().st_mode) for each in found}
    return [f"{each.relative_to(place)} {mode:o}" for each, mode in modes.items() if mode != expected[each.is_dir()]]


def test_what_a_cluster_saves_and_copies_of_it_follow_the_umask(tmp_path: Path, umask: int) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        Model(client).train(0, 1)
        client.save(tmp_path / "run", step=1, keep=2)
        client.save(tmp_path / "run", step=2, through="client")
    ss.checkpoint.pin(tmp_path / "run")
    ss.checkpoint.export(tmp_path / "run", tmp_path / "tensorflow" / "model.ckpt", format="tensorflow")
    ss.checkpoint.export(tmp_path / "run", tmp_path / "shards", format="safetensors", shard_size=1000)
    ss.checkpoint.export(tmp_path / "run", tmp_path / "other" / "model.npz", format="npz")
    ss.checkpoint.import_from(tmp_path / "other" / "model.npz", tmp_path / "imported")
    assert wrong_modes(tmp_path, umask) == []


@pytest.mark.parametrize("form", ["tensorflow", "shardscope"])
def test_what_a_saver_writes_follows_the_umask(tmp_path: Path, umask: int, form: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("v", initializer=np.arange(6.0))
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_format=form, sharded=True)
        for _ in range(2):  # the second takes the place of the first
            saver.save(session, str(tmp_path / "runs" / "model.ckpt"))
    assert wrong_modes(tmp_path, umask) == []
