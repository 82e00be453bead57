"""Device strings such as "/job:ps/task:1/device:CPU:0": parsing, canonical form, merging.

The grammar is TensorFlow's. Every part is optional, and the parts may come in any order: ``/job:NAME``,
``/replica:N``, ``/task:N``, and one of ``/device:TYPE:N``, ``/cpu:N``, ``/gpu:N``, ``/tpu:N``, where ``*`` stands for
any N.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import Any, NamedTuple, TypeAlias

from ps_protocol.interrupts import raise_interrupt
from worker_client.graph.operation import Operation

_SHORT_DEVICE_TYPES = frozenset({"CPU", "GPU", "TPU"})


class DeviceFields(NamedTuple):
    """What a device string says; None where it says nothing. Immutable."""

    job: str | None = None
    replica: int | None = None
    task: int | None = None
    device_type: str | None = None
    device_index: int | None = None

    def merged_with(self, stronger: DeviceFields) -> DeviceFields:
        """Returns these fields, each replaced by that of ``stronger`` where it says something."""
        said = {name: value for name, value in stronger._asdict().items() if value is not None}
        return self._replace(**said)

    def to_string(self) -> str:
        """Returns the canonical string; "" if nothing is said."""
        text = "" if self.job is None else f"/job:{self.job}"
        if self.replica is not None:
            text += f"/replica:{self.replica}"
        if self.task is not None:
            text += f"/task:{self.task}"
        if self.device_type is not None:
            text += f"/device:{self.device_type}:{'*' if self.device_index is None else self.device_index}"
        return text


@lru_cache(maxsize=1024)
def parse_device(text: str) -> DeviceFields:
    """Reads a device string; of a part given twice the last one counts.

    Raises:
        ValueError: A part is unknown, a number is none, or two parts give a device type.
    """
    fields: dict[str, Any] = {}
    for part in filter(None, text.split("/")):
        parsed = _parse_part(part, text)
        if "device_type" in parsed and "device_type" in fields:
            raise ValueError(f"the device {text!r} names two device types; name one")
        fields.update(parsed)
    return DeviceFields(**fields)


def _parse_part(part: str, text: str) -> dict[str, Any]:
    match part.split(":"):
        case ["job", name]:
            return {"job": name}
        case ["replica" | "task" as what, number]:
            return {what: _number(number, text)}
        case ["device", device_type, index]:
            return _device(device_type, index, text)
        case [short] if short.upper() in _SHORT_DEVICE_TYPES:
            return _device(short, "*", text)
        case [short, index] if short.upper() in _SHORT_DEVICE_TYPES:
            return _device(short, index, text)
    raise ValueError(
        f"{part!r} in the device {text!r} is not understood; write devices as '/job:ps/task:1' or '/device:CPU:0'"
    )


def _device(device_type: str, index: str, text: str) -> dict[str, Any]:
    return {"device_type": _type(device_type), "device_index": None if index == "*" else _number(index, text)}


def _type(device_type: str) -> str:
    return device_type.upper() if device_type in ("cpu", "gpu", "tpu") else device_type


def _number(number: Any, text: object) -> int:
    try:
        value = int(number)
    except (TypeError, ValueError) as error:
        raise_interrupt(error)
        value = -1
    if value < 0:
        raise ValueError(f"{number!r} in the device {text!r} should be a whole number from 0")
    return value


class DeviceSpec:
    """A device in parts, each of which may be missing.

    Two specs are equal when their parts are. Like TensorFlow 1's it can be changed, so do not change one that is a
    key of a dict. Not thread-safe while it is changed.

    Args:
        job: Name of the job, such as "ps".
        replica: Number of the replica.
        task: Number of the task within the job.
        device_type: "CPU", "GPU" or another type.
        device_index: Number among the devices of the type.

    Raises:
        ValueError: A number is none, or negative.
    """

    __slots__ = ("_fields",)

    def __init__(
        self,
        job: str | None = None,
        replica: int | None = None,
        task: int | None = None,
        device_type: str | None = None,
        device_index: int | None = None,
    ):
        self._fields = DeviceFields()
        self._set(job=job, replica=replica, task=task, device_type=device_type, device_index=device_index)

    @classmethod
    def from_string(cls, spec: str | None) -> DeviceSpec:
        """Reads a device string; ValueError if it is malformed."""
        return cls._of(_fields_of(spec))

    @classmethod
    def _of(cls, fields: DeviceFields) -> DeviceSpec:
        spec = cls.__new__(cls)  # the fields have been checked
        spec._fields = fields
        return spec

    def parse_from_string(self, spec: str | None) -> DeviceSpec:
        """Takes all parts from a device string and returns itself; ValueError if it is malformed."""
        self._fields = _fields_of(spec)
        return self

    def to_string(self) -> str:
        """Returns the canonical string, such as "/job:ps/task:1"; "" if all parts are missing."""
        return self._fields.to_string()

    def merge_from(self, dev: DeviceSpec) -> None:
        """Takes over the parts that ``dev`` has."""
        self._fields = self._fields.merged_with(dev._fields)

    def make_merged_spec(self, dev: DeviceSpec) -> DeviceSpec:
        """Returns a new spec with the parts of ``dev``, and with its own where ``dev`` has none."""
        return self._of(self._fields.merged_with(dev._fields))

    def replace(self, **kwargs: Any) -> DeviceSpec:
        """Returns a new spec with some parts changed; None takes a part away.

        Raises:
            TypeError: There is no part of such a name.
            ValueError: A number is none, or negative.
        """
        return type(self)(**{**self._fields._asdict(), **kwargs})

    @property
    def job(self) -> str | None:
        return self._fields.job

    @job.setter
    def job(self, job: str | None) -> None:
        self._set(job=job)

    @property
    def replica(self) -> int | None:
        return self._fields.replica

    @replica.setter
    def replica(self, replica: int | None) -> None:
        self._set(replica=replica)

    @property
    def task(self) -> int | None:
        return self._fields.task

    @task.setter
    def task(self, task: int | None) -> None:
        self._set(task=task)

    @property
    def device_type(self) -> str | None:
        return self._fields.device_type

    @device_type.setter
    def device_type(self, device_type: str | None) -> None:
        self._set(device_type=device_type)

    @property
    def device_index(self) -> int | None:
        return self._fields.device_index

    @device_index.setter
    def device_index(self, device_index: int | None) -> None:
        self._set(device_index=device_index)

    def _set(self, **parts: Any) -> None:
        self._fields = self._fields._replace(
            **{name: None if value is None else _CONVERSIONS[name](value) for name, value in parts.items()}
        )

    def __eq__(self, other: object) -> bool:
        return self._fields == other._fields if isinstance(other, DeviceSpec) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._fields)

    def __repr__(self) -> str:
        parts = ", ".join(f"{name}={value}" for name, value in self._fields._asdict().items())
        return f"<DeviceSpec({parts})>"


def _index(number: Any) -> int:
    return _number(number, "spec")


_CONVERSIONS: dict[str, Callable[[Any], Any]] = {
    "job": str,
    "replica": _index,
    "task": _index,
    "device_type": lambda device_type: _type(str(device_type)),
    "device_index": _index,
}


def _fields_of(spec: str | None) -> DeviceFields:
    if spec is None:
        return DeviceFields()
    if not isinstance(spec, str):
        raise TypeError(f"a device should be a string such as '/job:ps/task:1', not {spec!r}")
    return parse_device(spec)


DeviceFunction: TypeAlias = Callable[[Operation], "str | DeviceSpec"]
"""Chooses the device of an operation, whose own device so far is ``op.device``."""

DeviceLike: TypeAlias = "str | DeviceSpec | DeviceFunction | None"
"""What ``device()`` takes; None ignores the scopes around it."""


class MergeDevice:
    """The device function of a plain device: fills in what the operation's device does not say yet.

    Args:
        spec: A device string, or a spec, which is read now.

    Raises:
        ValueError: The string is malformed.
    """

    __slots__ = ("_fields", "_text")

    def __init__(self, spec: str | DeviceSpec):
        self._fields = spec._fields if isinstance(spec, DeviceSpec) else _fields_of(spec)
        self._text = self._fields.to_string()

    def __call__(self, operation: Operation) -> str:
        if operation.device and self._text:
            return merged_device(self._text, operation.device)
        return operation.device or self._text

    def __repr__(self) -> str:
        return f"MergeDevice({self._text!r})"


@lru_cache(maxsize=4096)
def merged_device(weaker: str, stronger: str) -> str:
    """Returns the canonical string of two devices, of which the second counts where both say something."""
    return parse_device(weaker).merged_with(parse_device(stronger)).to_string()


def device_function(device: DeviceLike) -> DeviceFunction | None:
    """Returns the function that stands for what ``device()`` was given.

    Raises:
        TypeError: It is neither a string, a spec, a function nor None.
        ValueError: It is a malformed string.
    """
    if device is None or callable(device):
        return device
    if not isinstance(device, str | DeviceSpec):
        raise TypeError(f"device() takes a string, a DeviceSpec, a function of the operation or None, not {device!r}")
    return MergeDevice(device)
