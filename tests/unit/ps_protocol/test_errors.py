"""The error tree: each code its class, and what an error carries."""

from __future__ import annotations

import importlib
import pickle

import pytest

from ps_protocol import errors
from ps_protocol.errors import ERROR_TYPES, ErrorCode, ShardscopeError, error_for


def test_every_code_has_a_class_of_its_own() -> None:
    assert set(ERROR_TYPES) == set(ErrorCode)
    assert len(set(ERROR_TYPES.values())) == len(ErrorCode)
    assert all(error_type.code is code for code, error_type in ERROR_TYPES.items())


def test_every_class_is_the_one_of_its_code() -> None:
    classes = {
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, ShardscopeError) and "code" in vars(each)
    }
    assert classes == {*ERROR_TYPES.values(), ShardscopeError}


@pytest.mark.parametrize("code", ErrorCode)
def test_an_error_is_made_from_its_code(code: ErrorCode) -> None:
    error = error_for(int(code), "what happened", variable="w", task="ps:0", retryable=True, retry_after_s=0.5)
    assert type(error) is ERROR_TYPES[code]
    assert (error.message, error.variable, error.task) == ("what happened", "w", "ps:0")
    assert (error.retryable, error.retry_after_s) == (True, 0.5)


@pytest.mark.parametrize("code", [0, -1, 99])
def test_a_code_that_is_not_known_makes_an_unknown_error(code: int) -> None:
    assert type(error_for(code, "new")) is errors.UnknownError


@pytest.mark.parametrize("code", ErrorCode)
def test_what_is_retryable_unless_said_otherwise(code: ErrorCode) -> None:
    by_default = {ErrorCode.UNAVAILABLE, ErrorCode.ABORTED, ErrorCode.RESOURCE_EXHAUSTED}
    assert ERROR_TYPES[code]("x").retryable is (code in by_default)
    assert not ERROR_TYPES[code]("x", retryable=False).retryable


@pytest.mark.parametrize(
    ("error_type", "python_type"),
    [
        (errors.ShapeMismatchError, ValueError),
        (errors.ShapeMismatchError, errors.InvalidArgumentError),
        (errors.DTypeMismatchError, TypeError),
        (errors.DTypeMismatchError, errors.InvalidArgumentError),
        (errors.DeadlineExceededError, TimeoutError),
        (errors.StateLostError, errors.FailedPreconditionError),
    ],
)
def test_is_caught_as_the_more_general_kind(error_type: type[ShardscopeError], python_type: type[Exception]) -> None:
    with pytest.raises(python_type):
        raise error_type("x")


def test_shows_the_task_before_the_message() -> None:
    assert str(errors.NotFoundError("no such variable", task="ps:1")) == "[ps:1] no such variable"
    assert str(errors.NotFoundError("no such variable")) == "no such variable"


@pytest.mark.parametrize("error_type", [*ERROR_TYPES.values(), ShardscopeError])
def test_survives_pickling(error_type: type[ShardscopeError]) -> None:
    error = error_type("x", variable="w", task="ps:0", retryable=True, retry_after_s=2.0)
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is error_type
    assert vars(copy) == vars(error)
    assert str(copy) == str(error)


INTERNAL = {
    "NoConnectionError",  # makes a transport take another way
    "SilentConnectionError",  # has a transport take another connection
    "UnskippableError",  # ends a connection
}


def test_every_error_that_users_meet_is_listed() -> None:
    for package in ("shardscope", "ps_cluster.local.launcher", "worker_client.compat.v1"):
        importlib.import_module(package)
    defined = {each.__name__ for each in all_below(ShardscopeError)} | {"ShardscopeError"}
    assert dir(errors) == sorted(defined - INTERNAL | {"SettingError", "ClusterStartError", "ErrorCode"})
    assert sorted(errors.__all__) == sorted(dir(errors))
    assert all(getattr(errors, name).__doc__ for name in dir(errors))
    assert importlib.import_module("ps_cluster").ClusterStartError is errors.ClusterStartError


def all_below(root: type[ShardscopeError]) -> list[type[ShardscopeError]]:
    return [found for child in root.__subclasses__() for found in [child, *all_below(child)] if not is_of_a_test(child)]


def is_of_a_test(error_type: type[ShardscopeError]) -> bool:
    return error_type.__module__.startswith("tests.")


def test_a_code_stands_for_the_general_kind() -> None:
    assert ERROR_TYPES[errors.ErrorCode.INVALID_ARGUMENT] is errors.InvalidArgumentError
    assert ERROR_TYPES[errors.ErrorCode.UNKNOWN] is errors.UnknownError
    assert set(ERROR_TYPES) == set(errors.ErrorCode)
