"""``examples/digits.py``, whose workers do not outrun what a test does to some of them.

All workers begin together. Those that are to be lost stand still when a gradient of theirs counts, and say so by a file
"midway-INDEX"; the others make four steps a second at most until there is a file "go on".

``python -m tests.chaos.held_digits FOLDER INDEX,... ARGUMENT...``, with the arguments of the example
"""

from __future__ import annotations

import runpy
import signal
import sys
import time
from pathlib import Path
from typing import Any, Final

import shardscope as ss
from ps_protocol.cluster_spec import TfConfig

DIGITS: Final = Path(__file__).parents[2] / "examples" / "digits.py"
STEP_S: Final = 0.25
TIMEOUT_S: Final = 120.0
_POLL_S: Final = 0.01


class HeldMomentum(ss.train.Momentum):
    """Holds its worker.

    Attributes:
        folder: Of the files.
        lost: Indices of the workers that are to be lost.
    """

    folder: Path
    lost: tuple[int, ...]

    def __init__(self, *given: Any, **more: Any):
        super().__init__(*given, **more)
        config = TfConfig.from_env()
        assert config.task is not None
        self._index = config.task.index
        # A step of its own copies is pending until a round; without them a gradient is, which is handed in.
        self._counted = ("applied", "pending") if self.outer is None else ("applied",)
        here = [self.folder / f"here-{index}" for index in range(config.cluster.num_tasks("worker"))]
        here[self._index].touch()
        assert held_until(here, TIMEOUT_S), f"not all workers have come: {sorted(self.folder.iterdir())}"

    def apply_gradients(self, *given: Any, **more: Any) -> Any:
        applied = super().apply_gradients(*given, **more)
        if self._index not in self.lost:
            held_until([self.folder / "go on"], STEP_S)
        elif applied[0].round and applied[0].verdict in self._counted:
            (self.folder / f"midway-{self._index}").touch()
            while True:
                signal.pause()
        return applied


def held_until(paths: list[Path], timeout_s: float) -> bool:
    """Waits until all of them exist; returns whether they do."""
    deadline_s = time.monotonic() + timeout_s
    while not (exist := all(each.exists() for each in paths)) and time.monotonic() < deadline_s:
        time.sleep(_POLL_S)
    return exist


def main(folder: str, lost: str, *arguments: str) -> None:
    """Runs the example."""
    HeldMomentum.folder = Path(folder)
    HeldMomentum.lost = tuple([int(each) for each in lost.split(",")])
    setattr(ss.train, "Momentum", HeldMomentum)  # noqa: B010 - mypy knows it as a class
    sys.argv = [str(DIGITS), *arguments]
    runpy.run_path(str(DIGITS), run_name="__main__")


if __name__ == "__main__":
    main(*sys.argv[1:])
