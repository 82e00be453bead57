"""Which store has the checkpoints of a path: a folder, or by URL an object store.

The library for object stores is imported when the first URL comes, since it need not be installed.
"""

from __future__ import annotations

import importlib
import os
import re
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit

from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import MANIFEST_FILE
from ps_protocol.checkpoints.store import CheckpointStore
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.interrupts import sheltered

OBJECT_STORES: Final = ("s3", "gs", "az")
"""The schemes of URLs of object stores."""

_URL: Final = re.compile(r"[a-z][a-z0-9+.-]*://", re.ASCII | re.IGNORECASE)
_PATH_OF_URL: Final = re.compile(rf"({'|'.join(OBJECT_STORES)}|file):/(?!/)", re.IGNORECASE)
_OBJECTS: Final = "ps_protocol.checkpoints.object_store"


def is_url(path: str) -> bool:
    """Whether a path is a URL, of whatever kind."""
    return _URL.match(path) is not None


def absolute(path: str | os.PathLike[str]) -> str:
    """Returns a path as a ps task takes it: an absolute path without following links, or a URL in its plain form.

    Raises:
        InvalidArgumentError: It is a URL that cannot be one of checkpoints.
    """
    text = os.fspath(path)
    if _PATH_OF_URL.match(text):
        raise InvalidArgumentError(
            f"{text} is a URL with one slash only, as pathlib.Path makes it; give the URL as a string"
        )
    if not is_url(text):
        return os.path.abspath(text)  # noqa: PTH100 - without following links
    scheme, where, names = _split(text)
    return f"{scheme}://{where}" + "".join([f"/{name}" for name in names])


def open_store(path: str) -> CheckpointStore:
    """Returns the store at a path or URL; nothing is asked of it yet.

    Raises:
        InvalidArgumentError: It is empty, relative, or a URL of a kind that is not known.
        FailedPreconditionError: It is a URL, and the library for object stores is not installed, or not configured.
    """
    if not is_url(path):
        if not Path(path).is_absolute():
            raise InvalidArgumentError(f"the folder of a checkpoint has to be absolute for a ps task, not {path!r}")
        return FolderStore(Path(path))
    scheme, where, names = _split(path)
    if scheme == "file":
        return FolderStore(Path("/", *[unquote(name) for name in names]))
    try:
        object_store = sheltered(importlib.import_module, _OBJECTS)
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise FailedPreconditionError(
            f"checkpoints at {scheme}:// need the package obstore, which is not installed here; install it for each "
            f"process that uses them, and start that again: pip install 'shardscope[objects]'"
        ) from error
    store: CheckpointStore = object_store.open_objects(scheme, where, "/".join(names))
    return store


def locate(path: str) -> tuple[CheckpointStore, str]:
    """Returns the store and the name of the checkpoint at a path: that of one, or the newest of a folder of them.

    Args:
        path: A path or a URL, absolute.

    Raises:
        NotFoundError: There is none.
    """
    parent, name = _parent(path)
    if name and (store := open_store(parent)).exists(name):
        return store, name
    store = open_store(path)
    names = store.names()
    if not names:
        raise NotFoundError(
            f"there is no checkpoint at {path}: neither has it a {MANIFEST_FILE}, nor a folder in it; give the folder "
            f"that was given to save(), or that of one checkpoint in it"
        )
    return store, names[-1]


def _parent(path: str) -> tuple[str, str]:
    """A path without its last name, and that; the name is empty if there is nothing above."""
    if not is_url(path):
        return str(Path(path).parent), Path(path).name
    scheme, where, names = _split(path)
    return "/".join([f"{scheme}://{where}", *names[:-1]]), names[-1] if names else ""


def _split(url: str) -> tuple[str, str, list[str]]:
    """The scheme of a URL, its bucket or container, and the names behind that."""
    scheme = url.partition("://")[0].lower()
    if scheme not in (*OBJECT_STORES, "file"):
        raise InvalidArgumentError(
            f"checkpoints cannot be kept at {scheme}://; give a folder that all ps tasks share, or a URL that begins "
            f"with s3://, gs:// or az://"
        )
    parts = urlsplit(url)
    if "@" in parts.netloc or parts.query or parts.fragment:  # not repeated: it may be a password
        raise InvalidArgumentError(
            f"a {scheme}:// URL of checkpoints has a bucket and names, no user, password or query: credentials come "
            f"from the environment of each process"
        )
    names = parts.path.strip("/").split("/") if parts.path.strip("/") else []
    if bool(parts.netloc) == (scheme == "file") or {"", ".", ".."} & {*names}:
        raise InvalidArgumentError(
            f"{url} cannot be the URL of checkpoints; give one such as s3://BUCKET/NAME, gs://BUCKET/NAME, "
            f"az://CONTAINER/NAME or file:///FOLDER"
        )
    return scheme, parts.netloc, names
