"""Which store has the checkpoints of a path: a folder, or by URL an object store.

The library for object stores is imported when the first URL comes, since it need not be installed.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Final
from urllib.parse import unquote

from ps_protocol.checkpoints.folder_store import FolderStore
from ps_protocol.checkpoints.manifest import MANIFEST_FILE
from ps_protocol.checkpoints.store import CheckpointStore
from ps_protocol.checkpoints.urls import is_url, split_url
from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError, NotFoundError
from ps_protocol.interrupts import sheltered

_OBJECTS: Final = "ps_protocol.checkpoints.object_store"


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
    scheme, where, names = split_url(path)
    if scheme == "file":
        return FolderStore(Path("/", *[unquote(name) for name in names]))
    try:
        object_store = sheltered(importlib.import_module, _OBJECTS)
    except ModuleNotFoundError as error:
        if error.name != "obstore":
            raise
        raise FailedPreconditionError(
            f"checkpoints at {scheme}:// need the package obstore, which is not installed here; install it for each "
            f"process that uses them, and start that again: pip install obstore"
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
            f"there is no checkpoint at {path}: {_what_is_there(store)}. Give the folder that was given to save(), or "
            f"that of one checkpoint in it. One of another form, such as TensorFlow's or npz, is restored with "
            f"through='client', in a shell --through-client, or imported first"
        )
    return store, names[-1]


def _what_is_there(store: CheckpointStore) -> str:
    """Says what is in the place of a checkpoint."""
    if isinstance(store, FolderStore) and not Path(store.path).is_dir():
        return "it is a file" if Path(store.path).exists() else "there is no such folder"
    return f"it has no {MANIFEST_FILE}, and no folder with one"


def _parent(path: str) -> tuple[str, str]:
    """A path without its last name, and that; the name is empty if there is nothing above."""
    if not is_url(path):
        return str(Path(path).parent), Path(path).name
    scheme, where, names = split_url(path)
    return "/".join([f"{scheme}://{where}", *names[:-1]]), names[-1] if names else ""
