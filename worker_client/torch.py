"""Models of PyTorch on a cluster; use it as ``ss.torch``.

shared = ss.torch.share(model, "net", optimizer=ss.train.Adam(1e-3))
for x, y in loader:
    shared.pull()
    loss_fn(model(x), y).backward()
    shared.step()
"""

from __future__ import annotations

import torch

from ps_protocol.errors import InvalidArgumentError
from worker_client.adapters.declared import Initializers
from worker_client.adapters.torch_buffers import BufferPolicy
from worker_client.adapters.torch_embedding import ParameterServerEmbedding
from worker_client.adapters.torch_modules import SharedModule, check_optimizer
from worker_client.adapters.torch_states import load_pretrained, load_state_dict, save_pretrained, state_dict
from worker_client.client import Client
from worker_client.default_client import get_default_client
from worker_client.optimizers.optimizer import Optimizer
from worker_client.variables.partitioners import Partitioner

__all__ = [
    "ParameterServerEmbedding",
    "SharedModule",
    "load_pretrained",
    "load_state_dict",
    "save_pretrained",
    "share",
    "state_dict",
]


def share(
    model: torch.nn.Module,
    name: str,
    *,
    optimizer: Optimizer | None,
    sync: str | None = None,
    buffers: BufferPolicy = "local",
    initializer: Initializers = None,
    partitioner: Partitioner | None = None,
    overlap: bool = False,
    client: Client | None = None,
) -> SharedModule:
    """Makes each parameter of a model a variable of the cluster, or finds those that other workers have made.

    The model holds the values of the cluster then: those of whichever worker came first. A parameter ``conv1.weight``
    of the model "net" is the variable ``net/conv1/weight``. Values are read straight into the parameters' memory and
    gradients are sent from theirs, except where that is not contiguous (channels_last) or on another device: these are
    copied. Frozen parameters are not shared; one that is there twice is one variable, by its first name.

    Args:
        model: The model, also one that ``torch.compile`` has made; it is used as before, and may be moved, converted
            or frozen only before this.
        name: A scope below the current variable scope.
        optimizer: One of ``ss.train``, whose steps the ps tasks make. None for who only pulls, as an evaluator.
        sync: How the workers train together, as "bsp" or "ssp(3)": as the argument of optimizers.
        buffers: What workers share of buffers, as the statistics of batch normalisation. "local": nothing. "chief":
            those of worker 0, which assigns what has changed with its step; the others read it. "mean": each worker
            adds what it has changed since it has last read, divided by the number of workers of the cluster spec;
            integers are the chief's. They travel with the step; a pull between forward and step drops what this worker
            has changed.
        initializer: What variables begin with instead of the values here, computed by the ps: one for all, or a
            dictionary by the names of parameters.
        partitioner: Cuts the variables into parts.
        overlap: Whether a step returns at once, and a thread sends and reads while the program goes on: the loader,
            say. The parameters change at any time between a step and the end of the next pull then, and errors of a
            step come with that. At most one step is under way.
        client: The connection; by default the default one.

    Raises:
        InvalidArgumentError: The cluster has another model under the name: what is missing, more or different is
            listed. Or a parameter cannot be shared; or the model, the name or the optimizer belongs to another one;
            or the optimizer is PyTorch's.
        DTypeMismatchError: A parameter is complex, or of elements that no variable holds.
    """
    if not isinstance(model, torch.nn.Module):
        raise InvalidArgumentError(
            f"share() takes a torch.nn.Module, not {type(model).__name__}; arrays in dictionaries are for "
            f"ss.numpy.share() and ss.jax.share()"
        )
    return SharedModule(
        model,
        name,
        client or get_default_client(),
        optimizer=check_optimizer(optimizer),
        sync=sync,
        buffers=buffers,
        initializer=initializer,
        partitioner=partitioner,
        overlap=overlap,
    )
