"""Pytrees of JAX, shared by workers; use it as ``ss.jax``.

    shared = ss.jax.share(params, "net", optimizer=ss.train.Adam(1e-3))
    for x, y in batches:
        params = shared.pull()
        shared.push(gradients(params, x, y))

With ``optimizer=None`` the rule stays on the worker, as one of optax, and what is pushed are deltas.
"""

from __future__ import annotations

from typing import Any

from worker_client.adapters.declared import Initializers
from worker_client.adapters.jax_trees import JaxCopies, JaxTree, check_not_traced, first_value, updates_of
from worker_client.adapters.shared_arrays import SharedArrays
from worker_client.adapters.shared_model import SharedModel
from worker_client.client import Client
from worker_client.default_client import get_default_client
from worker_client.optimizers.optimizer import Optimizer
from worker_client.optimizers.outcomes import Applied
from worker_client.variables.partitioners import Partitioner

__all__ = ["SharedTree", "share"]


class SharedTree(SharedModel):
    """A pytree of parameters that a cluster keeps. Made by ``share``.

    One thread at a time may use it. As a context manager it is closed at the end.
    """

    def __init__(self, tree: JaxTree, arrays: SharedArrays, copies: JaxCopies):
        super().__init__(arrays)
        self._tree = tree
        self._copies = copies

    def pull(self, *, fresh: bool = False) -> Any:
        """Reads what has changed, and returns the parameters: a pytree as ``share`` was given, of JAX's arrays.

        They are ordinary, immutable arrays: what an earlier pull has returned keeps its values. They may be donated.
        Each is on the devices on which the parameter was that ``share`` was given, divided in the same way; where it
        was not committed to any, JAX chooses.

        Args:
            fresh: Whether to read even if the last push has brought the values.

        Raises:
            InvalidArgumentError: This is called while JAX traces a function.
            FailedPreconditionError: There are parameters of 64 bits, and jax_enable_x64 is no longer set.
            ShardscopeError: As of ``Mirror.pull``; with ``overlap`` that of the last push.
        """
        check_not_traced("pull()")
        self._arrays.pull(fresh=fresh)
        return self._tree.rebuilt(self._copies.take())

    def push(self, gradients: Any, *, learning_rate: float | None = None) -> list[Applied]:
        """Changes the variables by gradients, or by deltas if there is no optimizer, and reads them again.

        Args:
            gradients: A pytree in the structure of the parameters, of arrays or ``IndexedSlices``; or None for no
                change, as where there is nothing to differentiate by. They are sent out of JAX's own memory where that
                is the host's, and are waited for. With ``overlap`` do not donate them before the next pull.
            learning_rate: For this step, instead of the optimizer's.

        Returns:
            What became of each gradient; nothing for deltas, or with ``overlap``.

        Raises:
            InvalidArgumentError: They lack parameters, or have others; all are listed. Or this is called while JAX
                traces a function.
            FailedPreconditionError: One has been donated or deleted.
            ShardscopeError: As of ``Optimizer.apply_gradients``.
        """
        what = "the delta" if self.optimizer is None else "the gradient"
        check_not_traced("push()")
        leaves = self._tree.leaves_of(gradients, f"{what}s of {self.name}")
        return self._arrays.push(updates_of(leaves, what), learning_rate=learning_rate)


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
    """Makes each leaf of a pytree a variable of the cluster, or finds those that other workers have made.

    The values of whichever worker came first count; ``pull`` returns them. Names follow the keys: ``{"dense": [w, b]}``
    gives ``net/dense/0`` and ``net/dense/1``, and what no name may have becomes "_", as "~" in Haiku's.

    Args:
        params: Any pytree of arrays of JAX or NumPy or numbers; each is of the dtype that ``jnp.asarray`` gives it, and
            pulled ones are never weakly typed. It stays the caller's, and may be donated afterwards.
        name: A scope below the current variable scope.
        optimizer: One of ``ss.train``, whose steps the ps tasks make. None: what is pushed are deltas, which are added,
            as those of a rule of optax.
        sync: How the workers train together, as the argument of optimizers.
        initializer: What variables begin with instead, computed by the ps: one for all, or a dictionary by name.
        partitioner: Cuts the variables into parts.
        overlap: Whether a push returns at once, and a thread sends and reads meanwhile.
        client: The connection; by default the default one.

    Raises:
        InvalidArgumentError: The cluster has another model under the name: what is missing, more or different is
            listed. Or two leaves have one name, or the name or the optimizer belongs to another model.
        DTypeMismatchError: A leaf holds complex numbers or keys, or integers and has an optimizer; it is named.
    """
    check_not_traced("share()")
    tree, leaves = JaxTree.of(params, "params")
    values = {name: first_value(leaf, name) for name, leaf in zip(tree.names, leaves, strict=True)}
    arrays = SharedArrays(
        client or get_default_client(),
        name,
        values,
        optimizer=optimizer,
        sync=sync,
        initializer=initializer,
        partitioner=partitioner,
        overlap=overlap,
    )
    return SharedTree(tree, arrays, JaxCopies(list(values.values()), leaves))
