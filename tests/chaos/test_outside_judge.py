"""The package ckpt-chaos judges our checkpoints: it ends a program at its file events and looks how it resumes."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.chaos,
    pytest.mark.slow,
    pytest.mark.timeout(600),  # two dozen processes start one after the other
]

ROOT = Path(__file__).parents[2]
POINTS = 10


def test_a_program_that_is_ended_at_its_file_events_resumes_from_its_newest_checkpoint(tmp_path: Path) -> None:
    judged = subprocess.run(
        [
            *(sys.executable, "-m", "ckpt_chaos", "run", "--work", str(tmp_path), "--max-points", str(POINTS)),
            *("--step-regex", r"resumed from step (\d+)", "--result-file", "{out}/result"),
            *("--checkpoint-glob", "{out}/run/step-*", "--ckpt-ignore-size"),  # a manifest has the time in it
            *("--fail-on", "HARD_FAIL,SILENT_DIVERGENCE,LOST_WORK,CONTROL_FAIL"),
            *("--", sys.executable, "-m", "tests.chaos.checkpointed_program", "{out}"),
        ],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env=dict(os.environ, PYTHONPATH=os.pathsep.join([str(ROOT), *sys.path])),
        check=False,
    )
    assert judged.returncode == 0, judged.stdout + judged.stderr
    verdicts = [line for line in judged.stdout.splitlines() if line.startswith(("#", "no crash"))]
    assert [line for line in verdicts if "PASS" not in line] == []
    assert len(verdicts) > POINTS // 2  # with the one that is not ended
    assert "resumed from step 1" in judged.stdout
