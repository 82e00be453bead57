"""Device strings and specs beyond the recorded cases of ``tests/conformance``."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any, cast

import pytest

from worker_client.graph.device import DeviceSpec, MergeDevice, device_function, merged_device, parse_device
from worker_client.graph.operation import Operation


def operation(device: str = "") -> Operation:
    return cast(Operation, SimpleNamespace(device=device))


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("/gpu", "/device:GPU:*"),
        ("/gpu:*", "/device:GPU:*"),
        ("/device:gpu:1", "/device:GPU:1"),
        ("/TPU:0", "/device:TPU:0"),
        ("/device:FOO:3", "/device:FOO:3"),
        ("//job:ps/", "/job:ps"),
        ("/task:01", "/task:1"),
        ("/device:CPU:0/task:1/replica:2/job:w", "/job:w/replica:2/task:1/device:CPU:0"),
    ],
)
def test_canonical_form(text: str, canonical: str) -> None:
    assert parse_device(text).to_string() == canonical
    assert parse_device(canonical).to_string() == canonical


@pytest.mark.parametrize(
    "text",
    ["/job", "/device:GPU", "/device:GPU:x", "/task:*", "/task:-1", "/JOB:ps", "/device:CPU:0:1", " ", "/device:CPU:"],
)
def test_malformed_devices_are_refused_by_name(text: str) -> None:
    with pytest.raises(ValueError, match=r"device") as caught:
        parse_device(text)
    assert text in str(caught.value)


@pytest.mark.parametrize("text", ["/cpu:0/gpu:1", "/cpu:0/cpu:1", "/gpu:0/device:GPU:1"])
def test_only_one_device_type(text: str) -> None:
    with pytest.raises(ValueError, match="two device types"):
        parse_device(text)


def test_the_stronger_device_wins_part_by_part() -> None:
    assert merged_device("/job:ps/task:1/gpu:2", "/job:worker/device:CPU:*") == "/job:worker/task:1/device:CPU:2"


def test_spec_has_parts_that_can_be_set() -> None:
    spec = DeviceSpec(job="ps", task=1)
    spec.job, spec.replica, spec.task, spec.device_type, spec.device_index = "w", 3, 2, "gpu", 1
    assert spec.to_string() == "/job:w/replica:3/task:2/device:GPU:1"
    assert (spec.job, spec.replica, spec.task, spec.device_type, spec.device_index) == ("w", 3, 2, "GPU", 1)
    spec.task = None
    spec.device_index = None
    assert spec.to_string() == "/job:w/replica:3/device:GPU:*"


def test_spec_without_a_type_does_not_write_its_index() -> None:
    assert DeviceSpec(device_index=1).to_string() == ""


@pytest.mark.parametrize("part", ["task", "replica", "device_index"])
@pytest.mark.parametrize("number", [-1, "x"])
def test_numbers_of_a_spec_are_checked(part: str, number: Any) -> None:
    with pytest.raises(ValueError, match="whole number"):
        DeviceSpec(**{part: number})


def test_merging_specs() -> None:
    spec = DeviceSpec(job="a", task=1)
    merged = spec.make_merged_spec(DeviceSpec(task=7))
    assert (spec.to_string(), merged.to_string()) == ("/job:a/task:1", "/job:a/task:7")
    spec.merge_from(DeviceSpec(job="b", device_type="GPU"))
    assert spec.to_string() == "/job:b/task:1/device:GPU:*"


def test_replacing_and_parsing() -> None:
    spec = DeviceSpec(job="a", task=1)
    assert spec.replace(task=None, device_type="cpu").to_string() == "/job:a/device:CPU:*"
    assert spec.parse_from_string("/task:3") is spec
    assert spec.to_string() == "/task:3"
    with pytest.raises(TypeError):
        spec.replace(nothing=1)


def test_equality_and_hash_go_by_the_parts() -> None:
    spec = DeviceSpec.from_string("/job:ps/task:1")
    assert spec == DeviceSpec(job="ps", task=1)
    assert hash(spec) == hash(DeviceSpec(job="ps", task=1))
    assert spec != DeviceSpec()
    assert spec != "/job:ps/task:1"
    assert DeviceSpec.from_string(None) == DeviceSpec()
    assert "job=ps" in repr(spec)


def test_a_plain_device_fills_in_what_is_open() -> None:
    device = MergeDevice("/job:ps/task:1")
    assert device(operation()) == "/job:ps/task:1"
    assert device(operation("/task:2")) == "/job:ps/task:2"


def test_an_empty_device_changes_nothing_not_even_a_device_it_cannot_read() -> None:
    assert MergeDevice("")(operation("nonsense")) == "nonsense"


def test_what_device_takes() -> None:
    assert device_function(None) is None

    def function(op: Operation) -> str:
        return "/cpu:0"

    assert device_function(function) is function
    made = device_function(DeviceSpec(job="ps"))
    assert made is not None
    assert made(operation()) == "/job:ps"
    with pytest.raises(TypeError, match="3"):
        device_function(cast(Any, 3))
    with pytest.raises(TypeError, match="3"):
        DeviceSpec.from_string(cast(Any, 3))
