"""Which store a path or a URL is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.locations import locate, open_store
from ps_protocol.checkpoints.urls import absolute, is_url
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError


@pytest.mark.parametrize(
    ("given", "plain"),
    [
        ("s3://bucket", "s3://bucket"),
        ("s3://bucket/", "s3://bucket"),
        ("S3://bucket/a/b/", "s3://bucket/a/b"),
        ("gs://bucket/a b", "gs://bucket/a b"),
        ("az://container/a", "az://container/a"),
        ("file:///a/b/", "file:///a/b"),
        ("/a/../b", "/b"),
        ("/s3:b", "/s3:b"),
    ],
)
def test_paths_and_urls_have_one_form(given: str, plain: str) -> None:
    assert absolute(given) == plain
    assert is_url(given) == ("://" in given)


@pytest.mark.parametrize("path", ["/a\0b", "/a/\udcff", "s3://bucket/a\0b"])
def test_what_no_ps_task_can_be_told_is_refused(path: str) -> None:
    with pytest.raises(InvalidArgumentError, match="it is not text in UTF-8 without zeros"):
        absolute(path)


def test_a_path_is_made_absolute(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    assert absolute("run") == absolute(Path("run")) == str(tmp_path / "run")


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("http://host/x", "cannot be kept at http://"),
        ("s3:///x", "such as s3://BUCKET/NAME"),
        ("s3://b/x//y", "such as s3://BUCKET/NAME"),
        ("s3://b/../y", "such as s3://BUCKET/NAME"),
        ("file://host/x", "file:///FOLDER"),
        ("s3://[secret/x", "cannot be understood"),
        ("s3://b/x?secret", "no user, password, port or query"),
        ("s3://b/x#secret", "no user, password, port or query"),
        ("s3://user:secret@b/x", "no user, password, port or query"),
        ("s3://localhost:9000/b", "the endpoint and the credentials come from the environment"),
        (Path("s3://bucket/x"), "one slash only"),
        ("", "the path of a checkpoint is ''; give a folder or a URL"),
        (" ", "give a folder or a URL"),
    ],
)
def test_what_cannot_be_a_url_of_checkpoints_is_refused(url: str | Path, message: str) -> None:
    with pytest.raises(InvalidArgumentError, match=message) as caught:
        absolute(url)
    assert "secret" not in str(caught.value)


def test_a_file_url_is_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a b").mkdir()
    store = open_store(f"file://{tmp_path}/a%20b")
    assert isinstance(store, FolderStore)
    assert store.path == str(tmp_path / "a b")
    with pytest.raises(NotFoundError, match="there is no checkpoint at file://"):
        locate(f"file://{tmp_path}/a%20b")


def test_what_is_in_the_place_of_a_checkpoint_is_said(tmp_path: Path) -> None:
    (tmp_path / "model.npz").touch()
    (tmp_path / "empty").mkdir()
    for name, what in (
        ("none", "there is no such folder"),
        ("model.npz", "it is a file"),
        ("empty", r"it has no manifest\.json, and no folder with one"),
    ):
        with pytest.raises(NotFoundError, match=rf"there is no checkpoint at .*/{name}: {what}\. .*through='client'"):
            locate(str(tmp_path / name))


def test_a_relative_folder_is_refused() -> None:
    with pytest.raises(InvalidArgumentError, match="has to be absolute"):
        open_store("run")


def test_a_missing_library_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ps_protocol.checkpoints.object_store", "ps_protocol.checkpoints.bucket"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    monkeypatch.setitem(sys.modules, "obstore", None)
    with pytest.raises(FailedPreconditionError, match=r"package obstore.*pip install obstore"):
        open_store("s3://bucket/x")


@pytest.mark.parametrize("url", ["gs://bucket/x", "az://container/x", "s3://bucket/x"])
def test_every_kind_of_store_is_opened_without_asking_it(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    assert open_store(url).path == url


def test_an_environment_that_cannot_be_right_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AZURE_STORAGE_ACCOUNT_NAME", raising=False)
    with pytest.raises(FailedPreconditionError, match="set AZURE_STORAGE_ACCOUNT_NAME"):
        open_store("az://container/x")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_NAME", "account")
    monkeypatch.setenv("AZURE_STORAGE_ACCOUNT_KEY", "no key at all!")
    with pytest.raises(FailedPreconditionError, match="az://container/x cannot be used") as caught:
        open_store("az://container/x")
    assert "no key" not in str(caught.value)
