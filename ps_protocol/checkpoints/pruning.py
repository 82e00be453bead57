"""Removes from a store the checkpoints that a retention does not keep."""

from __future__ import annotations

import logging
from typing import Final

from ps_protocol.checkpoints.retention import Keepable, Retention, to_remove
from ps_protocol.checkpoints.store import CheckpointStore, read_manifest
from ps_protocol.errors import ShardscopeError

_LOG: Final = logging.getLogger(__name__)


def prune(store: CheckpointStore, retention: Retention, made: str, now_s: float) -> None:
    """Removes from a store what a retention does not keep.

    The checkpoint that was just made stays, also if by the clocks of others it is not the newest. What cannot be read
    does not count, and stays. What cannot be removed stays and is said in the log: the checkpoint after whose saving
    this is done is there all the same.
    """
    if not retention.removes:
        return
    try:
        leaving = to_remove(_keepable(store), retention, now_s)
    except OSError as error:
        _LOG.warning("older checkpoints of %s stay, since they cannot be looked at: %s", store.path, error)
        return
    for name in [each for each in leaving if each != made]:
        try:
            store.remove(name)
        except (OSError, ShardscopeError) as error:
            _LOG.warning("the checkpoint %s/%s stays, since it cannot be removed: %s", store.path, name, error)


def _keepable(store: CheckpointStore) -> list[Keepable]:
    found = []
    for name in store.names():
        try:
            manifest = read_manifest(store, name)
            found.append(Keepable(name, manifest.saved_at_s, manifest.metrics, store.is_pinned(name)))
        except ShardscopeError as error:
            _LOG.debug("the checkpoint %s/%s does not count: %s", store.path, name, error)
    return found
