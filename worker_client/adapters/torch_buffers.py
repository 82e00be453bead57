"""The buffers of a module, as the statistics of batch normalisation, and how workers share them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from concurrent.futures import Future
from typing import Final, Literal, TypeAlias, get_args

import numpy as np
import torch

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.adapters.torch_arrays import array_over, check_layout, tensor_over
from worker_client.client import Client
from worker_client.variables.parts import EagerVariable

BufferPolicy: TypeAlias = Literal["local", "mean", "chief"]
"""What workers share of buffers: nothing; the sum of what each has changed, by their number; or the chief's."""


class SharedBuffers:
    """The buffers that ``state_dict`` has, each with an array that holds the cluster's value as of the last pull.

    Args:
        module: The module. A buffer may be assigned to at any time; what counts is what the module has.
        name: Of the model, for errors.
        policy: How they are shared.
        client: The connection.

    Raises:
        InvalidArgumentError: There is no such policy, or a buffer is nothing that can be shared.

    Attributes:
        arrays: By the names of the buffers, with "/" between their parts; none with "local".
    """

    def __init__(self, module: torch.nn.Module, name: str, policy: str, client: Client):
        if policy not in get_args(BufferPolicy):
            raise InvalidArgumentError(f'{name}: buffers is {policy!r}; it should be "local", "mean" or "chief"')
        self._policy: Final = policy
        self._client: Final = client
        self._sent: list[Future[None]] = []
        self._owners: Final[dict[str, tuple[torch.nn.Module, str]]] = {}
        self.arrays: Final[dict[str, Array]] = {}
        for path, owner, key in _persistent_buffers(module) if policy != "local" else ():
            buffer = owner._buffers[key]
            assert buffer is not None  # it was found there
            check_layout(f"{name}: the buffer {path}", buffer, trained=False)
            self._owners[path] = owner, key
            self.arrays[path] = np.array(array_over(buffer.cpu().contiguous()))

    def push(self, variables: Mapping[str, EagerVariable]) -> None:
        """Begins to send what this worker has to say of the buffers; ``settle`` waits for it.

        What this connection sends next to each ps task comes behind that, and need not wait for it.
        """
        changes: dict[EagerVariable, Array] = {}
        values: dict[EagerVariable, Array] = {}
        for path, there in self.arrays.items():
            here = array_over(self._buffer(path).cpu().contiguous())
            if not np.array_equal(here, there):
                if self._policy == "mean" and here.dtype.kind not in "biu":
                    change = (here - there) / np.array(self._num_workers, here.dtype)
                    changes[variables[path]] = change.astype(here.dtype)
                elif self._client.is_chief:
                    values[variables[path]] = here
        if changes:
            self._sent.append(self._client.assign_add_all(changes, wait=False))
        if values:
            self._sent.append(self._client.assign_all(values, wait=False))

    def settle(self) -> None:
        """Waits until what was sent is applied; raises what that has failed with, once."""
        sent, self._sent = self._sent, []
        for each in sent:
            each.result()

    def find_again(self, module: torch.nn.Module) -> None:
        """Takes the modules that now have the buffers, in the place of those that were replaced."""
        for path, owner, key in _persistent_buffers(module):
            if path in self._owners:
                self._owners[path] = owner, key

    def given(self) -> dict[str, Array]:
        """Takes the module's buffers for those of the cluster, and returns them by their names."""
        for path, there in self.arrays.items():
            np.copyto(there, array_over(self._buffer(path).cpu().contiguous()))
        return self.arrays

    def take(self) -> None:
        """Copies what was pulled into the module. In ``torch.no_grad``."""
        for path, there in self.arrays.items():
            self._buffer(path).copy_(tensor_over(there))

    def _buffer(self, path: str) -> torch.Tensor:
        owner, key = self._owners[path]
        buffer = owner._buffers.get(key)
        if buffer is None:
            raise InvalidArgumentError(
                f"the buffer {path} was taken out of the model after it was shared; close() it, and share it again"
            )
        return buffer

    @property
    def _num_workers(self) -> int:
        return max(1, len(self._client.cluster_spec.workers()))


def _persistent_buffers(module: torch.nn.Module) -> Iterator[tuple[str, torch.nn.Module, str]]:
    """The buffers that are saved, each once: name with "/", the module that has it, and what it calls it."""
    seen: set[int] = set()
    for prefix, owner in module.named_modules():
        for key, buffer in owner._buffers.items():
            if buffer is not None and key not in owner._non_persistent_buffers_set and id(buffer) not in seen:
                seen.add(id(buffer))
                yield "/".join([*prefix.split("."), key] if prefix else [key]), owner, key
