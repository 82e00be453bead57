"""The kinds of shared objects that this ps knows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from ps_protocol.training.round_operations import GROUP_KIND
from ps_server.objects.barrier import BARRIER
from ps_server.objects.fifo_queue import FIFO_QUEUE
from ps_server.objects.object_kind import ObjectKind
from ps_server.objects.rounds import ROUNDS

OBJECT_KINDS: Final[Mapping[str, ObjectKind]] = {"barrier": BARRIER, "fifo_queue": FIFO_QUEUE, GROUP_KIND: ROUNDS}
