"""``shardscope up --checkpoint``: goes on where it was interrupted, whatever the number of ps tasks is then."""

from __future__ import annotations

import json
import re
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import worker_client as ss
from ps_cluster.local.processes import ProcessSupervisor
from tests.conftest import Eventually
from tests.integration.test_up import TIMEOUT_S, Launch, assert_all_gone
from tests.unit.worker_client.checkpoints.small_clusters import flip

pytestmark = pytest.mark.integration

# Cuts a variable by the number of ps tasks, counts in it and in the global step, and stops to wait at each step that
# has a file "wait-N" beside it. Says where it began and ended, and whether the variables agree.
WORKER = """
import pathlib, sys, time
import numpy as np
import worker_client as ss
here, steps = pathlib.Path(sys.argv[0]).parent, int(sys.argv[1])
with ss.connect() as client:
    num_ps = client.cluster_spec.num_tasks("ps")
    zeros, cut = ss.zeros_initializer(), ss.fixed_size_partitioner(num_ps)
    table = ss.get_variable("table", [7, 2], initializer=zeros, partitioner=cut)
    alone = ss.get_variable("alone", [3], initializer=zeros)
    global_step = ss.get_variable("global_step", [], dtype=np.int64, initializer=zeros)
    optimizer = ss.train.Momentum(learning_rate=1.0, momentum=0.5)
    step = int(global_step)
    print(f"begins at {step}", flush=True)
    while step < steps:
        if (here / f"wait-{step}").exists():
            print(f"waits at {step}", flush=True)
            while (here / f"wait-{step}").exists():
                time.sleep(0.02)
        pairs = [(np.full(each.shape, step, np.float32), each) for each in (table, alone)]
        optimizer.apply_gradients(pairs, global_step=global_step)
        step = int(global_step)
    found = {float(value) for each in (table, alone) for value in np.ravel(each.read_value())}
    print(f"ends at {step} with {sorted(found)}", flush=True)
"""

DIGITS = Path(__file__).parents[2] / "examples" / "digits.py"

Up = Callable[..., Launch]


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Up]:
    """Starts ``shardscope up OPTIONS --checkpoint RUN -- python worker.py STEPS``."""
    script = tmp_path / "worker.py"
    script.write_text(WORKER)
    supervisor = ProcessSupervisor()

    def launch(options: str = "--ps 1", *, steps: int = 8, env: dict[str, str] | None = None) -> Launch:
        checkpoint = ["--checkpoint", str(tmp_path / "run")]
        return Launch(supervisor, [*options.split(), *checkpoint, "--", "python", str(script), str(steps)], env or {})

    yield launch
    supervisor.close()


def expected(steps: int) -> float:
    value = momentum = 0.0
    for step in range(steps):
        momentum = 0.5 * momentum + step
        value -= momentum
    return value


def wait_for(launch: Launch, text: str, eventually: Eventually) -> None:
    eventually(lambda: text in launch.text, timeout_s=TIMEOUT_S, message=f"it says {text!r}")


def names(folder: Path) -> list[str]:
    return [each.name for each in ss.checkpoint.list(folder)]


@pytest.mark.parametrize(
    ("before", "after"),
    [("--ps 3", "--ps 2"), ("--ps 1 --replicas 1", "--ps 2 --replicas 1")],
    ids=["fewer ps tasks", "with backups"],
)
def test_what_was_interrupted_goes_on_with_another_number_of_ps_tasks(
    up: Up, tmp_path: Path, eventually: Eventually, before: str, after: str
) -> None:
    run = tmp_path / "run"
    (tmp_path / "wait-5").touch()
    launch = up(before)
    wait_for(launch, "waits at 5", eventually)
    processes = launch.descendants()
    launch.process.send_signal(signal.SIGINT)
    assert launch.wait() == 130
    assert f"shardscope | no checkpoint in {run} yet: starting from nothing" in launch.output
    assert f"shardscope | saved {run}/step-000000005, " in launch.text
    assert_all_gone(processes, eventually)
    assert [(each.step, each.num_parts) for each in ss.checkpoint.list(run)] == [(5, int(before.split()[1]))]

    (tmp_path / "wait-5").unlink()
    launch = up(after)
    assert launch.wait() == 0, launch.text
    assert re.search(rf"shardscope \| restored {run}/step-000000005: \d+ variables, ", launch.text)
    assert "worker:0   | begins at 5" in launch.output
    assert f"worker:0   | ends at 8 with [{expected(8)}]" in launch.output
    assert f"shardscope | saved {run}/step-000000008, " in launch.text
    assert names(run) == ["step-000000005", "step-000000008"]

    launch = up(after)  # there is nothing more to do, and to save
    assert launch.wait() == 0, launch.text
    assert "worker:0   | begins at 8" in launch.output
    assert f"shardscope | nothing has changed since {run}/step-000000008" in launch.output
    assert len(names(run)) == 2


def test_the_digits_go_on_from_their_last_step_and_are_learnt_as_well(tmp_path: Path, eventually: Eventually) -> None:
    supervisor, run = ProcessSupervisor(), tmp_path / "run"

    def launch(num_ps: int) -> Launch:
        program = ["python", str(DIGITS), "--min-accuracy", "0.95"]
        return Launch(supervisor, ["--ps", f"{num_ps}", "--workers", "2", "--checkpoint", str(run), "--", *program], {})

    try:
        first = launch(3)
        wait_for(first, "training accuracy", eventually)
        first.process.send_signal(signal.SIGINT)
        assert first.wait() == 130
        second = launch(2)
        assert second.wait() == 0, second.text
        [restored] = re.findall(r"restored \S+/step-(\d+): ", second.text)
    finally:
        supervisor.close()
    steps = [int(step) for step in re.findall(r"step +(\d+) of 990", second.text)]
    assert 0 < int(restored) <= min(steps)
    assert re.search(r"held-out accuracy [\d.]+ after 99\d steps of all workers", second.text)


def test_it_saves_while_it_runs_and_goes_on_after_a_failure(up: Up, tmp_path: Path, eventually: Eventually) -> None:
    run, fault_log = tmp_path / "run", tmp_path / "faults"
    for step in (2, 3, 4):
        (tmp_path / f"wait-{step}").touch()
    launch = up(
        "--ps 2 --save-every 0.1s --keep 2 --ps-arg --allow-faults",
        env={"SHARDSCOPE_FAULTS": "checkpoint.write=fail@1-1", "SHARDSCOPE_FAULT_LOG": str(fault_log)},
    )
    for step in (2, 3, 4):
        wait_for(launch, f"waits at {step}", eventually)
        wait_for(launch, f"saved {run}/step-{step:09}", eventually)
        (tmp_path / f"wait-{step}").unlink()
    assert launch.wait() == 0, launch.text
    assert "checkpoint.write" in [json.loads(line)["place"] for line in fault_log.read_text().splitlines()]
    eventually(lambda: "no checkpoint was saved in" in "\n".join(launch.errors), message="the failure is said")
    assert names(run)[-1].startswith("step-000000008")  # and the time, if a save came just before the last step
    assert len(names(run)) == 2


def test_a_folder_that_cannot_be_used_is_said_and_training_goes_on(
    up: Up, tmp_path: Path, eventually: Eventually
) -> None:
    run = tmp_path / "run"
    for step in (3, 5):
        (tmp_path / f"wait-{step}").touch()
    launch = up("--ps 2 --save-every 0.1s")
    wait_for(launch, f"saved {run}/step-000000003", eventually)
    run.rename(tmp_path / "elsewhere")
    run.touch()  # a file in its place
    (tmp_path / "wait-3").unlink()
    eventually(lambda: "Not a directory" in "\n".join(launch.errors), timeout_s=TIMEOUT_S, message="it is said")
    run.unlink()
    wait_for(launch, f"saved {run}/step-000000005", eventually)
    (tmp_path / "wait-5").unlink()
    assert launch.wait() == 0, launch.text
    assert names(run)[-1].startswith("step-000000008")  # and the time, if a save came just before the last step


def test_a_last_checkpoint_that_cannot_be_saved_is_a_failure(up: Up, tmp_path: Path, eventually: Eventually) -> None:
    run = tmp_path / "run"
    (tmp_path / "wait-3").touch()
    launch = up("--ps 2")
    wait_for(launch, "waits at 3", eventually)
    run.rmdir()
    run.touch()  # a file in its place
    (tmp_path / "wait-3").unlink()
    assert launch.wait() == 1, launch.text
    assert f"ends at 8 with [{expected(8)}]" in launch.text
    assert f"the last state is not saved: no checkpoint was saved in {run}: " in "\n".join(launch.errors)


def test_it_goes_on_saving_when_a_ps_that_was_killed_is_back(up: Up, tmp_path: Path, eventually: Eventually) -> None:
    run = tmp_path / "run"
    for step in (3, 5):
        (tmp_path / f"wait-{step}").touch()
    launch = up(f"--ps 2 --save-every 0.1s --durability journal --data-dir {tmp_path / 'kept'}")
    wait_for(launch, f"saved {run}/step-000000003", eventually)
    launch.ps_process(1).kill()
    wait_for(launch, "ps:1 is back", eventually)
    (tmp_path / "wait-3").unlink()
    wait_for(launch, f"saved {run}/step-000000005", eventually)
    (tmp_path / "wait-5").unlink()
    assert launch.wait() == 0, launch.text
    assert f"ends at 8 with [{expected(8)}]" in launch.text
    # What the ps tasks have kept is newer than any checkpoint.
    launch = up(f"--ps 2 --durability journal --data-dir {tmp_path / 'kept'}")
    assert launch.wait() == 0, launch.text
    assert f"the ps tasks have kept their variables: {run}/step-000000008" in launch.text
    assert "begins at 8" in launch.text


def test_a_checkpoint_that_cannot_be_used_ends_the_launch_before_workers_start(up: Up, tmp_path: Path) -> None:
    run = tmp_path / "run"
    launch = up()
    assert launch.wait() == 0, launch.text
    [part] = (run / "step-000000008").glob("*.safetensors")
    flip(part, part.stat().st_size - 1)
    launch = up("--ps 2")
    assert launch.wait() == 1
    assert f"cannot go on from {run}: " in "\n".join(launch.errors)
    assert "checksum" in "\n".join(launch.errors)
    assert "begins" not in launch.text
    assert names(run) == ["step-000000008"]


def test_a_second_interrupt_does_not_wait_for_the_last_checkpoint(
    up: Up, tmp_path: Path, eventually: Eventually
) -> None:
    (tmp_path / "wait-3").touch()
    launch = up("--ps 2 --ps-arg --allow-faults", env={"SHARDSCOPE_FAULTS": "checkpoint.write=delay:600"})
    wait_for(launch, "waits at 3", eventually)
    processes = launch.descendants()
    launch.process.send_signal(signal.SIGINT)
    wait_for(launch, "fault injected at checkpoint.write", eventually)
    launch.process.send_signal(signal.SIGINT)
    assert launch.wait() == 130
    assert names(tmp_path / "run") == []
    assert_all_gone(processes, eventually)


def test_interrupts_end_a_restore(up: Up, tmp_path: Path, eventually: Eventually) -> None:
    launch = up()
    assert launch.wait() == 0, launch.text
    launch = up("--ps 2 --ps-arg --allow-faults", env={"SHARDSCOPE_FAULTS": "restore.read=delay:600"})
    wait_for(launch, "fault injected at restore.read", eventually)
    processes = launch.descendants()
    launch.process.send_signal(signal.SIGINT)
    eventually(lambda: "SIGINT: ending all tasks" in launch.text, message="the first Ctrl-C")
    launch.process.send_signal(signal.SIGINT)
    assert launch.wait() == 130
    assert "begins" not in launch.text
    assert names(tmp_path / "run") == ["step-000000008"]
    assert_all_gone(processes, eventually)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ("--save-every 10s", "--save-every says how checkpoints are saved, but not where; give --checkpoint DIR"),
        ("--keep 3", "--keep says how"),
        ("--checkpoint x --save-every 0s", "it should be a time above 0, such as 60s, 10m or 2h"),
        ("--checkpoint=", "it should be the path of a folder, or a URL, and is empty"),
        ("--checkpoint s3:/models/run", "is a URL with one slash only"),
        ("--checkpoint ftp://models/run", "checkpoints cannot be kept at ftp://"),
    ],
)
def test_options_that_make_no_sense_are_refused(tmp_path: Path, options: str, message: str) -> None:
    supervisor = ProcessSupervisor()
    launch = Launch(supervisor, [*options.split(), "--", "python"], {})
    assert launch.wait() == 2
    assert message in " ".join(" ".join(launch.errors).split())
    supervisor.close()
