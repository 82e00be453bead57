"""Saves a whole cluster: one consistent cut over all ps tasks, each of which writes its own part."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import uuid4

from ps_protocol.checkpoints.service import HOLD_S, CheckpointPath
from ps_protocol.checkpoints.store import check_name, not_shared
from ps_protocol.errors import AbortedError
from worker_client.checkpoints.calls import Tasks
from worker_client.checkpoints.report import SavedCheckpoint, ShowProgress


def _default_name(step: int | None) -> str:
    """Name of a checkpoint that was given none: of the step, or else of the moment."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}" if step is None else f"step-{step:09}"


def save(
    tasks: Tasks, folder: str, name: str | None, step: int | None, keep: int, show: ShowProgress | None
) -> SavedCheckpoint:
    """Saves all variables of all ps tasks; arguments are those of ``Client.save``.

    Raises:
        InvalidArgumentError: The name cannot be one.
        AlreadyExistsError: There is a checkpoint of the name.
        FailedPreconditionError: A task cannot write, or the tasks do not share the folder.
        AbortedError: Another save is under way, or updates could not be held back long enough.
    """
    path = CheckpointPath(folder, check_name(name or _default_name(step)))
    session = uuid4()
    try:
        for index in range(len(tasks.handles)):  # in order, so that of two savers one gets all
            tasks.call(index, "to begin a save", lambda service, t: service.begin(session, path, timeout_s=t))
        marks = tasks.call(0, "to begin a save", lambda service, t: service.begin(session, path, timeout_s=t))
        strangers = [name for name in tasks.names if name not in marks]
        if strangers:
            raise not_shared(path.store, strangers)
        began_s = time.monotonic()
        tasks.each("to hold updates back", lambda _, service, t: service.hold(session, HOLD_S, timeout_s=t))
        held = tasks.each("to let updates go on", lambda _, service, t: service.release(session, timeout_s=t))
        held_s = time.monotonic() - began_s
        late = [name for name, was_held in zip(tasks.names, held, strict=True) if not was_held]
        if late:
            raise AbortedError(
                f"updates could not be held back on all ps tasks at once: {', '.join(late)} let them go on after "
                f"{HOLD_S:.0f} s. Nothing was saved; save again when the network is faster, or less is going on"
            )
        tasks.work("to write a checkpoint", lambda service, t: service.write(session, timeout_s=t), show)
        num_parts = len(tasks.handles)
        size_bytes = tasks.call(
            0,
            "to make a checkpoint visible",
            lambda service, t: service.publish(session, path, num_parts, step, keep, timeout_s=t),
        )
    finally:
        tasks.discard(session)
    return SavedCheckpoint(str(path), size_bytes, held_s)
