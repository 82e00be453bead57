"""What the client does while it is recorded, and again while it is played what was recorded.

Every call has its place here: each kind of operation, each service, errors of operations and of whole batches. All that
the client chooses by chance elsewhere is fixed. This is the only file here that knows the client's code from inside.
"""

from __future__ import annotations

import dataclasses
import enum
import hashlib
from collections.abc import Callable
from typing import Any, Final
from uuid import UUID

import ml_dtypes
import numpy as np

from ps_protocol.errors import ShardscopeError
from ps_protocol.initializer_spec import (
    ConstantKind,
    Distribution,
    FanMode,
    IdentityKind,
    InitializerKind,
    InitializerSpec,
    OrthogonalKind,
    RandomNormalKind,
    RandomUniformKind,
    TruncatedNormalKind,
    ValueKind,
    VarianceScalingKind,
)
from ps_protocol.operations import (
    Batch,
    CountUpTo,
    Declare,
    Describe,
    Gather,
    Initialize,
    PartitionSlice,
    PsOperation,
    Read,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
    WireDType,
)
from ps_protocol.service_types import Proposal, PsAddress
from worker_client.transport.selection import TransportChoice, connect_endpoint

TIMEOUT_S: Final = 120.0
CLIENT: Final = UUID(int=0xC11E47)
OTHER: Final = UUID(int=0x07E4)
STRANGER: Final = UUID(int=0x574A)

F4: Final = np.dtype(np.float32)
LARGE_SHAPE: Final = (3, 1024, 256)
"""3 MiB: more than goes in one message of gRPC."""


class Client:
    """Calls a ps, and keeps what comes of it."""

    def __init__(self, address: str, transport: str):
        self.meet(address, transport)
        self.outcomes: list[Any] = []
        self.sequences = {CLIENT: 0, OTHER: 0, STRANGER: 0}
        self.store = UUID(int=0)

    def meet(self, address: str, transport: str = "grpc") -> None:
        """Turns to a ps, as the same client."""
        self.pipelines = transport != "grpc"
        self.endpoint = connect_endpoint(address, "ps:0", TransportChoice(transport))

    def call(self, function: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        """Keeps what a call returns, or its error; returns it too."""
        try:
            result = function(*arguments, **named, timeout_s=TIMEOUT_S)
        except ShardscopeError as error:
            result = error
        self.outcomes.append(plain(result))
        return result

    def hello(self, client: UUID = CLIENT, task: str = "worker:0") -> None:
        welcome = self.endpoint.hello(client, task, timeout_s=TIMEOUT_S)
        paths = [[path.kind.name, path.shared_memory] for path in welcome.fast_paths]  # where, is up to the recording
        self.outcomes.append([welcome.task, str(welcome.store), welcome.job_seed, paths])
        self.store = welcome.store

    def batch(self, *operations: PsOperation, client: UUID = CLIENT, expected: int | None = None) -> Batch:
        batch = Batch(client, self.store, 0, operations, expected)
        if batch.mutates:
            self.sequences[client] += 1
        return dataclasses.replace(batch, sequence=self.sequences[client] if batch.mutates else 0)

    def do(self, *operations: PsOperation, client: UUID = CLIENT, expected: int | None = None) -> Batch:
        """Exchanges a batch."""
        batch = self.batch(*operations, client=client, expected=expected)
        self.call(self.endpoint.transport.exchange, batch)
        return batch

    def close(self) -> None:
        self.endpoint.close()


def plain(value: Any) -> Any:
    """Returns a value in the terms of JSON, with every bit of its arrays."""
    if isinstance(value, ShardscopeError):
        fields = ("message", "variable", "task", "retryable", "retry_after_s")
        return {"code": value.code.name} | {name: plain(getattr(value, name)) for name in fields}
    if dataclasses.is_dataclass(value):
        return {each.name: plain(getattr(value, each.name)) for each in dataclasses.fields(value)}
    if isinstance(value, np.ndarray):
        return [value.dtype.name, list(value.shape), compact(value.tobytes())]
    match value:
        case enum.Enum():
            return value.name
        case list() | tuple():
            return [plain(each) for each in value]
        case bytes():
            return value.hex()
        case np.dtype():
            return value.name
        case UUID():
            return str(value)
        case _:
            return value


def compact(data: bytes) -> str:
    """Returns bytes in hexadecimal digits; many of them as a digest."""
    return data.hex() if len(data) <= 64 else hashlib.sha256(data).hexdigest()


def values(*shape: int, dtype: Any = F4, step: float = 0.25) -> Any:
    """Returns numbers that every form writes in its own way."""
    return (np.arange(np.prod(shape, dtype=int)) * step - 3).reshape(shape).astype(dtype)


# -- operations ------------------------------------------------------------------------------------


def every_operation(client: Client) -> None:
    """Every kind of operation, with every rule and form, and their errors."""
    client.hello()
    declarations(client)
    updates(client)
    rows(client)
    reads(client)
    refusals(client)
    large_tensors(client)
    pipelined(client)
    client.call(client.endpoint.goodbye, CLIENT)


def declarations(client: Client) -> None:
    kinds: dict[str, InitializerKind] = {
        "constant": ConstantKind(2.5),
        "uniform": RandomUniformKind(-1.0, 1.0),
        "normal": RandomNormalKind(0.5, 0.1),
        "truncated": TruncatedNormalKind(0.0, 1.0),
        "scaled": VarianceScalingKind(2.0, FanMode.FAN_AVG, Distribution.UNTRUNCATED_NORMAL),
        "orthogonal": OrthogonalKind(1.5),
        "identity": IdentityKind(3.0),
        "value": ValueKind(values(4, 4)),
    }
    client.do(
        *(
            Declare(VariableSpec(f"kinds/{name}", F4, (4, 4)), InitializerSpec(kind, seed=-7))
            for name, kind in kinds.items()
        )
    )
    dtypes = ("float16", "float64", "bfloat16", "int8", "uint16", "int32", "int64", "bool", "complex64", "S5")
    client.do(*(Declare(VariableSpec(f"dtypes/{name}", np.dtype(name), (3,))) for name in dtypes))
    client.do(
        *(
            Initialize(f"dtypes/{name}", InitializerSpec(ValueKind(values(3, dtype=name, step=1.0))))
            for name in dtypes
            if name not in {"uint16", "S5"}
        ),
        Initialize("dtypes/S5", InitializerSpec(ValueKind(np.array([b"a", b"hello", b""], "S5")))),
    )
    client.do(*(Read(f"dtypes/{name}") for name in dtypes))  # of uint16 there is no value yet
    parts = [
        VariableSpec(f"table/part_{index}", F4, (2, 3), PartitionSlice("table", (4, 3), (2 * index, 0)))
        for index in range(2)
    ]
    client.do(*(Declare(part, InitializerSpec(RandomUniformKind(0.0, 1.0), seed=5)) for part in parts))
    client.do(*(Describe(part.name) for part in parts), *(Read(part.name) for part in parts))
    client.do(
        Declare(VariableSpec("blocks", F4, (300,)), InitializerSpec(ConstantKind(0.0))),
        Declare(VariableSpec("rows", F4, (4, 3)), InitializerSpec(ConstantKind(1.0))),
        Declare(VariableSpec("cube", np.dtype(np.int64), (2, 3, 2)), InitializerSpec(ConstantKind(6.0))),
        Declare(VariableSpec("steps", np.dtype(np.int64), ()), InitializerSpec(ConstantKind(0.0))),
        Declare(VariableSpec("empty", F4, (0, 3)), InitializerSpec(ConstantKind(0.0))),
        Declare(VariableSpec("bare", F4, (2,))),
    )
    client.do(Initialize("rows", InitializerSpec(ConstantKind(9.0))))  # which keeps what it has
    client.do(Initialize("rows", InitializerSpec(ConstantKind(2.0)), overwrite=True))
    client.do(*(Describe(f"kinds/{name}") for name in kinds), Describe("bare"), Describe("nothing"))


def updates(client: Client) -> None:
    for rule in UpdateRule:
        for wire in WireDType:
            client.do(Update("blocks", rule, values(300, step=0.0625), wire))
    client.do(Update("blocks", UpdateRule.ASSIGN_ADD, np.array(0.5, F4)))
    client.do(Update("bare", UpdateRule.ASSIGN, values(2)))
    client.do(Update("dtypes/float64", UpdateRule.ASSIGN_SUB, values(3, dtype=np.float64), WireDType.BFLOAT16))
    client.do(Update("dtypes/bfloat16", UpdateRule.ASSIGN_ADD, values(3, dtype=ml_dtypes.bfloat16)))
    client.do(Update("empty", UpdateRule.ASSIGN_ADD, values(0, 3)))
    client.do(*(Update("rows", UpdateRule.ASSIGN_ADD, values(4, 3)) for _ in range(40)))


def rows(client: Client) -> None:
    for rule in ScatterRule:
        client.do(Scatter("rows", rule, np.array([0, 2, 2], np.int32), values(3, 3) + F4.type(0.5)))
    client.do(Scatter("rows", ScatterRule.ADD, np.array([[1], [3]], np.int64), values(2, 1, 3), wire=WireDType.INT8))
    client.do(Scatter("rows", ScatterRule.MUL, np.array([1], np.int64), np.array(2, F4)))
    pairs = np.array([5, 0], np.int64)
    client.do(
        Scatter("cube", ScatterRule.SUB, pairs, values(2, 2, dtype=np.int64, step=1), index_depth=2),
        Gather("cube", pairs, index_depth=2),
        Gather("cube", np.array([[1, 0]], np.int32)),
    )
    client.do(*(Gather("rows", np.array([3, 0, 3], np.int32), wire=wire) for wire in WireDType))
    client.do(*(CountUpTo("steps", 2) for _ in range(3)))  # the last one is refused


def reads(client: Client) -> None:
    client.do(*(Read("blocks", wire=wire) for wire in WireDType))
    client.do(Read("rows"), Read("blocks", unless_version=13), Read("blocks", unless_version=12), Read("empty"))
    client.do(Read("cube", unless_version=0), expected=96)
    client.do(Read("kinds/uniform"), Read("kinds/value"), Read("kinds/identity"), Read("steps"), expected=256)


def refusals(client: Client) -> None:
    """Errors of operations, then of whole batches."""
    client.do(
        Declare(VariableSpec("rows", F4, (5, 3))),
        Declare(VariableSpec("rows", np.dtype(np.float64), (4, 3))),
        Read("nothing"),
        Read("dtypes/uint16"),
        Update("rows", UpdateRule.ASSIGN_ADD, values(3, 4)),
        Update("rows", UpdateRule.ASSIGN, values(4, 3, dtype=np.float64)),
        Scatter("rows", ScatterRule.ADD, np.array([4], np.int32), values(1, 3)),
        Gather("rows", np.array([-1], np.int64)),
        CountUpTo("rows", 3),
        Update("rows", UpdateRule.ASSIGN_ADD, np.array(1, F4)),
    )
    again = client.do(Update("rows", UpdateRule.ASSIGN_ADD, np.array(1, F4)), Read("rows"))
    client.call(client.endpoint.transport.exchange, again)  # answered, and not applied
    client.do(Read("rows"))
    client.call(client.endpoint.transport.exchange, dataclasses.replace(again, sequence=0))
    client.call(client.endpoint.transport.exchange, dataclasses.replace(client.batch(Read("rows")), store=STRANGER))


def large_tensors(client: Client) -> None:
    large = VariableSpec("large", F4, LARGE_SHAPE)
    full = np.full(LARGE_SHAPE, 1.5, F4)
    client.do(Declare(large, InitializerSpec(ValueKind(full))), Read("steps"), expected=8)
    client.do(Update("large", UpdateRule.ASSIGN_ADD, full))
    client.do(Read("large"))
    client.do(Read("large"), Read("rows"), expected=large.size_bytes + 48)
    client.do(Read("large"), expected=4)  # less than comes: over gRPC it is refused


def pipelined(client: Client) -> None:
    """Several batches before the first reply, where the transport can."""
    if not client.pipelines:
        return
    begin = client.endpoint.transport.begin
    one = Update("rows", UpdateRule.ASSIGN_ADD, np.array(1, F4))
    begun = [
        begin(client.batch(one, Describe("rows"), expected=0), timeout_s=TIMEOUT_S),
        begin(client.batch(Read("rows"), expected=48), timeout_s=TIMEOUT_S),
        begin(client.batch(one, one, expected=0), timeout_s=TIMEOUT_S),
    ]
    for each in begun:
        if each is not None:
            client.outcomes.append(plain(each.finish()))


def shared_tensors(client: Client) -> None:
    """Tensors in shared memory, in both directions."""
    client.hello()
    shape = (160, 128)
    size_bytes = 160 * 128 * 4
    client.do(
        *(
            Declare(VariableSpec(f"shared/{index}", F4, shape), InitializerSpec(ConstantKind(index)))
            for index in range(2)
        )
    )
    rising = np.tile(values(128), (160, 1))
    client.do(Update("shared/0", UpdateRule.ASSIGN, rising), Update("shared/1", UpdateRule.ASSIGN_SUB, rising))
    client.do(Update("shared/0", UpdateRule.ASSIGN_ADD, rising, WireDType.FLOAT16), expected=0)
    indices = np.arange(0, 160, 2)
    client.do(Scatter("shared/1", ScatterRule.ADD, indices, np.full((80, 128), 0.5, F4)))
    client.do(Read("shared/0"), Read("shared/1", wire=WireDType.BFLOAT16), expected=2 * size_bytes)
    client.do(Gather("shared/1", indices.astype(np.int32)), Read("shared/0"), expected=3 * size_bytes // 2)
    client.do(Read("shared/0"), Read("nothing"), expected=8)  # no room for it was offered
    client.call(client.endpoint.goodbye, CLIENT)


# -- the other services ----------------------------------------------------------------------------


def every_service(client: Client) -> None:
    """All that is not data, up to the end of the ps."""
    service, call = client.endpoint.service, client.call
    client.hello()
    client.hello(OTHER, "cli:0")
    membership(client)
    specs = [
        VariableSpec("here", F4, (2,)),
        VariableSpec("there", np.dtype(ml_dtypes.bfloat16), (2, 2), PartitionSlice("whole", (4, 2), (2, 0))),
    ]
    call(service.place, [Proposal(specs[0], 0), Proposal(specs[1], 1)], store=client.store)
    call(service.place, [Proposal(specs[0], 1), Proposal(dataclasses.replace(specs[1], shape=(1, 2)), 1)])
    call(service.place, [Proposal(specs[0], 0)], store=STRANGER)
    call(service.list_placements)
    client.do(Declare(specs[0], InitializerSpec(ConstantKind(1.0))), Update("here", UpdateRule.ASSIGN_ADD, values(2)))
    client.do(Declare(specs[1]), client=OTHER)
    call(service.list_variables)
    call(service.status)
    call(service.goodbye, OTHER)
    client.do(Update("here", UpdateRule.ASSIGN_ADD, values(2)), client=OTHER)  # which has gone
    client.do(Update("here", UpdateRule.ASSIGN_ADD, values(2)), client=STRANGER)  # which has not said hello
    call(service.drain, "it is recorded")
    client.do(Update("here", UpdateRule.ASSIGN_ADD, values(2)))
    call(service.status)
    call(service.shutdown, "the recording ends")


def membership(client: Client) -> None:
    service, call = client.endpoint.service, client.call
    call(service.join, "worker:0", CLIENT, "somehost", 1234, lease_s=3600.0, age_s=0.5)
    call(service.join, "worker:1", OTHER, "otherhost", 5678)
    call(service.heartbeat, "worker:0", CLIENT)
    call(service.heartbeat, "worker:0", CLIENT, 0)
    call(service.heartbeat, "worker:0", CLIENT, 42)
    call(service.heartbeat, "worker:2", OTHER, 1)  # which has not joined
    call(service.heartbeat, "worker:0", STRANGER, 43)  # another process of that name
    call(service.report_progress, "worker:1", OTHER, 7)
    call(service.leave, "worker:1", OTHER)
    call(service.announce, PsAddress("ps:1", "ps1.example:2222", OTHER, 3), "somehost", 99, lease_s=3600.0, age_s=2.0)
    call(service.announce, PsAddress("ps:1", "ps1.example:2223", STRANGER, 2), "somehost", 98)  # an older epoch
    call(service.list_addresses)
    call(service.list_members)


# -- a ps task whose state survives ----------------------------------------------------------------

LARGE_PUSH: Final = (3, 64, 256)
"""192 KiB: more than the journal keeps among its records."""


def first_changes(client: Client) -> None:
    """Changes of every kind: variables of several dtypes, clients that stay and that go, placements."""
    client.hello()
    client.hello(OTHER, "worker:1")
    client.hello(STRANGER, "worker:2")
    parts = [
        VariableSpec(f"table/part_{index}", F4, (2, 3), PartitionSlice("table", (4, 3), (2 * index, 0)))
        for index in range(2)
    ]
    specs = [
        VariableSpec("weights", F4, (4, 3)),
        VariableSpec("half", np.dtype(ml_dtypes.bfloat16), (5,)),
        VariableSpec("bare", F4, (2,)),
        VariableSpec("words", np.dtype("S5"), (2,)),
        VariableSpec("flags", np.dtype(bool), (3,)),
        VariableSpec("waves", np.dtype(np.complex64), (2,)),
        VariableSpec("large", F4, LARGE_PUSH),
        parts[0],
    ]
    weights, half, bare, words, flags, waves, large, part = specs
    client.call(client.endpoint.service.place, [Proposal(spec, 0) for spec in specs] + [Proposal(parts[1], 1)])
    client.do(
        Declare(weights, InitializerSpec(ValueKind(values(4, 3)))),
        Declare(half, InitializerSpec(ConstantKind(1.5))),
        Declare(bare),
        Declare(words, InitializerSpec(ValueKind(np.array([b"a", b"hello"], "S5")))),
        Declare(flags, InitializerSpec(ValueKind(np.array([True, False, True])))),
        Declare(waves, InitializerSpec(ValueKind(values(2, dtype=np.complex64)))),
        Declare(large, InitializerSpec(ConstantKind(0.0))),
        Declare(part, InitializerSpec(RandomUniformKind(0.0, 1.0), seed=5)),
        client=OTHER,
    )
    client.do(Update("weights", UpdateRule.ASSIGN_ADD, values(4, 3), WireDType.FLOAT16), Read("weights"))
    client.do(Scatter("weights", ScatterRule.UPDATE, np.array([1]), values(1, 3)), client=OTHER)
    client.do(Declare(VariableSpec("steps", np.dtype(np.int64), ()), InitializerSpec(ConstantKind(3.0))))
    client.do(CountUpTo("steps", 9), Update("half", UpdateRule.ASSIGN_SUB, values(5, dtype=ml_dtypes.bfloat16)))
    client.do(Update("table/part_0", UpdateRule.ASSIGN_ADD, values(2, 3), WireDType.INT8), client=STRANGER)
    client.do(Update("large", UpdateRule.ASSIGN_ADD, np.full(LARGE_PUSH, 0.25, F4)))
    client.call(client.endpoint.goodbye, STRANGER)


def first_and_huge_changes(client: Client) -> None:
    """With some that do not go in one frame from a primary to its follower."""
    first_changes(client)
    shape = (5, 1024, 256)
    client.do(Declare(VariableSpec("huge", F4, shape), InitializerSpec(ValueKind(np.full(shape, 0.5, F4)))))
    client.do(Update("huge", UpdateRule.ASSIGN_ADD, np.full(shape, 0.25, F4)))


def last_changes(client: Client) -> Batch:
    """More of them; returns the last batch, of which a part was refused."""
    client.hello()
    client.do(Update("large", UpdateRule.ASSIGN, np.full(LARGE_PUSH, 0.5, F4)))
    client.do(Initialize("bare", InitializerSpec(ValueKind(values(2)))))
    client.do(
        Initialize("weights", InitializerSpec(ConstantKind(0.5)), overwrite=True),
        Update("nothing", UpdateRule.ASSIGN_ADD, values(2)),
    )
    subtract = Update("weights", UpdateRule.ASSIGN_SUB, values(4, 3))
    return client.do(subtract, CountUpTo("steps", 2), CountUpTo("steps", 9))


def looks_at_the_state(client: Client, last: Batch) -> None:
    """What is there; a batch that is sent again is answered, and not applied."""
    client.hello()
    client.call(client.endpoint.transport.exchange, dataclasses.replace(last, store=client.store))
    client.do(
        *(Read(name) for name in ("weights", "half", "bare", "words", "flags", "waves", "large", "steps")),
        Read("table/part_0"),
        Describe("table/part_0"),
        Describe("nothing"),
    )
    client.call(client.endpoint.service.list_placements)
    client.call(client.endpoint.service.list_variables)
    client.do(Update("half", UpdateRule.ASSIGN_ADD, values(5, dtype=ml_dtypes.bfloat16)), Read("half"), client=OTHER)
    client.do(Update("half", UpdateRule.ASSIGN, values(5, dtype=ml_dtypes.bfloat16)), client=STRANGER)  # it has gone
