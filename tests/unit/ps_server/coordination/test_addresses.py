"""Addresses of coordination stores."""

from __future__ import annotations

from pathlib import Path

import pytest

from ps_server.coordination.addresses import check_coordinator, open_store
from ps_server.coordination.etcd_store import EtcdStore
from ps_server.coordination.file_store import FileStore


@pytest.mark.parametrize(
    "text",
    [
        "file:///var/lib/shardscope",
        "file:///with%20space",
        "etcd://127.0.0.1:2379",
        "etcd://etcd-0.etcd:2379,etcd-1.etcd:2379,[::1]:2379",
        "etcd://etcd:2379/",
    ],
)
def test_an_address_is_taken_as_it_is(text: str) -> None:
    assert check_coordinator(text) == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "the kind of store is missing"),
        ("/var/lib/shardscope", "the kind of store is missing"),
        ("127.0.0.1:2379", "the kind of store is missing"),
        ("zookeeper://host:2181", "'zookeeper' is no kind of store"),
        ("etcds://host:2379", "'etcds' is no kind of store"),
        ("file://", "a directory must be absolute"),
        ("file://relative/path", "a directory must be absolute, and on this machine, not 'relative/path'"),
        ("file:///", "it names no directory of its own"),
        ("file:///..", "it names no directory of its own"),
        ("file:///a%00b", "it names no directory of its own"),
        ("file:///a?mode=x", r"it has options, of which there are none \(in a path, write %3F\)"),
        ("file:///a#b", "it has a fragment, of which there are none"),
        ("etcd://", "'' is not HOST:PORT"),
        ("etcd://host", "'host' is not HOST:PORT"),
        ("etcd://host:2379,", "'' is not HOST:PORT"),
        ("etcd://host:0", "'host:0' is not HOST:PORT"),
        ("etcd://host:2379, other:2379", "' other:2379' is not HOST:PORT"),
        ("etcd://host:2379/prefix", "it has a path, which etcd has not"),
        ("etcd://root:secret@host:2379", "users and passwords are not supported yet"),
        ("etcd://host:2379?tls=on", "it has options"),
        ("etcd://host:2379,host:2379", "it names a member twice"),
    ],
)
def test_another_one_is_refused_with_what_is_expected(text: str, why: str) -> None:
    expected = f"is no address of a coordination store: {why}.*; expected file:///DIRECTORY .* or etcd://HOST:PORT"
    with pytest.raises(ValueError, match=expected):
        check_coordinator(text)
    with pytest.raises(ValueError, match=expected):
        open_store(text, namespace="cluster")


@pytest.mark.parametrize("namespace", ["", "a/b", "..", "-a", "a b", "a" * 64])
def test_a_malformed_namespace_is_refused(namespace: str, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="up to 63 letters"):
        open_store(tmp_path.as_uri(), namespace=namespace)


def test_the_scheme_says_which_store(tmp_path: Path) -> None:
    directory = tmp_path / "with space"
    store = open_store(directory.as_uri(), namespace="cluster")
    assert isinstance(store, FileStore)
    store.compare_and_set("key", b"value", revision=0, timeout_s=30)
    assert (directory / "cluster" / "key").is_dir()
    other = open_store("etcd://127.0.0.1:1", namespace="cluster")
    assert isinstance(other, EtcdStore)
    other.close()
