"""A worker that trains together with others, and dies where the faults of its environment say.

It says that it is ready before its first step, and of each step "verdict:round". Without a lease whoever has started it
tells of its end, as a launcher.

``python -m tests.chaos.training_worker ADDRESSES TASK_INDEX STEPS SYNC LEASE_S``
"""

from __future__ import annotations

import sys

import worker_client as ss
from ps_protocol import fault_points
from ps_protocol.cluster_spec import ClusterSpec
from tests.unit.worker_client.optimizers.together import OPTIMIZERS, Worker, gradients


def main(address_list: str, task_index: str, num_steps: str, sync: str, lease_s: str) -> None:
    """Makes its steps, and says of each what became of it."""
    spec = ClusterSpec({"ps": address_list.split(","), "worker": ["w0.example:1", "w1.example:1"]})
    with ss.connect(spec, task_index=int(task_index), lease_s=float(lease_s), transport="tcp") as client:
        worker = Worker(client, OPTIMIZERS["sgd"](sync=sync))
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        fault_points.install_from_environment(is_allowed=True)
        for number in range(int(num_steps)):
            applied = worker.step(gradients(int(task_index), number))
            sys.stdout.write(f"{applied.verdict}:{applied.round}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main(*sys.argv[1:])
