"""The kinds of shared objects that this ps knows, by name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, TypeAlias

from ps_protocol.training.data_shards import NAMES_KIND, RECEIPTS_KIND, SHARDS_KIND
from ps_protocol.training.round_operations import GROUP_KIND, SESSION_KIND, STEP_RECEIPTS_KIND
from ps_server.objects.accumulators import ACCUMULATOR, SPARSE_ACCUMULATOR
from ps_server.objects.array_kind import ArrayObjectKind
from ps_server.objects.barrier import BARRIER
from ps_server.objects.data_shards import DATA_SHARDS
from ps_server.objects.fifo_queue import FIFO_QUEUE
from ps_server.objects.object_kind import ObjectKind
from ps_server.objects.rounds import ROUNDS
from ps_server.objects.session_start import SESSION_START
from ps_server.objects.shard_names import SHARD_NAMES
from ps_server.objects.shard_receipts import SHARD_RECEIPTS
from ps_server.objects.step_receipts import STEP_RECEIPTS
from ps_server.objects.step_tokens import STEP_TOKENS

AnyKind: TypeAlias = ObjectKind | ArrayObjectKind

OBJECT_KINDS: Final[Mapping[str, AnyKind]] = {
    "accumulator": ACCUMULATOR,
    "barrier": BARRIER,
    SHARDS_KIND: DATA_SHARDS,
    "fifo_queue": FIFO_QUEUE,
    GROUP_KIND: ROUNDS,
    NAMES_KIND: SHARD_NAMES,
    RECEIPTS_KIND: SHARD_RECEIPTS,
    SESSION_KIND: SESSION_START,
    "sparse_accumulator": SPARSE_ACCUMULATOR,
    STEP_RECEIPTS_KIND: STEP_RECEIPTS,
    "step_tokens": STEP_TOKENS,
}
