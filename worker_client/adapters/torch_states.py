"""States of shared modules, as PyTorch has them: dictionaries of tensors, and files that ``from_pretrained`` reads."""

from __future__ import annotations

import copy
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np
import torch

from ps_protocol.errors import InvalidArgumentError, NotFoundError
from ps_protocol.operations import Array
from ps_protocol.tensor_files.safetensors import SafetensorsCheckpoint
from ps_protocol.tensor_files.safetensors_writer import write_safetensors
from ps_protocol.tensor_files.stored_tensor import Part, StoredTensor
from worker_client.adapters.torch_arrays import array_over, tensor_over
from worker_client.adapters.torch_modules import SharedModule
from worker_client.client import Client
from worker_client.default_client import get_default_client

FILE_NAME: Final = "model.safetensors"
"""What Hugging Face's libraries call the file, and the first part of the names of several."""

State = dict[str, torch.Tensor]
"""By the names of PyTorch; what ``get_extra_state`` of a module returns may be of any type."""


class DifferentKeys(NamedTuple):
    """What a state lacks of a model, and has besides, as PyTorch's ``load_state_dict`` returns it."""

    missing_keys: list[str]
    unexpected_keys: list[str]


def state_dict(shared: SharedModule | str, *, client: Client | None = None) -> State:
    """Returns the state of a shared model, as the cluster has it now, by the names that PyTorch gives it.

    Of a shared module it is what its own ``state_dict`` has: parameters and shared buffers as the cluster has them, the
    rest (frozen parameters, buffers that are not shared) as they are here. By a name alone it is what the cluster has
    under that, for programs without the model. Of workers that train together it is one round.

    Args:
        shared: The shared model, or the full name of one.
        client: The connection, with a name; by default the default one.

    Returns:
        New tensors of the CPU, which nothing else uses; and copies of what ``get_extra_state`` of modules returns.

    Raises:
        NotFoundError: The cluster has no variables under the name.
    """
    if isinstance(shared, str):
        return _state_of_name(shared, client or get_default_client())
    shared.wait()
    mirror = shared.client.mirror(shared.variables)
    values = dict(zip(shared.variables, mirror.values, strict=True))
    state: State = {}
    same: dict[int, str] = {}
    for name, tensor in shared.module.state_dict(keep_vars=True).items():
        if not isinstance(tensor, torch.Tensor):  # of get_extra_state()
            state[name] = copy.deepcopy(tensor)
            continue
        path = shared.path_of(tensor)
        if path is None:
            found = values.get(_path_of(name))
            state[name] = tensor.detach().cpu().clone() if found is None else tensor_over(found)
        else:  # one that has several names comes as one tensor, as it does in PyTorch
            state[name] = state[same[id(tensor)]] if id(tensor) in same else tensor_over(values[path])
            same.setdefault(id(tensor), name)
    return state


def _state_of_name(name: str, client: Client) -> State:
    begin = f"{name.rstrip('/')}/"
    entries = {each.name: each for each in client.variables() if each.name.startswith(begin) and not each.slot_of}
    if not entries:
        raise NotFoundError(
            f"the cluster has no variables under {name}; `shardscope ls` lists those there are, and a model has the "
            f"name that share() was given, below the variable scope of then"
        )
    mirror = client.mirror(list(entries))
    return {
        full_name[len(begin) :].replace("/", "."): tensor_over(value)
        for full_name, value in zip(entries, mirror.values, strict=True)
    }


def load_state_dict(shared: SharedModule, state: Mapping[str, Any], strict: bool = True) -> DifferentKeys:
    """Gives a shared model another state, in the cluster and in this process; nothing is changed if it does not fit.

    The parameters of the other workers follow with their next pull. The slots of the optimizer, as Adam's means, stay:
    load before the training begins, on one worker. What has several names in the model needs one of them.

    Args:
        shared: The shared model.
        state: Tensors by the names that PyTorch gives them, as ``state_dict`` and ``torch.load`` return them.
        strict: Whether names may neither be missing nor be unknown.

    Returns:
        The names that are missing, and those that are unknown.

    Raises:
        InvalidArgumentError: A name is missing or unknown, with ``strict``, or something is no tensor, or one of
            another shape: all are listed, as PyTorch does.
        ShardscopeError: A ps task has failed: then some of the values may be there.
    """
    _check_names(shared.name, state)
    shared.wait()  # a step that is under way would read over what is loaded
    module = shared.module
    own = module.state_dict(keep_vars=True)
    names = {name.removeprefix(_COMPILED): name for name in own}
    given = {name.removeprefix(_COMPILED): tensor for name, tensor in state.items()}
    there = {id(own[names[name]]) for name in given if name in names}
    keys = DifferentKeys(
        [name for name in names if name not in given and id(own[names[name]]) not in there],
        [name for name in given if name not in names],
    )
    wrong = []
    if strict and keys.unexpected_keys:
        wrong.append(f"Unexpected key(s) in state_dict: {_quoted(keys.unexpected_keys)}.")
    if strict and keys.missing_keys:
        wrong.append(f"Missing key(s) in state_dict: {_quoted(keys.missing_keys)}.")
    wrong += [found for name in given if name in names and (found := _misfit(name, given[name], own[names[name]]))]
    if wrong:
        raise InvalidArgumentError(
            f"Error(s) in loading state_dict for {shared.name}: {' '.join(wrong)} Nothing changed"
        )
    module.load_state_dict({names[name]: tensor for name, tensor in given.items() if name in names}, strict=False)
    shared.assign_all()
    return keys


def _check_names(model: str, state: object) -> None:
    wrong = state if not isinstance(state, Mapping) else next((name for name in state if not isinstance(name, str)), "")
    if wrong != "" or not isinstance(state, Mapping):
        raise InvalidArgumentError(
            f"{model}: a state is a dictionary of tensors by the names that PyTorch gives them, as of "
            f"ss.torch.state_dict(); this one {'has the name' if isinstance(state, Mapping) else 'is'} {wrong!r}"
        )


def _misfit(name: str, given: object, own: object) -> str | None:
    """What is wrong with a value for a parameter or buffer; None if the module takes it."""
    if not isinstance(own, torch.Tensor):
        return None  # of get_extra_state()
    if not isinstance(given, torch.Tensor):
        return f"{name} is a {type(given).__name__}; it should be a tensor, as of torch.as_tensor()."
    if given.shape != own.shape:
        return f"size mismatch for {name}: the state has the shape {list(given.shape)}, the model {list(own.shape)}."
    if given.device.type == "meta" or given.layout != torch.strided or given.is_quantized:
        return f"{name} is on the device {given.device} with the layout {given.layout}, and has no values to copy."
    if given.is_complex() and not own.is_complex():
        return f"{name} is {given.dtype}, the model's {own.dtype}."
    return None


def save_pretrained(
    shared: SharedModule | str,
    folder: str | os.PathLike[str],
    *,
    overwrite: bool = False,
    shard_bytes: int | None = None,
    client: Client | None = None,
) -> list[Path]:
    """Writes the state of a shared model as ``model.safetensors``, which ``from_pretrained`` of its class reads.

    What has several names in the model is there once, by its first name, as in the files of Hugging Face's libraries.
    If the model has a ``config`` that can save itself, that goes into the folder too.

    Args:
        shared: As for ``state_dict``.
        folder: Made if it is not there.
        overwrite: Whether what is there of that name is replaced.
        shard_bytes: Most bytes of tensors in a file; several have an index.
        client: As for ``state_dict``.

    Returns:
        The files with tensors, and their index.

    Raises:
        AlreadyExistsError: There is such a file.
        InvalidArgumentError: The state has something that is no tensor, of ``get_extra_state``.
        NotFoundError: The cluster has no variables under the name.
    """
    state: State = {}
    for name, tensor in state_dict(shared, client=client).items():
        if not isinstance(tensor, torch.Tensor):
            raise InvalidArgumentError(
                f"{name} is a {type(tensor).__name__}, which a module's get_extra_state() has returned, and files of "
                f"safetensors hold tensors only; write the state with torch.save(ss.torch.state_dict(...), path)"
            )
        if not any(tensor is other for other in state.values()):
            state[name.removeprefix(_COMPILED)] = tensor
    stored = {name: _stored(name, array_over(tensor.contiguous())) for name, tensor in state.items()}
    paths = write_safetensors(
        Path(folder) / FILE_NAME, stored, metadata={"format": "pt"}, shard_bytes=shard_bytes, overwrite=overwrite
    )
    config: Any = None if isinstance(shared, str) else getattr(shared.module, "config", None)
    if hasattr(config, "save_pretrained"):
        config.save_pretrained(os.fspath(folder))
    return paths


def load_pretrained(shared: SharedModule, folder: str | os.PathLike[str], strict: bool = True) -> DifferentKeys:
    """Gives a shared model the state that a folder has as ``model.safetensors``, or several files with an index.

    Args:
        shared: The shared model.
        folder: The folder, or a file of safetensors.
        strict: As for ``load_state_dict``.

    Raises:
        NotFoundError: There is no such file.
        DataLossError: It is damaged.
        ShardscopeError: As of ``load_state_dict``.
    """
    place = Path(folder)
    if place.is_dir():
        index = place / f"{FILE_NAME}.index.json"
        place = index if index.is_file() else place / FILE_NAME
    if not place.is_file():
        raise NotFoundError(f"there is no {place}; give a folder with {FILE_NAME}, as save_pretrained() makes it")
    with SafetensorsCheckpoint(place) as stored:
        return load_state_dict(shared, {name: tensor_over(np.asarray(stored[name])) for name in stored}, strict)


class _InMemory:
    """Values of a tensor of this process, for who reads those of files."""

    def __init__(self, array: Array):
        self._rows = array

    def check_size(self) -> None:
        """There is no file."""

    def verify(self) -> None:
        """There is no checksum."""

    def read_into(self, target: Array, first_row: int) -> None:
        np.copyto(target, self._rows[first_row : first_row + len(target)] if target.ndim else self._rows)


def _stored(name: str, array: Array) -> StoredTensor:
    whole = Part((0,) * array.ndim, array.shape, _InMemory(array))
    return StoredTensor(name, array.dtype, array.shape, [whole])


_COMPILED: Final = "_orig_mod."
"""What ``torch.compile`` puts before the names of a module's parameters."""


def _path_of(name: str) -> str:
    return name.removeprefix(_COMPILED).replace(".", "/")


def _quoted(names: list[str]) -> str:
    return ", ".join([f'"{name}"' for name in names])
