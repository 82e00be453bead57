"""The open ``device`` and ``colocate_with`` scopes, and how they place an operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from types import TracebackType
from typing import NamedTuple

from worker_client.graph.device import DeviceFunction, DeviceLike, DeviceSpec, device_function
from worker_client.graph.operation import Operation

_UNCHANGED = nullcontext()


class _DeviceScope(NamedTuple):
    function: DeviceFunction | None
    outer: _DeviceScope | None


class DeviceScopes:
    """The device scopes that are open one inside the other; ``colocate_with`` begins with none.

    Attributes:
        innermost: The scope that is asked first, None if none is open.
    """

    __slots__ = ("innermost",)

    def __init__(self, innermost: _DeviceScope | None = None):
        self.innermost = innermost


class PlacementScopes:
    """The scopes that place what is created now, innermost first. Not thread-safe.

    The threads of a deferred graph share one all the same, as in TensorFlow. Scopes that its threads open at the same
    time must not overlap; ``Graph.switch_to_thread_local`` gives each thread its own.

    Device functions are asked from the inside out, each seeing what the ones before it have chosen, up to the first
    ``device(None)``. A colocated operation goes where its leader is, whatever they answer.

    Attributes:
        devices: The device scopes that count now.
    """

    def __init__(self, like: PlacementScopes | None = None) -> None:
        self.devices: DeviceScopes = DeviceScopes(like.devices.innermost if like else None)
        self._leaders: tuple[Operation, ...] = like._leaders if like else ()

    @contextmanager
    def device(self, device: DeviceLike) -> Iterator[None]:
        """Opens a device scope.

        Raises:
            RuntimeError: Another device scope, opened inside, is still open at the end.
        """
        outer = self.devices.innermost
        scope = self.devices.innermost = _DeviceScope(device_function(device), outer)
        try:
            yield
        finally:
            if self.devices.innermost is not scope:
                raise RuntimeError(
                    f"device scope {device!r} is left while another one is innermost; leave scopes in the reverse order"
                )
            self.devices.innermost = outer

    def colocate_with(self, leader: Operation | None, *, ignore_existing: bool) -> AbstractContextManager[None]:
        """Opens a scope whose operations go where ``leader`` is; device scopes around it do not count.

        Args:
            leader: The operation to stay with; None, with ``ignore_existing``, only to forget scopes around this one.
            ignore_existing: Whether to forget the colocation scopes around this one.
        """
        if leader is None and not ignore_existing:
            raise ValueError("colocate_with(None) needs ignore_existing=True, to leave the colocation around it")
        return _Colocation(self, leader, ignore_existing=ignore_existing)

    def unless_open(self, devices: DeviceScopes | None) -> AbstractContextManager[None]:
        """Makes other device scopes count inside the block if none of the present ones is open."""
        if devices is None or devices is self.devices or self.devices.innermost is not None:
            return _UNCHANGED
        return self._instead(devices)

    @contextmanager
    def _instead(self, devices: DeviceScopes) -> Iterator[None]:
        present, self.devices = self.devices, devices
        try:
            yield
        finally:
            self.devices = present

    def place(self, operation: Operation) -> None:
        """Sets the device of an operation that is being created; errors of device functions are passed on."""
        scope = self.devices.innermost
        while scope is not None and scope.function is not None:
            operation.device = _device_string(scope.function(operation), scope.function)
            scope = scope.outer
        if self._leaders:
            operation.join_colocation_groups(self._leaders)


class _Colocation:
    """An open ``colocate_with``; a class, since every variable opens two and a generator would take longer."""

    __slots__ = ("_ignore_existing", "_leader", "_outer", "_scopes")

    def __init__(self, scopes: PlacementScopes, leader: Operation | None, *, ignore_existing: bool):
        self._outer: list[tuple[DeviceScopes, tuple[Operation, ...]]] = []  # one for each entry not yet left
        self._scopes = scopes
        self._leader = leader
        self._ignore_existing = ignore_existing

    def __enter__(self) -> None:
        scopes = self._scopes
        self._outer.append((scopes.devices, scopes._leaders))
        scopes.devices = DeviceScopes()
        scopes._leaders = (() if self._leader is None else (self._leader,)) + (
            () if self._ignore_existing else scopes._leaders
        )

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._scopes.devices, self._scopes._leaders = self._outer.pop()


def _device_string(device: object, function: DeviceFunction) -> str:
    if isinstance(device, DeviceSpec):
        return device.to_string()
    if isinstance(device, str):
        return device
    name = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"the device function {name} returned {device!r}; return a string such as '/job:ps/task:1'")
