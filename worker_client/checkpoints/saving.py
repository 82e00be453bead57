"""Saves a whole cluster: one consistent cut over all ps tasks, each of which writes its own part."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from uuid import UUID, uuid4

from ps_protocol.checkpoints.manifest import decode_part, part_file
from ps_protocol.checkpoints.service import HOLD_S, CheckpointPath, PartPiece, Progress
from ps_protocol.checkpoints.store import check_name, not_shared, open_store, prune, store_errors
from ps_protocol.errors import AbortedError
from worker_client.checkpoints.calls import Tasks
from worker_client.checkpoints.report import SavedCheckpoint, ShowProgress


def default_name(step: int | None) -> str:
    """Name of a checkpoint that was given none: of the step, or else of the moment."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S.%fZ}" if step is None else f"step-{step:09}"


def save(
    tasks: Tasks,
    folder: str,
    name: str | None,
    step: int | None,
    keep: int,
    show: ShowProgress | None,
    *,
    through_client: bool,
) -> SavedCheckpoint:
    """Saves all variables of all ps tasks; arguments are those of ``Client.save``.

    Raises:
        InvalidArgumentError: The name cannot be one.
        AlreadyExistsError: There is a checkpoint of the name.
        FailedPreconditionError: A task cannot write, or the tasks do not share the folder; or this client cannot write.
        AbortedError: Another save is under way, or updates could not be held back long enough.
    """
    path = CheckpointPath(folder, check_name(name or default_name(step)))
    session = uuid4()
    try:
        if through_client:
            with store_errors("this client"):
                size_bytes, held_s = _save_here(tasks, session, path, step, keep, show)
        else:
            size_bytes, held_s = _save_there(tasks, session, path, step, keep, show)
    finally:
        tasks.discard(session)
    return SavedCheckpoint(str(path), size_bytes, held_s)


def _save_there(
    tasks: Tasks, session: UUID, path: CheckpointPath, step: int | None, keep: int, show: ShowProgress | None
) -> tuple[int, float]:
    """Has the tasks write to a folder that all reach; returns the size and for how long updates were held back."""
    _begin(tasks, session, path)
    marks = tasks.call(0, "to begin a save", lambda service, t: service.begin(session, path, timeout_s=t))
    strangers = [name for name in tasks.names if name not in marks]
    if strangers:
        raise not_shared(path.store, strangers)
    held_s = _cut(tasks, session)
    tasks.work("to write a checkpoint", lambda service, t: service.write(session, timeout_s=t), show)
    num_parts = len(tasks.handles)
    size_bytes = tasks.call(
        0,
        "to make a checkpoint visible",
        lambda service, t: service.publish(session, path, num_parts, step, keep, timeout_s=t),
    )
    return size_bytes, held_s


def _save_here(
    tasks: Tasks, session: UUID, path: CheckpointPath, step: int | None, keep: int, show: ShowProgress | None
) -> tuple[int, float]:
    """Fetches the parts and writes them on this side; a few MiB of each are in memory."""
    store, num_parts = open_store(path.store), len(tasks.handles)
    store.begin(path.name, session, "client")
    try:
        _begin(tasks, session, CheckpointPath("", path.name))
        held_s = _cut(tasks, session)
        so_far = [Progress(0, 0, False)] * num_parts

        def fetch(index: int) -> None:
            entry, offset = bytearray(), 0

            def piece() -> PartPiece:
                return tasks.call(
                    index, "to send its part", lambda service, t: service.fetch(session, offset, timeout_s=t)
                )

            found = piece()
            with store.part_writer(path.name, session, part_file(index, num_parts), found.part_bytes) as writer:
                while True:
                    of_part = max(0, min(len(found.content), found.part_bytes - offset))
                    writer.write(found.content[:of_part])
                    entry += found.content[of_part:]
                    offset += len(found.content)
                    so_far[index] = found.progress
                    if show is not None:
                        show(sum([each.done_bytes for each in so_far]), sum([each.total_bytes for each in so_far]))
                    if found.progress.is_done:
                        break
                    found = piece()
            store.note_part(path.name, session, decode_part(bytes(entry)))

        tasks.side_by_side(fetch)
        size_bytes = store.publish(path.name, session, tasks.names, time.time(), step)
    except BaseException:
        store.discard(path.name, session)
        raise
    prune(store, keep)
    return size_bytes, held_s


def _begin(tasks: Tasks, session: UUID, path: CheckpointPath) -> None:
    for index in range(len(tasks.handles)):  # in order, so that of two savers one gets all
        tasks.call(index, "to begin a save", lambda service, t: service.begin(session, path, timeout_s=t))


def _cut(tasks: Tasks, session: UUID) -> float:
    """Has all tasks take their images while all hold updates back; returns for how long."""
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
    return held_s
