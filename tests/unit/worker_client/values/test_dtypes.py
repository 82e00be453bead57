from __future__ import annotations

import copy
import pickle
import sys

import ml_dtypes
import numpy as np
import pytest

from ps_protocol.dtype_traits import dtype_category
from worker_client.values import dtypes
from worker_client.values.dtypes import DType, as_dtype

NUMBERS = [
    "float16",
    "bfloat16",
    "float32",
    "float64",
    "int8",
    "int16",
    "int32",
    "int64",
    "uint8",
    "uint16",
    "uint32",
    "uint64",
    "complex64",
    "complex128",
    "bool",
]


class TestAsDType:
    @pytest.mark.parametrize("name", NUMBERS)
    def test_names_face_and_numpy_type_mean_the_same(self, name: str) -> None:
        face = getattr(dtypes, name)
        expected = np.dtype(ml_dtypes.bfloat16 if name == "bfloat16" else name)
        for value in (name, face, expected, expected.type):
            assert as_dtype(value) is not None
            assert as_dtype(value) == expected

    @pytest.mark.parametrize(
        ("value", "expected"),
        [
            (float, np.float32),  # as in TensorFlow 1, unlike NumPy
            ("float", np.float32),
            ("double", np.float64),
            ("half", np.float16),
            (int, np.int64),
            (bool, np.bool_),
            ("float8_e5m2", ml_dtypes.float8_e5m2),
            (">f4", np.float32),
            (np.dtype(">i8"), np.int64),
            ("S16", "S16"),
            (str, "S"),
            (bytes, "S"),
            ("string", "S"),
        ],
    )
    def test_meanings(self, value: object, expected: type | str) -> None:
        assert as_dtype(value) == np.dtype(expected)
        assert as_dtype(value).isnative

    @pytest.mark.parametrize("value", [None, object, "nonsense", "finfo", "M8[s]", "U4", 3.5, [("field", "f4")], []])
    def test_what_no_variable_can_hold_is_a_type_error(self, value: object) -> None:
        with pytest.raises(TypeError, match="dtype"):
            as_dtype(value)


class TestDType:
    @pytest.mark.parametrize("name", NUMBERS)
    def test_name_is_numpys(self, name: str) -> None:
        face: DType = getattr(dtypes, name)
        assert face.name == name
        assert (str(face), repr(face)) == (f"<dtype: '{name}'>", f"tf.{name}")
        assert face.base_dtype.name == name

    @pytest.mark.parametrize("name", NUMBERS)
    def test_it_equals_its_numpy_dtype_from_either_side(self, name: str) -> None:
        face: DType = getattr(dtypes, name)
        numpy_dtype = as_dtype(name)
        for other in (numpy_dtype, numpy_dtype.type, name, DType(numpy_dtype)):
            assert face == other
            assert other == face
        assert hash(face) == hash(numpy_dtype)
        keys: dict[object, int] = {numpy_dtype: 1}
        assert keys[face] == 1
        assert dtype_category(numpy_dtype) is dtype_category(face)

    def test_it_differs_from_other_dtypes_and_from_what_is_none(self) -> None:
        assert dtypes.float32 != dtypes.float64
        assert dtypes.float32 != np.float64
        assert np.dtype(np.float64) != dtypes.float32
        assert dtypes.float32 != "nonsense"
        assert dtypes.float64 != None  # noqa: E711 - to NumPy None is float64

    def test_numpy_takes_it_wherever_it_takes_a_dtype(self) -> None:
        assert np.zeros(2, dtype=dtypes.bfloat16).dtype == dtypes.bfloat16
        assert np.ones(2).astype(dtypes.int32).dtype == np.int32
        assert np.dtype(dtypes.complex64) == np.complex64

    @pytest.mark.parametrize(
        ("face", "flags"),
        [
            (dtypes.bool, "bool"),
            (dtypes.int8, "integer"),
            (dtypes.uint64, "integer unsigned"),
            (DType(np.dtype(ml_dtypes.uint4)), "integer unsigned"),
            (dtypes.bfloat16, "floating"),
            (dtypes.float64, "floating"),
            (dtypes.complex64, "complex"),
            (dtypes.string, ""),
        ],
    )
    def test_what_it_holds(self, face: DType, flags: str) -> None:
        kinds = ["bool", "integer", "unsigned", "floating", "complex"]
        assert " ".join(kind for kind in kinds if getattr(face, f"is_{kind}")) == flags

    def test_size_and_numpy_type(self) -> None:
        assert (dtypes.float32.size, dtypes.complex128.size, dtypes.string.size) == (4, 16, 0)
        assert dtypes.float32.as_numpy_dtype is np.float32

    def test_bytes_of_any_length_are_strings(self) -> None:
        sixteen = DType(np.dtype("S16"))
        assert (sixteen.name, sixteen.size) == ("S16", 16)
        assert sixteen.base_dtype is dtypes.string
        assert dtypes.string.name == "string"
        assert sixteen != dtypes.string

    def test_it_can_be_copied_and_pickled(self) -> None:
        assert pickle.loads(pickle.dumps(dtypes.bfloat16)) == dtypes.bfloat16
        assert copy.deepcopy(dtypes.float32) == dtypes.float32

    def test_names_for_what_is_the_same(self) -> None:
        assert dtypes.half is dtypes.float16
        assert dtypes.double is dtypes.float64


class TestTensorFlowsAttributes:
    def test_limits(self) -> None:
        assert (dtypes.int8.min, dtypes.int8.max, dtypes.int8.limits) == (-128, 127, (0, 127))
        assert dtypes.float32.max == np.finfo(np.float32).max
        assert (dtypes.float32.limits, dtypes.bool.limits) == ((0, 1), (0, True))
        assert float(dtypes.bfloat16.max) > 3e38
        for refused in (dtypes.string, dtypes.complex64, dtypes.bool):
            with pytest.raises(TypeError, match=refused.name):
                _ = refused.max
        for refused in (dtypes.string, dtypes.complex64, dtypes.float16):
            with pytest.raises(ValueError, match=refused.name):
                _ = refused.limits

    def test_kinds(self) -> None:
        assert (dtypes.complex64.real_dtype, dtypes.int32.real_dtype) == (dtypes.float32, dtypes.int32)
        assert dtypes.float32.is_compatible_with("float32")
        assert not dtypes.float32.is_compatible_with(dtypes.float64)

    def test_numbers(self) -> None:
        assert dtypes.float32.as_datatype_enum == 1
        assert dtypes.DType(1) == np.float32  # type: ignore[arg-type]  # TensorFlow's number
        assert as_dtype(9) == np.int64
        assert dtypes.DType(np.dtype("int32")) is not None
        with pytest.raises(TypeError, match="999"):
            as_dtype(999)

    def test_what_numpys_code_asks_for(self) -> None:
        dtype = dtypes.DType.of(np.dtype(np.float32))
        assert dtype is dtypes.DType.of(np.dtype(np.float32))
        assert (dtype.kind, dtype.itemsize, dtype.type) == ("f", 4, np.float32)


def test_numpy_compares_with_a_dtype_without_a_line_of_python() -> None:
    """What a signal handler raised there NumPy would take for a no."""
    called: list[str] = []
    plain = np.dtype(np.float32)
    sys.setprofile(lambda frame, event, _: called.append(frame.f_code.co_name) if event == "call" else None)
    equal, different = plain == dtypes.float32, plain != dtypes.float32
    sys.setprofile(None)
    assert (equal, different) == (True, False)
    assert called == []
