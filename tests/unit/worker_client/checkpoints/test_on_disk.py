"""A power loss leaves whole checkpoints: what gets a name is on disk before, and the name when a save returns."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import shardscope as ss
import worker_client.compat.v1 as tf
from tests.unit.worker_client.checkpoints.small_clusters import Model, SmallCluster


class Disk:
    """What a power loss would leave: contents and names as they were when they were synced.

    Attributes:
        named: What was renamed, by its last name.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch):
        self.named: list[str] = []
        self._contents: dict[int, bytes] = {}
        self._names: dict[int, dict[str, int]] = {}
        monkeypatch.setattr(os, "fsync", self._before(os.fsync, self._sync))
        for call in ("rename", "replace"):
            monkeypatch.setattr(os, call, self._before(getattr(os, call), self._check))

    def has(self, path: Path) -> bool:
        """Whether all of a file or a folder is there; of its own name, its folder decides."""
        number = path.stat().st_ino
        if path.is_file():
            return self._contents.get(number) == path.read_bytes()
        names = self._names.get(number, {})
        return not [each for each in path.iterdir() if names.get(each.name) != each.stat().st_ino or not self.has(each)]

    def _sync(self, descriptor: int) -> None:
        path = Path(f"/proc/self/fd/{descriptor}").resolve()
        number = path.stat().st_ino
        if path.is_dir():
            self._names[number] = {each.name: each.stat().st_ino for each in path.iterdir()}
        else:
            self._contents[number] = path.read_bytes()

    def _check(self, source: os.PathLike[str], target: os.PathLike[str]) -> None:
        assert self.has(Path(source)), f"{source} is not on disk and gets the name {target}"
        self.named.append(Path(target).name)

    @staticmethod
    def _before(call: Callable[..., Any], look: Callable[..., None]) -> Callable[..., Any]:
        def looked(*arguments: Any) -> Any:
            look(*arguments)
            return call(*arguments)

        return looked


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


@pytest.mark.parametrize("through", ["ps", "client"])
def test_a_checkpoint_of_a_cluster(tmp_path: Path, disk: Disk, through: Any) -> None:
    with SmallCluster(2) as cluster:
        client = cluster.client()
        Model(client).train(0, 1)
        for name in ("x", "y"):
            client.save(tmp_path / "runs" / "7", name=name, keep=1, through=through)
            assert disk.named.count(name) == 1
            assert disk.has(tmp_path)


@pytest.mark.parametrize("write_format", ["tensorflow", "shardscope"])
def test_a_checkpoint_of_a_saver(tmp_path: Path, disk: Disk, write_format: str) -> None:
    with tf.Graph().as_default(), tf.Session() as session:
        tf.get_variable("a", [300, 5])
        session.run(tf.global_variables_initializer())
        saver = tf.train.Saver(write_format=write_format)
        for _ in range(2):
            saver.save(session, str(tmp_path / "runs" / "7" / "m"))
    assert "checkpoint" in disk.named
    assert "m.index" in disk.named or "m" in disk.named
    assert disk.has(tmp_path)


@pytest.mark.parametrize("target", ["m", "m.npz", "m.safetensors", "folder"])
def test_a_checkpoint_of_another_form(tmp_path: Path, disk: Disk, target: str) -> None:
    run = tmp_path / "run"
    np.savez(tmp_path / "a.npz", a=np.arange(3000.0), b=np.zeros((2, 0)))
    ss.checkpoint.import_from(tmp_path / "a.npz", run, name="x")
    form = {".npz": "npz", "": "tensorflow" if target == "m" else "safetensors"}.get(Path(target).suffix, "safetensors")
    ss.checkpoint.export(run, tmp_path / "exported" / target, format=form)
    assert disk.named.count("x") == 1
    assert disk.has(run)
    assert disk.has(tmp_path / "exported")
