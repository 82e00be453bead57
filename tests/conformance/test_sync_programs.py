"""Programs of accumulators, queues, queue runners and synchronous training do here what they do in TensorFlow.

Errors are compared by their class: messages are our own. What stands for an object has the dtype of text here, and
variables have no dtypes of references. Of a graph everything is compared but what the inner optimizer's update and
``report_uninitialized_variables`` consist of, which other tests compare as far as it is to be equal.
"""

from __future__ import annotations

import contextlib
import math
import re
from collections.abc import Iterator
from typing import Any, Final

import pytest

import worker_client.compat.v1 as tf
from tests.conformance import replay
from tests.conformance.reference.sync_training import PROGRAMS, recorded, replicas
from worker_client.graph import defaults
from worker_client.sessions import session
from worker_client.training.server import Server
from worker_client.training.synchronous import crew

RECORDS: Final = {record["program"]: record for record in replay.records(replay.TRACES / "sync_training.jsonl")}
MODULES: Final = (
    "accumulator_errors",
    "dense_accumulators",
    "global_steps",
    "queue_errors",
    "queue_runners",
    "queues",
    "sparse_accumulators",
    "sync_calls",
    "sync_graphs",
    "sync_hooks",
    "sync_models",
    "sync_rounds",
)
OF_OTHERS: Final = re.compile(r"report_uninitialized_variables(_1)?/|/update_|^Adam/(mul|Assign)|^gradients/")
"""Names of operations that other tests compare."""

HANDLES: Final = {"resource": "string", "string_ref": "string"}
DIFFERENT: Final = {
    "dense_dtypes": "bfloat16 is taken as well",
    "dense_sessions_of_one_server_share": "without a shared name it belongs to the connection, not to the session",
    "dense_shared_name_with_other_facts": "other settings under the same name are refused, naming both sides",
    "dense_wrong_number_to_take": "a number beyond int32 is refused when it is given",
    "dense_wrong_steps": "a text is no step; a gradient that is refused does not count",
    "queue_capacities": "a capacity of 0, or one that is no whole number, is refused",
    "queue_closed_refuses_pushes": "a push of nothing is refused as well",
    "queue_from_list": "left out",
    "queue_from_wrong_lists": "there is one kind of queue",
    "queue_graph_of_the_kin": "there is one kind of queue",
    "queue_padding": "there is one kind of queue",
    "queue_priority": "there is one kind of queue",
    "queue_random_shuffle": "there is one kind of queue",
    "queue_shared_name_with_other_facts": "there is one kind of queue",
    "queue_wrong_arguments": "None as dtypes is a TypeError",
    "runner_as_a_message": "runners are no messages, as graphs are not",
    "a_round_that_gives_up_has_taken_what_was_there": "a step takes the gradients of all variables, or of none",
    "a_worker_counts_twice": "a worker counts once in a step",
    "a_worker_takes_the_token_of_another": "a worker takes one token of each step",
    "a_worker_that_dies_with_a_token": "a worker that ends is waited for no more",
    "a_worker_that_ends_stops_all": "a worker that ends is waited for no more",
    "backups_a_worker_that_is_two_rounds_late": "a worker takes no token of a step that it has done",
    "closed_tokens_end_the_workers": "a step that is too late for its tokens takes nothing",
    "graph_of_resource_variables": "variables are no resources",
    "graph_with_averages": "averages begin and move by fewer operations",
    "hook_methods": "the class has a name of its own",
    "hook_of_a_chief_runs_in_a_session": "the thread that makes steps ends with its session, at once",
    "sparse_attributes": "there is no module tf.sparse",
    "sparse_dtypes": "bfloat16 is taken as well",
    "sparse_wrong_steps": "a gradient that is refused does not count",
    "sync_compute_gradients_are_the_inner_ones": "the class of tensors has another name",
    "sync_steps_of_wrong_kinds": "other classes of errors: TypeError of what is no variable, ShapeMismatchError",
    "sync_variables_of_wrong_kinds": "TypeError of what is no pair",
}
"""Programs that are meant to do something else here, and what."""


def module_of(program: str) -> str:
    return PROGRAMS[program].__module__.rpartition(".")[2]


NAMES: Final = [name for name in PROGRAMS if module_of(name) in MODULES]


@pytest.fixture(autouse=True)
def no_connections(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Ends the servers that a program has started, with their connections, so that no session takes one for its own."""
    with contextlib.ExitStack() as servers:

        class Ended(Server):
            def __init__(self, *args: Any, **kwargs: Any):
                super().__init__(*args, **kwargs)
                servers.callback(self.close)

        monkeypatch.setattr(tf.train, "Server", Ended)
        yield
    while (client := defaults.find_newest_client()) is not None:
        client.close()


def is_of_others(noted: Any) -> bool:
    """Whether a note is an operation that other tests compare."""
    return isinstance(noted, dict) and bool(OF_OTHERS.search(str(noted.get("name"))))


def comparable(noted: Any) -> Any:
    """A note without what differs in all programs."""
    if isinstance(noted, dict):
        return noted["error"] if "error" in noted else {key: comparable(each) for key, each in noted.items()}
    if isinstance(noted, list):
        return [comparable(each) for each in noted if not is_of_others(each)]
    if isinstance(noted, float):
        return float(f"{noted:.6g}")  # of the seven digits that are noted the last is by chance
    if isinstance(noted, str):
        return HANDLES.get(noted, noted.removesuffix("_ref"))
    return noted


@pytest.mark.parametrize("name", [name for name in NAMES if name not in DIFFERENT])
def test_a_program_does_what_it_does_in_tensorflow(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crew, "PATIENCE_S", math.inf)  # there nobody makes the steps in the place of the chief
    notes = recorded(tf, name)["notes"]
    for expected, found in zip(RECORDS[name]["notes"], notes, strict=False):
        assert comparable(found) == comparable(expected), (found, expected)
    assert len(notes) == len(RECORDS[name]["notes"])


@pytest.mark.parametrize("name", [name for name in NAMES if name in DIFFERENT])
def test_a_program_that_is_to_differ_does(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "WAIT_S", replicas.WAIT_MS / 1000)  # for what waits here, and not there
    notes = None
    with contextlib.suppress(AttributeError):  # what is left out is not there
        notes = recorded(tf, name)["notes"]
    assert comparable(notes) != comparable(RECORDS[name]["notes"])


def test_all_that_differ_are_programs() -> None:
    assert sorted(set(DIFFERENT) - set(NAMES)) == []
