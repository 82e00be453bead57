"""Addresses of coordination stores: what the option takes, and which store stands behind each."""

from __future__ import annotations

import re
import urllib.parse
from pathlib import Path
from typing import Final

from ps_server.coordination.file_store import FileStore
from ps_server.coordination.store import CoordinationStore

_EXPECTED: Final = "expected file:///DIRECTORY for the built-in store of one machine"
_NAMESPACE: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,62}", re.ASCII)
_FILE_SCHEME: Final = "file"


def check_coordinator(text: str) -> str:
    """Returns the address of a coordination store as it is.

    Raises:
        ValueError: It is none; the message says what is expected.
    """
    _parts(text)
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
    _, place = _parts(url)
    return FileStore(Path(place), namespace)


def _parts(text: str) -> tuple[str, str]:
    """Returns the scheme, and the directory or the endpoints."""
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise _malformed(text, "it has no scheme")
    if scheme == _FILE_SCHEME:
        return scheme, _directory(text, rest)
    raise _malformed(text, f"the scheme {scheme!r} is not known")


def _directory(text: str, rest: str) -> str:
    for mark, meaning in (("?", "options"), ("#", "a fragment")):
        if mark in rest:
            raise _malformed(text, f"it has {meaning}, which are not known; write {mark!r} in a path as %{ord(mark):X}")
    directory = urllib.parse.unquote(rest)
    if not directory.startswith("/"):
        raise _malformed(text, f"a directory must be absolute, and on this machine, not {rest!r}")
    if "\0" in directory or directory.strip("/") in ("", "."):
        raise _malformed(text, "it names no directory of its own")
    return directory


def _malformed(text: str, why: str) -> ValueError:
    return ValueError(f"{text!r} is no address of a coordination store, since {why}; {_EXPECTED}")
