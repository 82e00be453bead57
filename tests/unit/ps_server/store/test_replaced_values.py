"""Values that are replaced by ones of another layout: what the variable is like then, and what goes back."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError, ResourceExhaustedError, ShapeMismatchError
from ps_protocol.initializer_spec import ConstantKind, InitializerSpec
from ps_protocol.operations import (
    Array,
    Declare,
    Describe,
    Gather,
    Initialize,
    PartitionSlice,
    Read,
    Replace,
    Scatter,
    ScatterRule,
    Update,
    UpdateRule,
    VariableSpec,
)
from ps_server.durability.snapshots.manifest import FileSummary, Manifest, StoredValue, decode_manifest, encode_manifest
from ps_server.log.state_image import StateImage
from ps_server.replication.image_codec import ImageBuilder, encode_image
from ps_server.store.stored_variable import VariableImage
from ps_server.store.variable_store import VariableStore
from tests.unit.ps_server.waiting import PATIENCE_S

FLOAT = np.dtype(np.float32)
ONES = InitializerSpec(ConstantKind(1.0))
W = VariableSpec("w", FLOAT, (2,))
MATRIX = np.arange(6, dtype=FLOAT).reshape(3, 2)


def made(spec: VariableSpec = W, initializer: InitializerSpec | None = ONES, **options: Any) -> VariableStore:
    store = VariableStore(**options)
    store.declare(Declare(spec, initializer), PATIENCE_S)
    return store


def value(store: VariableStore, name: str = "w") -> Array:
    tensor = store.read(Read(name)).tensor
    assert tensor is not None
    return tensor


def test_a_value_of_another_shape_gives_the_variable_that_shape() -> None:
    store = made()
    assert store.replace(Replace("w", MATRIX)).version == 1
    np.testing.assert_array_equal(value(store), MATRIX)
    assert store.describe(Describe("w")).spec == VariableSpec("w", FLOAT, (3, 2))
    assert store.variable_bytes == MATRIX.nbytes
    store.update(Update("w", UpdateRule.ASSIGN_ADD, MATRIX))
    store.scatter(Scatter("w", ScatterRule.ADD, np.array([2]), MATRIX[:1]))
    rows = store.gather(Gather("w", np.array([2]))).tensor
    assert rows is not None
    assert rows.tolist() == [[8, 11]]
    with pytest.raises(ShapeMismatchError):
        store.update(Update("w", UpdateRule.ASSIGN, MATRIX[0]))


def test_what_was_declared_stays_what_declarations_agree_with_and_initialising_goes_back_to() -> None:
    store = made()
    store.replace(Replace("w", MATRIX))
    store.declare(Declare(W, ONES), PATIENCE_S)
    with pytest.raises(ShapeMismatchError):
        store.declare(Declare(VariableSpec("w", FLOAT, (3, 2))), PATIENCE_S)
    np.testing.assert_array_equal(value(store), MATRIX)
    store.initialize(Initialize("w", ONES, overwrite=True), PATIENCE_S)
    assert value(store).tolist() == [1, 1]
    assert (store.spec_of("w"), store.variable_bytes) == (W, W.size_bytes)


def test_a_value_can_be_the_first_one() -> None:
    store = made(initializer=None)
    store.replace(Replace("w", MATRIX))
    np.testing.assert_array_equal(value(store), MATRIX)


def test_bytes_may_have_another_length() -> None:
    store = made(VariableSpec("w", np.dtype("S1"), ()), initializer=None)
    for text in (b"a longer one", b"short"):
        store.replace(Replace("w", np.array(text), keeps_shape=True))
        assert value(store)[()] == text


def test_rows_of_bytes_may_be_longer_than_what_is_there() -> None:
    store = made(VariableSpec("w", np.dtype("S1"), (2,)), InitializerSpec(ConstantKind(0.0)))
    store.scatter(Scatter("w", ScatterRule.UPDATE, np.array([1]), np.array([b"longer"])))
    store.scatter(Scatter("w", ScatterRule.UPDATE, np.array([0]), np.array([b"s"])))
    assert value(store).tolist() == [b"s", b"longer"]
    assert store.variable_bytes == 12
    with pytest.raises(InvalidArgumentError):
        store.scatter(Scatter("w", ScatterRule.UPDATE, np.array([2]), np.array([b"much longer"])))
    assert (value(store).tolist(), store.variable_bytes) == ([b"s", b"longer"], 12)


@pytest.mark.parametrize(
    ("operation", "error"),
    [
        (Replace("w", MATRIX.astype(np.float64)), DTypeMismatchError),
        (Replace("w", np.array([b"a", b"b"])), DTypeMismatchError),
        (Replace("w", MATRIX, keeps_shape=True), ShapeMismatchError),
    ],
)
def test_what_does_not_fit_changes_nothing(operation: Replace, error: type[Exception]) -> None:
    store = made()
    with pytest.raises(error):
        store.replace(operation)
    assert (value(store).tolist(), store.read(Read("w")).version) == ([1, 1], 0)


def test_the_shape_of_a_part_stays() -> None:
    store = made(VariableSpec("w", FLOAT, (2,), PartitionSlice("whole", (4,), (0,))))
    with pytest.raises(ShapeMismatchError):
        store.replace(Replace("w", MATRIX))


def test_the_memory_limit_counts() -> None:
    store = made(memory_limit_bytes=16)
    with pytest.raises(ResourceExhaustedError):
        store.replace(Replace("w", MATRIX))
    assert (value(store).tolist(), store.variable_bytes) == ([1, 1], 8)


def test_operations_that_meet_a_replacement_go_by_the_new_layout() -> None:
    store, large = made(VariableSpec("w", FLOAT, (20_000,))), np.zeros((2, 20_000), FLOAT)
    variable, readings = store.variables.find("w"), []
    with variable.lock:  # a reader has looked at the layout, and waits for the lock
        reader = threading.Thread(target=lambda: readings.append(store.read(Read("w")).tensor))
        reader.start()
        store.replace(Replace("w", large))
    reader.join(PATIENCE_S)
    assert [each.shape for each in readings if each is not None] == [(2, 20_000)]


def test_snapshots_and_backups_know_both_layouts() -> None:
    store = made()
    store.replace(Replace("w", MATRIX))
    (image,) = store.variables.images()
    assert (image.spec.shape, image.declared) == ((3, 2), W)
    stored = StoredValue(image.spec, image.version, True, 0, 0, image.declared)
    manifest = Manifest(1, 0.0, (stored,), 24, FileSummary(0, 0), FileSummary(0, 0))
    assert decode_manifest(encode_manifest(manifest)) == manifest
    builder, received = ImageBuilder(), None
    for part, buffers in encode_image(StateImage(1, (image,), ())):
        received = builder.add(part, memoryview(b"".join(buffers)))
    assert received is not None
    restored = VariableStore()
    (there,) = received.variables
    assert isinstance(there, VariableImage)
    restored.variables.restore(there)
    restored.declare(Declare(W), PATIENCE_S)
    np.testing.assert_array_equal(value(restored), MATRIX)
