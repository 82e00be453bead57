"""Restores a whole cluster: planned and read before anything is changed, then switched on all ps tasks."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Mapping
from uuid import UUID, uuid4

from ps_protocol.checkpoints.manifest import CheckpointManifest
from ps_protocol.checkpoints.service import (
    MAX_PIECE_BYTES,
    MAX_TARGETS,
    SWITCH_HOLD_S,
    CheckpointPath,
    CheckpointService,
    ManifestPiece,
    names_sha256,
)
from ps_protocol.checkpoints.store import checksum, parse_manifest, store_errors
from ps_protocol.codec.tensor_codec import bytes_of
from ps_protocol.errors import FailedPreconditionError, ShardscopeError
from worker_client.checkpoints.calls import Tasks
from worker_client.checkpoints.plan import ChoosePs, Held, RestorePlan, plan_restore
from worker_client.checkpoints.report import RestoreReport, ShowProgress
from worker_client.checkpoints.values_here import ValuesHere, open_values

_LOG = logging.getLogger(__name__)


def restore(
    tasks: Tasks,
    path: str,
    choose_ps: ChoosePs,
    *,
    names: Mapping[str, str] | None,
    partial: bool,
    show: ShowProgress | None,
    through_client: bool,
) -> RestoreReport:
    """Restores a checkpoint; arguments and errors are those of ``Client.restore``."""
    session = uuid4()
    with contextlib.ExitStack() as opened:
        values: ValuesHere | None = None
        crc = manifest_bytes = 0
        if through_client:
            values = opened.enter_context(open_values(path))
            where, manifest = values.where, values.manifest
        else:
            where, data = _read_manifest(tasks, path)
            manifest, crc = parse_manifest(data, str(where)), checksum(data)
            manifest_bytes = len(data)
        held = _held(tasks)
        flat = [each for of_task in held for each in of_task]
        expected = [names_sha256([each.spec.name for each in of_task if each.is_there]) for of_task in held]
        plan = plan_restore(manifest, flat, len(tasks.handles), choose_ps, names=names, partial=partial)
        try:
            _stage(
                tasks, session, where if values is None else CheckpointPath("", str(where)), crc, plan, manifest_bytes
            )
            if values is not None:
                with store_errors("this client"):
                    _supply(tasks, session, values, plan)
            tasks.work("to read a checkpoint", lambda service, t: service.fill(session, timeout_s=t), show)
            tasks.each(
                "to prepare a restore",
                lambda index, service, t: service.prepare(session, expected[index], SWITCH_HOLD_S, timeout_s=t),
            )
        except BaseException:
            tasks.discard(session)
            raise
        _switch(tasks, session, where, plan)
        return RestoreReport(str(where), manifest.step, tuple(plan.rows), _size_bytes(manifest, plan))


def _read_manifest(tasks: Tasks, path: str) -> tuple[CheckpointPath, bytes]:
    data, where = bytearray(), path

    def read(service: CheckpointService, timeout_s: float) -> ManifestPiece:
        return service.read_manifest(where, len(data), timeout_s=timeout_s)

    while True:
        piece = tasks.call(0, "to read the manifest of a checkpoint", read)
        data += piece.content
        where = str(piece.path)  # the newest may be another one by now
        if len(data) >= piece.size_bytes or not piece.content:
            return piece.path, bytes(data)


def _held(tasks: Tasks) -> list[list[Held]]:
    there = []
    for handle in tasks.handles:
        variables = handle.call(lambda service, t: service.list_variables(timeout_s=t), what="to list its variables")
        there.append(variables)
    placements = tasks.handles[0].call(
        lambda service, t: service.list_placements(timeout_s=t), what="to list placements"
    )
    placed = {each.spec.name for each in placements}
    held = [
        [Held(each.spec, index, is_placed=each.spec.name in placed) for each in variables]
        for index, variables in enumerate(there)
    ]
    names = {each.spec.name for of_task in held for each in of_task}
    for each in placements:
        if each.spec.name not in names:  # its task has lost it, say
            held[each.ps_task].append(Held(each.spec, each.ps_task, is_there=False))
    return held


def _stage(
    tasks: Tasks, session: UUID, where: CheckpointPath, crc: int, plan: RestorePlan, manifest_bytes: int
) -> None:
    for index, targets in enumerate(plan.targets):
        placements = [] if index else plan.placements
        for start in range(0, max(len(targets), len(placements), 1), MAX_TARGETS):
            some, placed = targets[start : start + MAX_TARGETS], placements[start : start + MAX_TARGETS]
            tasks.call(
                index,
                "to take part in a restore",
                lambda service, t, some=some, placed=placed: service.stage(  # type: ignore[misc]
                    session, where, crc, some, placed, timeout_s=t
                ),
                0 if start else manifest_bytes,  # which it reads at first
            )


def _supply(tasks: Tasks, session: UUID, values: ValuesHere, plan: RestorePlan) -> None:
    """Reads what each task is to have and sends it; one variable for each task is in memory."""

    def supply(ps_task: int) -> None:
        for index, target in enumerate(plan.targets[ps_task]):
            if not target.sources or not target.spec.size_bytes:
                continue
            content = bytes_of(values.value(target))
            for start in range(0, len(content), MAX_PIECE_BYTES):
                piece = bytes(content[start : start + MAX_PIECE_BYTES])

                def send(
                    service: CheckpointService,
                    t: float,
                    index: int = index,
                    start: int = start,
                    piece: bytes = piece,
                ) -> None:
                    service.supply(session, index, start, piece, timeout_s=t)

                tasks.call(ps_task, "to take values", send)

    tasks.side_by_side(supply)


def _switch(tasks: Tasks, session: UUID, where: CheckpointPath, plan: RestorePlan) -> None:
    """Has all tasks switch. From the first one on there is no way back, but another restore."""
    # A task with a journal or a backup brings all of it there first.
    tasks.go_through()
    sizes = [sum([each.spec.size_bytes for each in targets]) for targets in plan.targets]
    try:
        tasks.each("to switch to a checkpoint", lambda _, service, t: service.switch(session, timeout_s=t), sizes)
        tasks.each("to end a restore", lambda _, service, t: service.finish(session, timeout_s=t))
    except ShardscopeError as error:
        tasks.discard(session)
        raise FailedPreconditionError(
            f"{error.task or 'a ps task'} could not be restored from {where}: {error.message}. Other ps tasks may have "
            f"been, and take no batches until a restore is complete: restore again",
            task=error.task,
        ) from error


def _size_bytes(manifest: CheckpointManifest, plan: RestorePlan) -> int:
    used = {source for targets in plan.targets for target in targets for source in target.sources}
    return sum([manifest.parts[each.part].variables[each.index].spec.size_bytes for each in used])
