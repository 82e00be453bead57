from __future__ import annotations

import errno
import fcntl
import gc
import os
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from uuid import UUID, uuid4

import pytest

from ps_protocol.errors import InvalidArgumentError, ResourceExhaustedError, UnavailableError
from ps_protocol.memory.regions import MAX_SEGMENTS, Region
from ps_protocol.memory.segment_mapping import IS_SUPPORTED, MappedSegment
from ps_server.transport.descriptors import DescriptorReserve
from ps_server.transport.shared_memory.registry import SegmentGrant, SegmentRegistry
from tests.descriptors import open_descriptors, opened_since

pytestmark = pytest.mark.skipif(not IS_SUPPORTED, reason="this system has no memfds")

MIB = 1024**2
CLIENT = UUID(int=1)
OTHER_CLIENT = UUID(int=2)


def _number_of_new(grant: SegmentGrant, size_bytes: int) -> int:
    with grant.new_segment(size_bytes) as (segment, _):
        return segment.number


def test_a_client_sees_what_the_ps_writes() -> None:
    registry = SegmentRegistry(8 * MIB)
    with registry.grant(CLIENT).new_segment(100) as (segment, descriptor):
        mine = MappedSegment(segment.number, descriptor, segment.size_bytes)
    region = Region(segment.number, 128, 4)
    registry.bytes_of(CLIENT, region)[:] = b"here"
    assert bytes(mine.bytes_of(region)) == b"here"
    assert segment.size_bytes == 4096
    assert registry.used_bytes == 4096


def test_a_client_can_neither_shrink_nor_grow_a_segment() -> None:
    with SegmentRegistry(8 * MIB).grant(CLIENT).new_segment(MIB) as (segment, descriptor):
        for size_bytes in (0, MIB - 4096, 2 * MIB):
            with pytest.raises(PermissionError):
                os.truncate(descriptor, size_bytes)
        with pytest.raises(PermissionError):
            fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_WRITE)
        assert os.fstat(descriptor).st_size == segment.size_bytes
        assert os.fstat(descriptor).st_blocks * 512 >= MIB, "its memory is there before anybody touches it"
        assert not os.get_inheritable(descriptor)


def test_only_its_own_client_may_refer_to_a_segment() -> None:
    registry = SegmentRegistry(8 * MIB)
    number = _number_of_new(registry.grant(CLIENT), MIB)
    assert len(registry.bytes_of(CLIENT, Region(number, 0, MIB))) == MIB
    for client, region in (
        (OTHER_CLIENT, Region(number, 0, 1)),
        (CLIENT, Region(number + 1, 0, 1)),
        (CLIENT, Region(0, 0, 1)),
    ):
        with pytest.raises(UnavailableError, match="has no segment"):
            registry.bytes_of(client, region)
    for region in (Region(number, 0, MIB + 1), Region(number, 2**64 - 64, 128), Region(number, 1, 1)):
        with pytest.raises(InvalidArgumentError):
            registry.bytes_of(CLIENT, region)


def test_segments_end_with_the_connection_that_asked_for_them() -> None:
    registry = SegmentRegistry(16 * MIB)
    first, second = registry.grant(CLIENT), registry.grant(CLIENT)
    ended, left = _number_of_new(first, MIB), _number_of_new(second, MIB)
    first.close()
    with pytest.raises(UnavailableError, match=f"no segment {ended}"):
        registry.bytes_of(CLIENT, Region(ended, 0, 1))
    assert len(registry.bytes_of(CLIENT, Region(left, 0, 1))) == 1
    assert registry.used_bytes == MIB
    second.close()
    assert (registry.num_segments, registry.used_bytes) == (0, 0)


def test_memory_counts_until_the_last_batch_has_let_go_of_it() -> None:
    registry = SegmentRegistry(2 * MIB)
    grant = registry.grant(CLIENT)
    data = registry.bytes_of(CLIENT, Region(_number_of_new(grant, MIB), 0, 8))
    grant.close()
    assert registry.num_segments == 0
    assert registry.used_bytes == MIB
    data[:] = b"in use.."
    del data
    gc.collect()
    assert registry.used_bytes == 0


def test_a_segment_can_be_given_back_alone() -> None:
    registry = SegmentRegistry(8 * MIB)
    grant, others = registry.grant(CLIENT), registry.grant(OTHER_CLIENT)
    number, kept, foreign = (_number_of_new(each, MIB) for each in (grant, grant, others))
    grant.release(number)
    grant.release(number)
    grant.release(foreign)
    assert registry.num_segments == 2
    assert registry.used_bytes == 2 * MIB
    assert registry.bytes_of(CLIENT, Region(kept, 0, 1)) is not None
    assert registry.bytes_of(OTHER_CLIENT, Region(foreign, 0, 1)) is not None


def test_one_client_may_have_half_of_the_limit_and_all_together_the_whole() -> None:
    registry = SegmentRegistry(4 * MIB)
    grants = [registry.grant(uuid4()) for _ in range(3)]
    for grant in grants[:2]:
        _number_of_new(grant, 2 * MIB)
        with pytest.raises(ResourceExhaustedError, match="half of --shared-memory-limit") as raised:
            _number_of_new(grant, 1)
        assert not raised.value.retryable
    with pytest.raises(ResourceExhaustedError, match="raise --shared-memory-limit"):
        _number_of_new(grants[2], 1)
    grants[0].close()
    _number_of_new(grants[2], 2 * MIB)
    assert registry.used_bytes == 4 * MIB


def test_one_client_has_a_bounded_number_of_segments() -> None:
    grant = SegmentRegistry(1024 * MIB).grant(CLIENT)
    for _ in range(MAX_SEGMENTS):
        _number_of_new(grant, 1)
    with pytest.raises(ResourceExhaustedError, match=f"has {MAX_SEGMENTS} "):
        _number_of_new(grant, 1)


def test_the_limit_holds_for_clients_that_ask_at_once() -> None:
    registry = SegmentRegistry(8 * MIB)
    grants = [registry.grant(CLIENT if number % 2 else uuid4()) for number in range(16)]
    barrier = Barrier(len(grants))

    def ask(grant: SegmentGrant) -> bool:
        barrier.wait(10)
        try:
            _number_of_new(grant, MIB)
        except ResourceExhaustedError:
            return False
        return True

    with ThreadPoolExecutor(len(grants)) as executor:
        granted = sum(executor.map(ask, grants))
    assert 0 < granted <= 8
    assert registry.used_bytes == granted * MIB
    for grant in grants:
        grant.close()
    assert registry.used_bytes == 0


@pytest.mark.parametrize("limit_bytes", [0, 1])
def test_without_memory_to_share_nothing_is_made(limit_bytes: int) -> None:
    with pytest.raises(ResourceExhaustedError):
        _number_of_new(SegmentRegistry(limit_bytes).grant(CLIENT), 1)


@pytest.mark.parametrize("size_bytes", [0, -1])
def test_a_segment_without_bytes_is_refused(size_bytes: int) -> None:
    with pytest.raises(InvalidArgumentError):
        _number_of_new(SegmentRegistry(MIB).grant(CLIENT), size_bytes)


@pytest.mark.parametrize(
    ("function", "number"),
    [
        ("memfd_create", errno.EMFILE),
        ("memfd_create", errno.ENOMEM),
        ("posix_fallocate", errno.ENOSPC),
        ("posix_fallocate", errno.ENOMEM),
    ],
)
def test_a_system_without_memory_left_is_a_refusal_that_leaves_nothing(
    function: str, number: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    registry = SegmentRegistry(8 * MIB)
    grant, failures = registry.grant(CLIENT), []
    descriptors = open_descriptors()

    def fail(*_arguments: object) -> None:
        failures.append(function)
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, function, fail)
        with pytest.raises(ResourceExhaustedError, match=os.strerror(number)) as raised:
            _number_of_new(grant, MIB)
    assert failures == [function]
    assert not raised.value.retryable
    assert (registry.num_segments, registry.used_bytes) == (0, 0)
    assert not opened_since(descriptors)
    _number_of_new(grant, 4 * MIB)


def test_more_than_the_system_has_left_is_refused_before_it_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    registry = SegmentRegistry(8 * MIB)
    grant = registry.grant(CLIENT)

    class Memory:
        available = MIB

    monkeypatch.setattr("ps_server.transport.shared_memory.registry.psutil.virtual_memory", Memory)
    with pytest.raises(ResourceExhaustedError, match=r"has 1.0 MiB of memory left"):
        _number_of_new(grant, 2 * MIB)
    assert registry.used_bytes == 0
    _number_of_new(grant, MIB)


def test_a_kernel_that_knows_no_memory_without_execution_makes_segments_too(monkeypatch: pytest.MonkeyPatch) -> None:
    memfd_create, refused = os.memfd_create, []

    def create(name: str, flags: int) -> int:
        if flags & ~(os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING):
            refused.append(flags)
            raise OSError(errno.EINVAL, "Invalid argument")
        return memfd_create(name, flags)

    monkeypatch.setattr(os, "memfd_create", create)
    assert _number_of_new(SegmentRegistry(8 * MIB).grant(CLIENT), 1) > 0
    assert len(refused) == 1


def test_a_segment_that_cannot_be_passed_on_is_dropped() -> None:
    registry = SegmentRegistry(8 * MIB)
    grant = registry.grant(CLIENT)
    descriptors = open_descriptors()
    with pytest.raises(BrokenPipeError), grant.new_segment(MIB):
        raise BrokenPipeError
    gc.collect()
    assert (registry.num_segments, registry.used_bytes) == (0, 0)
    assert not opened_since(descriptors)


def test_a_segment_cannot_be_guessed_by_who_has_the_incarnation_of_its_client() -> None:
    registry = SegmentRegistry(8 * MIB)
    number = _number_of_new(registry.grant(CLIENT), MIB)
    assert number > 2**16
    for guess in (1, 2, number - 1, number + 1):
        with pytest.raises(UnavailableError):
            registry.bytes_of(CLIENT, Region(guess, 0, 16))
    registry.bytes_of(CLIENT, Region(number, 0, 16))


def test_no_segment_takes_a_descriptor_of_the_reserve(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(DescriptorReserve, "holds", lambda *_: True)
    registry = SegmentRegistry(8 * MIB)
    with pytest.raises(ResourceExhaustedError, match="Too many open files"):
        _number_of_new(registry.grant(CLIENT), MIB)
    assert (registry.num_segments, registry.used_bytes) == (0, 0)
