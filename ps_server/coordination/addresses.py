"""Addresses of coordination stores: what the option takes, and which store stands behind each."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import Final

from ps_protocol.task_id import check_address
from ps_server.coordination.etcd_store import EtcdStore
from ps_server.coordination.file_store import FileStore
from ps_server.coordination.store import CoordinationStore

_EXPECTED: Final = (
    "expected file:///DIRECTORY for the built-in store of one machine, or etcd://HOST:PORT[,HOST:PORT...] for members "
    "of an etcd cluster"
)
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_ETCD: Final = "etcd"
_FILE: Final = "file"


def check_coordinator(text: str) -> str:
    """Returns the address of a coordination store as it is.

    Raises:
        ValueError: It is none; the message says what is expected.
    """
    scheme, rest = _parts(text)
    if scheme == _ETCD:
        _endpoints(text, rest)
    else:
        _directory(text, rest)
    return text


def check_namespace(text: str) -> str:
    """Returns a namespace, as the name of a cluster, as it is.

    Raises:
        ValueError: It is none; the message says what is expected.
    """
    if _NAMESPACE.fullmatch(text) is None:
        raise ValueError("up to 63 letters, digits, '_' and '-', with a letter or a digit first")
    return text


def open_store(url: str, *, namespace: str) -> CoordinationStore:
    """Returns the store at an address. It is not contacted before the first call, so that it need not be there yet.

    Args:
        url: See ``check_coordinator``.
        namespace: Of the cluster. Keys of another namespace in the same store are others.

    Raises:
        ValueError: The address or the namespace is malformed.
    """
    check_namespace(namespace)
    scheme, rest = _parts(url)
    if scheme == _ETCD:
        return EtcdStore(_endpoints(url, rest), namespace)
    return FileStore(Path(_directory(url, rest)), namespace)


def _parts(text: str) -> tuple[str, str]:
    """Returns the scheme and what follows."""
    scheme, separator, rest = text.partition("://")
    if not separator or scheme not in (_ETCD, _FILE):
        raise _malformed(text, f"{scheme!r} is no kind of store" if separator else "the kind of store is missing")
    for mark, meaning in (("?", "options"), ("#", "a fragment")):
        if mark in rest:
            raise _malformed(text, f"it has {meaning}, of which there are none (in a path, write %{ord(mark):X})")
    return scheme, rest


def _endpoints(text: str, rest: str) -> list[str]:
    places = rest.removesuffix("/")
    if "@" in places:
        raise _malformed(text, "users and passwords are not supported yet (let only the ps tasks reach etcd)")
    if "/" in places:
        raise _malformed(text, "it has a path, which etcd has not")
    endpoints = places.split(",")
    for endpoint in endpoints:
        try:
            check_address(endpoint, "etcd")
        except ValueError as error:
            raise _malformed(text, f"{endpoint!r} is not HOST:PORT") from error
    if len(set(endpoints)) < len(endpoints):
        raise _malformed(text, "it names a member twice")
    return endpoints


def _directory(text: str, rest: str) -> str:
    directory = urllib.parse.unquote(rest)
    if not directory.startswith("/"):
        raise _malformed(text, f"a directory must be absolute, and on this machine, not {rest!r}")
    if "\0" in directory or not directory.strip("/."):
        raise _malformed(text, "it names no directory of its own")
    return directory


def _malformed(text: str, why: str) -> ValueError:
    return ValueError(f"{text!r} is no address of a coordination store: {why}; {_EXPECTED}")
