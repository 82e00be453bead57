from __future__ import annotations

import json
import os
import sys
from pathlib import Path

from ps_cluster.local.task_environment import THREAD_VARIABLES, task_environment
from ps_protocol.cluster_spec import ClusterSpec, TfConfig
from ps_protocol.task_id import TaskId

CONFIG = TfConfig(ClusterSpec({"ps": ["a:1"], "worker": ["b:2"]}), TaskId("worker", 0))


def test_the_task_learns_its_place() -> None:
    config = json.loads(task_environment(CONFIG, {"TF_CONFIG": "of somebody else"})["TF_CONFIG"])
    assert config["task"] == {"type": "worker", "index": 0}
    assert config["cluster"] == {"ps": ["a:1"], "worker": ["b:2"]}


def test_python_is_this_one() -> None:
    first, *rest = task_environment(CONFIG, {"PATH": "/one:/two"})["PATH"].split(os.pathsep)
    assert Path(first) == Path(sys.executable).parent
    assert rest == ["/one", "/two"]


def test_an_empty_path_does_not_add_the_working_directory() -> None:
    assert task_environment(CONFIG, {"PATH": ""})["PATH"] == str(Path(sys.executable).parent)


def test_libraries_use_one_thread_unless_told_otherwise() -> None:
    environment = task_environment(CONFIG, {"OMP_NUM_THREADS": "3", "PYTHONUNBUFFERED": "0"})
    assert environment["OMP_NUM_THREADS"] == "3"
    assert {environment[name] for name in THREAD_VARIABLES if name != "OMP_NUM_THREADS"} == {"1"}
    assert environment["PYTHONUNBUFFERED"] == "0"
    assert task_environment(CONFIG, {})["PYTHONUNBUFFERED"] == "1"


def test_the_rest_is_kept() -> None:
    assert task_environment(CONFIG, {"HOME": "/home/someone"})["HOME"] == "/home/someone"
