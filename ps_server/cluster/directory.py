"""Which ps task holds which variable: one placement for the whole cluster. Kept by ps task 0."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ShapeMismatchError, ShardscopeError
from ps_protocol.operations import VariableSpec
from ps_protocol.service_types import Placement, Proposal
from ps_server.store.spec_checks import check_agreement, check_spec, describe_spec

NotePlacements = Callable[[Sequence[Placement]], object]


@dataclass(frozen=True, slots=True)
class _Whole:
    """A partitioned variable, as the first of its parts described it."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    first_part: VariableSpec


class Directory:
    """Records the first proposal for each name. Thread-safe.

    Args:
        num_ps: Number of ps tasks in the cluster.
        note: Called with new placements while the lock is held, so in the order of recording.
    """

    def __init__(self, num_ps: int, *, note: NotePlacements = lambda _placements: None):
        self._note = note
        self._num_ps = num_ps
        # guards: _placements, _wholes; no other lock is taken under it
        self._lock = threading.Lock()
        self._placements: dict[str, Placement] = {}
        self._wholes: dict[str, _Whole] = {}

    def place(self, proposals: Sequence[Proposal]) -> list[Placement | ShardscopeError]:
        """Returns, for each proposal, what is recorded for its name now, or why nothing can be.

        An error is an ``InvalidArgumentError`` (an impossible spec, or a task that is not in the cluster), or a
        ``ShapeMismatchError`` or ``DTypeMismatchError`` (the spec differs from what is recorded for the name, or for
        another part of the same variable).
        """
        with self._lock:
            before = len(self._placements)
            answers = [self._place_or_error(proposal) for proposal in proposals]
            if len(self._placements) > before:
                self._note(list(self._placements.values())[before:])
            return answers

    def restore(self, placements: Sequence[Placement]) -> None:
        """Records what was recorded before, in its order."""
        with self._lock:
            for placement in placements:
                self._record(placement)

    def in_order(self) -> tuple[Placement, ...]:
        """All that is recorded, in the order in which it was."""
        with self._lock:
            return tuple(self._placements.values())

    def list_placements(self) -> list[Placement]:
        """All that is recorded, by name."""
        with self._lock:
            return [self._placements[name] for name in sorted(self._placements)]

    def _place_or_error(self, proposal: Proposal) -> Placement | ShardscopeError:
        try:
            return self._place(proposal)
        except ShardscopeError as error:
            return error.with_traceback(None)

    def _place(self, proposal: Proposal) -> Placement:
        spec = proposal.spec
        recorded = self._placements.get(spec.name)
        if recorded is not None:
            check_agreement(recorded.spec, spec)
            return recorded
        check_spec(spec)
        if not 0 <= proposal.ps_task < self._num_ps:
            raise InvalidArgumentError(
                f"variable {spec.name} is proposed for ps task {proposal.ps_task}, but the cluster has the ps tasks 0 "
                f"to {self._num_ps - 1}; give every process the same cluster spec",
                variable=spec.name,
            )
        self._check_whole(spec)
        placement = Placement(spec, proposal.ps_task)
        self._record(placement)
        return placement

    def _record(self, placement: Placement) -> None:
        spec = placement.spec
        self._placements[spec.name] = placement
        if spec.slice is not None:
            self._wholes.setdefault(spec.slice.full_name, _Whole(spec.dtype, spec.slice.full_shape, spec))

    def _check_whole(self, spec: VariableSpec) -> None:
        """Makes sure that a new variable agrees with the other parts of the same whole."""
        if spec.slice is None:
            whole = self._wholes.get(spec.name)
            if whole is not None:
                raise ShapeMismatchError(
                    f"variable {spec.name} is declared here in one piece as {describe_spec(spec)}, but already exists "
                    f"in parts, one of them {whole.first_part.name}; use the same partitioner everywhere",
                    variable=spec.name,
                )
            return
        in_one_piece = self._placements.get(spec.slice.full_name)
        if in_one_piece is not None:
            raise ShapeMismatchError(
                f"variable {spec.name} is declared here as {describe_spec(spec)}, but {spec.slice.full_name} already "
                f"exists in one piece as {describe_spec(in_one_piece.spec)}; use the same partitioner everywhere",
                variable=spec.name,
            )
        whole = self._wholes.get(spec.slice.full_name)
        if whole is None or (whole.dtype == spec.dtype and whole.shape == spec.slice.full_shape):
            return
        error_type = DTypeMismatchError if whole.dtype != spec.dtype else ShapeMismatchError
        raise error_type(
            f"variable {spec.name} is declared here as {describe_spec(spec)}, but {whole.first_part.name} already "
            f"exists as {describe_spec(whole.first_part)}; declare the whole alike everywhere",
            variable=spec.name,
        )
