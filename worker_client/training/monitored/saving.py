"""What training loops say where TensorFlow's would save checkpoints."""

from __future__ import annotations

NO_SAVING = "checkpoints are not saved or restored here yet; ps tasks keep their variables with `--durability journal`"


def saving_is_not_here(argument: str, instead: str) -> NotImplementedError:
    """Returns the error of an argument that asks for checkpoints.

    Args:
        argument: As "MonitoredTrainingSession(checkpoint_dir=...)".
        instead: What to do.
    """
    return NotImplementedError(f"{argument}: {NO_SAVING.replace('`', '')}. {instead}")
