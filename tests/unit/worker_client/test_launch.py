"""Which task a process is: by TF_CONFIG, arguments or torchrun, and what contradicts each other."""

from __future__ import annotations

import json
import multiprocessing
from typing import Any

import pytest

from ps_protocol.cluster_spec import ClusterSpec
from ps_protocol.task_id import TaskId
from worker_client.client import connect
from worker_client.launch import Launch, find_place

PS = "ps=host:2222,host:2223"
WORKERS = f"{PS};worker=w0:1,w1:1,w2:1,w3:1"
CHIEF = f"{PS};chief=c:1;worker=w0:1,w1:1,w2:1"


def torchrun(rank: int, world_size: int, **more: str) -> dict[str, str]:
    return {"RANK": str(rank), "WORLD_SIZE": str(world_size), "LOCAL_RANK": "0", **more}


def tf_config(flag: str, job: str = "", index: int = 0) -> dict[str, str]:
    config: dict[str, Any] = {"cluster": ClusterSpec.parse(flag).as_dict()}
    return {"TF_CONFIG": json.dumps(config | ({"task": {"type": job, "index": index}} if job else {}))}


FOUND: dict[str, tuple[str | None, str | None, int | None, dict[str, str], str, int]] = {
    # cluster spec, job, index, environment -> task, number of workers
    "nothing": (PS, None, None, {}, "worker:0", 0),
    "an index": (WORKERS, "worker", 2, {}, "worker:2", 4),
    "tf_config": (None, None, None, tf_config(WORKERS, "worker", 2), "worker:2", 4),
    "a rank": (PS, None, None, torchrun(1, 4), "worker:1", 4),
    "a rank of one": (PS, None, None, torchrun(0, 1), "worker:0", 1),
    "a rank and the job": (PS, "worker", None, torchrun(1, 4), "worker:1", 4),
    "a rank of workers that are named": (WORKERS, None, None, torchrun(3, 4), "worker:3", 4),
    "a rank of a chief": (CHIEF, None, None, torchrun(0, 4), "chief:0", 4),
    "a rank beside a chief": (CHIEF, None, None, torchrun(3, 4), "worker:2", 4),
    "a rank of workers with gaps": (f"{PS};worker=2@w2:1,5@w5:1", None, None, torchrun(1, 2), "worker:5", 2),
    "a rank, the cluster in tf_config": (None, None, None, torchrun(1, 4) | tf_config(PS), "worker:1", 4),
    "a rank that agrees": (None, None, None, torchrun(1, 4) | tf_config(WORKERS, "worker", 1), "worker:1", 4),
    "a rank that agrees, no workers": (None, None, None, torchrun(1, 4) | tf_config(PS, "worker", 1), "worker:1", 4),
    "a launch of its own": (None, None, None, torchrun(0, 1) | tf_config(WORKERS, "worker", 2), "worker:2", 4),
    "arguments win": (WORKERS, "worker", 3, torchrun(1, 2), "worker:3", 4),
    "an index wins": (WORKERS, None, 3, torchrun(1, 2), "worker:3", 4),
    "another job wins": (WORKERS, "evaluator", None, torchrun(1, 2), "evaluator:0", 4),
    "arguments win over nonsense": (WORKERS, "worker", 3, {"RANK": "x"}, "worker:3", 4),
    "an argument beside tf_config without a task": (None, None, 3, torchrun(1, 2) | tf_config(WORKERS), "worker:3", 4),
    "an evaluator of tf_config": (None, None, None, torchrun(1, 2) | tf_config(PS, "evaluator"), "evaluator:0", 0),
    "empty": (PS, None, None, {"RANK": "", "WORLD_SIZE": ""}, "worker:0", 0),
}


@pytest.mark.parametrize(("spec", "job", "index", "environ", "task", "workers"), FOUND.values(), ids=FOUND)
def test_a_process_finds_its_place(
    spec: str | None, job: str | None, index: int | None, environ: dict[str, str], task: str, workers: int
) -> None:
    place = find_place(spec, job, index, environ=environ)
    assert str(place.task) == task
    assert len(place.cluster_spec.workers()) == workers
    assert place.cluster_spec.ps_addresses() == ["host:2222", "host:2223"]
    assert not place.replaces


CONTRADICTIONS: dict[str, tuple[str | None, dict[str, str], str]] = {
    "fewer workers": (
        PS + ";worker=w0:1",
        torchrun(1, 2),
        r"names 1 worker \(worker:0\), but torchrun has started 2 \(RANK=1 and WORLD_SIZE=2\)\. Name no workers",
    ),
    "more workers": (WORKERS, torchrun(0, 1), r"names 4 workers .*torchrun has started 1 .*connect\(cluster_spec, 'w"),
    "another task": (
        None,
        torchrun(1, 4) | tf_config(WORKERS, "worker", 0),
        r"TF_CONFIG says that this process is worker:0 of 4 workers, but torchrun that it is one of 4 \(RANK=1 and "
        r"WORLD_SIZE=4\)\. Leave the task, and the workers, out of TF_CONFIG, or unset RANK and WORLD_SIZE",
    ),
    "another task, no workers": (None, torchrun(1, 4) | tf_config(PS, "worker", 0), r"worker:0 of 4 workers, but"),
    "torchrun within a worker": (
        None,
        torchrun(0, 2) | tf_config(f"{PS};worker=w0:1", "worker", 0),
        r"is worker:0 of 1 worker, but torchrun that it is one of 2",
    ),
    "a chief": (None, torchrun(0, 4) | tf_config(CHIEF, "worker", 0), "worker:0 of 4 workers.*RANK=0"),
    "no size": (PS, {"RANK": "1"}, r"has RANK=1 but no WORLD_SIZE.*Set WORLD_SIZE too, unset RANK, or say which task"),
    "no rank": (PS, {"WORLD_SIZE": "2"}, r"has WORLD_SIZE=2 but no RANK.*unset WORLD_SIZE"),
    "no number": (PS, torchrun(0, 2) | {"RANK": "one"}, r"has RANK='one', which is no number from 0 to 1048575"),
    "below 0": (PS, torchrun(0, 2) | {"WORLD_SIZE": "-1"}, r"has WORLD_SIZE='-1', which is no number"),
    "too large": (PS, torchrun(0, 2) | {"WORLD_SIZE": "9" * 9}, r"WORLD_SIZE='999999999', which is no number"),
    "beyond": (PS, torchrun(2, 2), r"has RANK=2 and WORLD_SIZE=2: ranks go from 0 to WORLD_SIZE - 1"),
    "none at all": (PS, torchrun(0, 0), r"has RANK=0 and WORLD_SIZE=0: ranks go"),
    "restarts": (PS, torchrun(0, 2, TORCHELASTIC_RESTART_COUNT="?"), r"TORCHELASTIC_RESTART_COUNT='\?', which is no"),
}


@pytest.mark.parametrize(("spec", "environ", "message"), CONTRADICTIONS.values(), ids=CONTRADICTIONS)
def test_what_contradicts_each_other_is_an_error_that_names_both(
    spec: str | None, environ: dict[str, str], message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match=message):
        find_place(spec, None, None, environ=environ)
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ValueError, match=message):  # before anybody is dialled
        connect(spec)
    place = find_place(spec or PS, None, None, environ=environ, asks_launcher=False)
    assert place.task == TaskId("worker", 0)


def test_what_is_started_again_takes_the_place_of_what_was_there(monkeypatch: pytest.MonkeyPatch) -> None:
    again = torchrun(1, 2, TORCHELASTIC_RESTART_COUNT="2")
    assert Launch.from_env(again) == Launch(1, 2, restarts=2)
    assert find_place(PS, None, None, environ=again).replaces
    assert not find_place(PS, None, 1, environ=again).replaces  # of which torchrun does not speak
    assert not find_place(PS, None, None, environ=torchrun(1, 2, TORCHELASTIC_RESTART_COUNT="0")).replaces
    monkeypatch.setattr(multiprocessing.process, "_parent_process", multiprocessing.process.current_process())
    assert not find_place(PS, None, None, environ=again).replaces  # it may be a child of that task


def test_the_workers_of_torchrun_are_those_of_the_cluster() -> None:
    place = find_place(PS, None, None, environ=torchrun(1, 2))
    assert place.cluster_spec.num_tasks("worker") == 2
    assert place.cluster_spec.workers() == [TaskId("worker", 0), TaskId("worker", 1)]
    place.cluster_spec.check_takes_part(place.task)
    assert find_place(place.cluster_spec, None, None, environ=torchrun(0, 2)).cluster_spec == place.cluster_spec
