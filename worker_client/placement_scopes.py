"""The open ``device`` and ``colocate_with`` scopes, and how they place an operation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

from worker_client.device import DeviceFunction, DeviceLike, DeviceSpec, device_function
from worker_client.operation import Operation


class _DeviceScope(NamedTuple):
    function: DeviceFunction | None
    outer: _DeviceScope | None


class DeviceScopes:
    """The device scopes that are open one inside the other; ``colocate_with`` begins anew with none.

    Attributes:
        innermost: The scope that is asked first, None if none is open.
    """

    __slots__ = ("innermost",)

    def __init__(self, innermost: _DeviceScope | None = None):
        self.innermost = innermost


class PlacementScopes:
    """The scopes that place what is created now, innermost first. Not thread-safe.

    A deferred graph shares one between its threads all the same, as TensorFlow does; there scopes that threads open at
    the same time must not overlap, or see ``Graph.switch_to_thread_local``.

    Device functions are asked from the inside out, each seeing what the ones before it have chosen, up to the first
    ``device(None)``. An operation that is colocated goes where its leader is, whatever they say.

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

    @contextmanager
    def colocate_with(self, leader: Operation | None, *, ignore_existing: bool) -> Iterator[None]:
        """Opens a scope whose operations go where ``leader`` is; device scopes around it have no say.

        Args:
            leader: The operation to stay with; None, with ``ignore_existing``, only to forget scopes around this one.
            ignore_existing: Whether to forget the colocation scopes around this one.
        """
        if leader is None and not ignore_existing:
            raise ValueError("colocate_with(None) needs ignore_existing=True, to leave the colocation around it")
        devices, leaders = self.devices, self._leaders
        self.devices = DeviceScopes()
        self._leaders = ((leader,) if leader else ()) + (() if ignore_existing else leaders)
        try:
            yield
        finally:
            self.devices, self._leaders = devices, leaders

    @contextmanager
    def unless_open(self, devices: DeviceScopes | None) -> Iterator[None]:
        """Makes other device scopes count inside the block if none of the present ones is open."""
        present = self.devices
        if devices is None or present.innermost is not None:
            yield
            return
        self.devices = devices
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


def _device_string(device: object, function: DeviceFunction) -> str:
    if isinstance(device, DeviceSpec):
        return device.to_string()
    if isinstance(device, str):
        return device
    name = getattr(function, "__qualname__", repr(function))
    raise TypeError(f"the device function {name} returned {device!r}; return a string such as '/job:ps/task:1'")
