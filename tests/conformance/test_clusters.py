"""``ClusterSpec`` gives TensorFlow's answers: a replay of the recorded ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import worker_client.compat.v1 as tf

CASES: list[dict[str, Any]] = json.loads(
    (Path(__file__).parent / "reference" / "traces" / "clusters.json").read_text(encoding="utf-8")
)
ANSWERS = [
    (case["spec"], question, answer) for case in CASES for question, answer in case.items() if question != "spec"
]
QUESTIONS: dict[str, Callable[..., object]] = {
    "jobs": lambda spec: sorted(spec.jobs),
    "as_dict": tf.train.ClusterSpec.as_dict,
    "num_tasks": tf.train.ClusterSpec.num_tasks,
    "task_indices": tf.train.ClusterSpec.task_indices,
    "job_tasks": tf.train.ClusterSpec.job_tasks,
    "task_address": lambda spec, job, index: spec.task_address(job, int(index)),
}


def answer_of(given: Any, question: str) -> dict[str, Any]:
    method, *arguments = question.split(":")
    try:
        result = QUESTIONS[method](tf.train.ClusterSpec(given), *arguments)
    except Exception as error:  # noqa: BLE001 - whatever it raises is the answer
        return {"error": type(error).__name__}
    return {"result": json.loads(json.dumps(result))}


def test_the_traces_are_all_there() -> None:
    assert len(CASES) == 5
    assert len(ANSWERS) == 100


@pytest.mark.parametrize(("given", "question", "answer"), ANSWERS)
def test_answers_as_recorded(given: Any, question: str, answer: dict[str, Any]) -> None:
    assert answer_of(given, question) == answer
