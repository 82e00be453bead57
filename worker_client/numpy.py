"""Arrays of NumPy in nested dictionaries, lists, tuples and dataclasses, shared by workers; use it as ``ss.numpy``.

params = {"hidden": {"w": w1, "b": b1}, "out": [w2, b2]}
shared = ss.numpy.share(params, "net", optimizer=ss.train.Adam(1e-3))
for x, y in batches:
    params = shared.pull()
    shared.push(gradients(params, x, y))
"""

from __future__ import annotations

from typing import Any

from worker_client.adapters.declared import Initializers
from worker_client.adapters.parameter_trees import ParameterTree
from worker_client.adapters.shared_arrays import SharedArrays
from worker_client.adapters.shared_model import SharedModel
from worker_client.client import Client
from worker_client.default_client import get_default_client
from worker_client.optimizers.optimizer import Optimizer
from worker_client.optimizers.outcomes import Applied
from worker_client.variables.partitioners import Partitioner

__all__ = ["SharedTree", "share"]


class SharedTree(SharedModel):
    """Nested arrays of this process that a cluster keeps. Made by ``share``.

    One thread at a time may use it. As a context manager it is closed at the end.
    """

    def __init__(self, tree: ParameterTree, params: Any, arrays: SharedArrays):
        super().__init__(arrays)
        self._tree = tree
        self._params = params

    def pull(self, *, fresh: bool = False) -> Any:
        """Reads what has changed into the caller's own arrays, and returns what ``share`` was given.

        Args:
            fresh: Whether to read even if the last push has brought the values.

        Raises:
            FailedPreconditionError: Other arrays have been put in the place of those that were shared.
            ShardscopeError: As of ``Mirror.pull``; with ``overlap`` that of the last push.
        """
        self._tree.check_unchanged(self.name)
        self._arrays.pull(fresh=fresh)
        return self._params

    def push(self, gradients: Any, *, learning_rate: float | None = None) -> list[Applied]:
        """Changes the variables by gradients, or by deltas if there is no optimizer, and reads them again.

        Args:
            gradients: In the structure of the parameters: arrays, ``IndexedSlices``, or None for no change.
            learning_rate: For this step, instead of the optimizer's.

        Returns:
            What became of each gradient; nothing for deltas, or with ``overlap``.

        Raises:
            InvalidArgumentError: They lack parameters, or have others; all are listed.
            ShardscopeError: As of ``Optimizer.apply_gradients``.
        """
        return self._arrays.push(
            self._tree.leaves_of(gradients, f"the gradients of {self.name}"), learning_rate=learning_rate
        )


def share(
    params: Any,
    name: str,
    *,
    optimizer: Optimizer | None = None,
    sync: str | None = None,
    initializer: Initializers = None,
    partitioner: Partitioner | None = None,
    overlap: bool = False,
    client: Client | None = None,
) -> SharedTree:
    """Makes each array of a nested structure a variable of the cluster, or finds those that other workers have made.

    The arrays hold the values of the cluster then: those of whichever worker came first. Names follow the structure:
    ``{"hidden": [w, b]}`` gives ``net/hidden/0`` and ``net/hidden/1``.

    Args:
        params: Dictionaries, lists, tuples, named tuples and dataclasses, nested, of writable NumPy arrays, which pulls
            write into; None stands for no array.
        name: A scope below the current variable scope.
        optimizer: One of ``ss.train``. None: what is pushed are deltas, which are added.
        sync: How the workers train together, as the argument of optimizers.
        initializer: What variables begin with instead, computed by the ps: one for all, or a dictionary by name.
        partitioner: Cuts the variables into parts.
        overlap: Whether a push returns at once, and a thread sends and reads meanwhile. The arrays change at any time
            between a push and the end of the next pull then, and the gradients belong to the thread until then.
        client: The connection; by default the default one.

    Raises:
        InvalidArgumentError: The cluster has another model under the name: what is missing, more or different is
            listed. Or an array cannot be written, or the name or the optimizer belongs to another model.
        DTypeMismatchError: An array is masked, in foreign byte order, or of text, dates or Python objects; or not of
            floats, and there is an optimizer.
    """
    tree = ParameterTree(params, "params")
    arrays = SharedArrays(
        client or get_default_client(),
        name,
        dict(zip(tree.names, tree.leaves, strict=True)),
        optimizer=optimizer,
        sync=sync,
        initializer=initializer,
        partitioner=partitioner,
        overlap=overlap,
    )
    return SharedTree(tree, params, arrays)
