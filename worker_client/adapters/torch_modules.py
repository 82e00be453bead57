"""A module of PyTorch whose parameters a cluster keeps: pulls into its memory, steps with its gradients."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final, Protocol, cast, runtime_checkable

import torch
from numpy.lib.array_utils import byte_bounds

from ps_protocol.errors import FailedPreconditionError, InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.adapters.declared import Initializers
from worker_client.adapters.parameter_trees import check_name
from worker_client.adapters.shared_arrays import SharedArrays, Update
from worker_client.adapters.shared_model import SharedModel
from worker_client.adapters.torch_arrays import TensorPlace, say_device_once
from worker_client.adapters.torch_buffers import SharedBuffers
from worker_client.client import Client
from worker_client.optimizers.optimizer import Optimizer
from worker_client.optimizers.outcomes import Applied
from worker_client.variables.partitioners import Partitioner
from worker_client.variables.parts import EagerVariable

_TWINS: Final = {
    "ASGD": "GradientDescent",
    "Adadelta": "Adadelta",
    "Adagrad": "Adagrad",
    "Adam": "Adam",
    "AdamW": "AdamW",
    "RMSprop": "RMSProp",
    "SGD": "GradientDescent",
    "SparseAdam": "Adam",
}
"""What is in ``ss.train`` instead of an optimizer of ``torch.optim``."""


@runtime_checkable
class TableInModel(Protocol):
    """A module whose table is on the ps tasks, and may be trained by the optimizer of the model that it is in."""

    def attach(self, shared: Any) -> Sequence[EagerVariable]:
        """Says that it is in a shared model.

        Returns:
            The variables whose gradients it collects for that; none if it has an optimizer of its own.
        """
        ...

    def take_gradients(self) -> list[tuple[Update, EagerVariable]]:
        """Returns what was collected since the last time: one gradient for each variable, of no rows if need be."""
        ...


class _Parameter:
    """A parameter that is shared: what has it, what that calls it, and where its values are read into."""

    __slots__ = ("form", "full_name", "key", "owner", "path", "place", "tensor")

    def __init__(
        self,
        model: str,
        full_name: str,
        owner: torch.nn.Module,
        key: str,
        tensor: torch.Tensor,
        place: TensorPlace | None = None,
    ):
        self.full_name = full_name
        self.path = _path_of(full_name)
        self.owner = owner
        self.key = key
        self.tensor = tensor
        self.place = place or TensorPlace(f"{model}: parameter {self.path}", tensor)
        self.form = tensor.shape, tensor.dtype, tensor.device


class SharedModule(SharedModel):
    """A module whose parameters a cluster keeps. Made by ``ss.torch.share``; a model may be used as before.

    One thread at a time may use it. As a context manager it is closed at the end. It keeps no global state: a process
    may share several models, on several connections.

    Args:
        module: The module.
        name: A scope below the current variable scope.
        client: The connection.
        optimizer: Trains the parameters; None if they are only pulled.
        sync: How the workers train together.
        buffers: How buffers are shared.
        initializer: What variables begin with instead.
        partitioner: Cuts them into parts.
        overlap: Whether a thread pushes and pulls while the program goes on.

    Attributes:
        module: As given.
    """

    def __init__(
        self,
        module: torch.nn.Module,
        name: str,
        client: Client,
        *,
        optimizer: Optimizer | None,
        sync: str | None,
        buffers: str,
        initializer: Initializers,
        partitioner: Partitioner | None,
        overlap: bool,
    ):
        self.module: Final = module
        plain = _without_wrapper(module)
        self._trained, self._frozen = _parameters_of(plain, name)
        if isinstance(initializer, Mapping):
            initializer = {path.replace(".", "/"): each for path, each in initializer.items()}
        self._embeddings = [each for each in plain.modules() if isinstance(each, TableInModel)]
        tables = [variable for each in self._embeddings for variable in each.attach(self)]
        if not self._trained and not tables:
            raise InvalidArgumentError(
                f"{name}: the model has no parameters that train"
                + (f": all {len(self._frozen)} are frozen; set requires_grad before share()" if self._frozen else "")
            )
        _check_apart(name, self._trained)
        self._plain = plain
        self._structure = _structure_of(plain)
        self._buffers = SharedBuffers(plain, name, buffers, client)
        super().__init__(
            SharedArrays(
                client,
                name,
                {each.path: each.place.array for each in self._trained},
                optimizer=optimizer,
                sync=sync,
                untrained=self._buffers.arrays,
                initializer=initializer,
                partitioner=partitioner,
                overlap=overlap,
                tables=tables,
            )
        )
        devices = {each.tensor.device.type for each in self._trained} - {"cpu"}
        if devices:
            say_device_once(self.name, ", ".join(sorted(devices)))
        self._overlaps = overlap
        self._tensors = [each.tensor for each in self._trained]
        self._take()

    # -- the loop -----------------------------------------------------------------------------

    def pull(self, *, fresh: bool = False) -> None:
        """Reads what has changed into the parameters: one exchange for each ps task.

        A step has read behind itself, so that the pull after it has nothing left to do; with ``overlap`` it waits for
        that. Under ``sync`` the first pull enters the rounds.

        Args:
            fresh: Whether to read in any case, as after a pause in a program that trains without ``sync``.

        Raises:
            InvalidArgumentError: A parameter has another shape, dtype or device than when the model was shared, or the
                model has others.
            ShardscopeError: A ps task has failed; with ``overlap`` what the last step has failed with.
        """
        self._arrays.make_ready()
        if self._has_changed():
            self._find_again()
        if self._arrays.pull(fresh=fresh):
            self._buffers.settle()
            self._take()

    def step(self, *, learning_rate: float | None = None, completes: Any = None) -> list[Applied]:
        """Takes the gradients to the ps tasks, which change the parameters by them, and reads these: one exchange each.

        The gradients are gone then: each ``.grad`` is None, so that ``zero_grad`` is not needed. To accumulate, call
        ``backward`` several times before.

        Args:
            learning_rate: For this step, instead of the optimizer's.
            completes: A shard of ``ss.data.Shards`` that counts when this step does.

        Returns:
            What became of each gradient, in the order of the parameters that have one (with ``sync``, of all); nothing
            with ``overlap``.

        Raises:
            FailedPreconditionError: No parameter has a gradient, or the model is closed.
            InvalidArgumentError: A parameter has one that was frozen when the model was shared; nothing was changed.
            ShardscopeError: As of ``Optimizer.apply_gradients``. The gradients are gone. Or, with ``overlap``, what the
                last step has failed with; the gradients are there then.
        """
        if self.optimizer is None:
            raise FailedPreconditionError(
                f"{self.name} is shared without an optimizer, so that it makes no steps; give share() one of ss.train"
            )
        self._arrays.make_ready()  # which still sends what lies where gradients and buffers are put now
        for path, tensor in self._frozen:
            if tensor.grad is not None:
                raise InvalidArgumentError(
                    f"{self.name}: parameter {path} has a gradient, but was frozen when the model was shared; set its "
                    f"requires_grad before share(), or again to False",
                    variable=f"{self.name}/{path}",
                )
        updates: dict[str, Update] = {}
        for each in self._trained:
            gradient = each.tensor.grad
            if gradient is not None:
                updates[each.path] = each.place.gradient(gradient)
        collected = [pair for each in self._embeddings for pair in each.take_gradients()]
        if not updates and not [update for update, _ in collected if _has_rows(update)]:
            raise FailedPreconditionError(
                f"{self.name}: step() without backward(): none of its {len(self._trained)} parameters has a gradient "
                f"({', '.join([each.path for each in self._trained[:3]])}, ...); call loss.backward() before, on what "
                f"the model has computed"
            )
        for tensor in self._tensors:
            tensor.grad = None
        self._buffers.push(self.variables)
        made = self._arrays.push(updates, tables=collected, learning_rate=learning_rate, completes=completes)
        if not self._overlaps:
            self._buffers.settle()
            self._take()
        return made

    @torch.no_grad()
    def clip_grad_norm(self, max_norm: float, norm_type: float = 2.0) -> torch.Tensor:
        """Scales the gradients so that the norm of all together is at most ``max_norm``, as PyTorch's function does.

        Those with rows only (``nn.Embedding(sparse=True)``) count too; those of tables on the ps tasks do not.

        Returns:
            The norm before, a scalar.

        Raises:
            FailedPreconditionError: No parameter has a gradient.
        """
        gradients: list[torch.Tensor] = []
        for tensor in self._tensors:
            if tensor.grad is not None:
                if tensor.grad.is_sparse and not tensor.grad.is_coalesced():
                    tensor.grad = tensor.grad.coalesce()  # rows that it has twice are one
                gradients.append(tensor.grad._values() if tensor.grad.is_sparse else tensor.grad)
        if not gradients:
            raise FailedPreconditionError(
                f"{self.name}: no parameter has a gradient to clip; call loss.backward() before"
            )
        total = torch.nn.utils.get_total_norm(gradients, norm_type)
        scale = torch.clamp(max_norm / (total + 1e-6), max=1.0)
        for gradient in gradients:
            gradient.mul_(scale.to(gradient.device))
        return total

    # -- states -------------------------------------------------------------------------------

    def path_of(self, tensor: torch.Tensor) -> str | None:
        """Returns the name of a parameter that is shared, as ``conv1/weight``; None of any other tensor."""
        return next((each.path for each in self._trained if each.tensor is tensor), None)

    def wait(self) -> None:
        """With ``overlap``, waits until the last step is through; raises what it has failed with, once."""
        self._arrays.wait()

    def assign_all(self) -> None:
        """Gives the cluster the values that the module has: parameters that are shared, and buffers."""
        self._arrays.wait()
        values: dict[EagerVariable, Array] = {}
        for each in self._trained:
            each.place.give()
            values[self.variables[each.path]] = each.place.array
        values.update({self.variables[path]: array for path, array in self._buffers.given().items()})
        self.client.assign_all(values)

    # -- memory -------------------------------------------------------------------------------

    def _take(self) -> None:
        """Copies what has been read to where it is not yet, and has autograd know that it has changed."""
        with torch.no_grad():
            for each in self._trained:
                if each.place.is_beside:
                    each.place.take()
            self._buffers.take()
        torch.autograd.graph.increment_version(self._tensors)

    def _has_changed(self) -> bool:
        """Whether the model has other parameters than at the last pull, or has them elsewhere."""
        for each in self._trained:
            if each.owner._parameters.get(each.key) is not each.tensor or each.place.has_moved:
                return True
        return any(
            owner._modules != modules or owner._parameters.keys() != keys for owner, modules, keys in self._structure
        )

    def _find_again(self) -> None:
        """Takes the parameters that the model has now, where it has them, or none if one does not fit."""
        owners = _owners_of(self._plain)
        kept = {id(owner._parameters[key]): (owner, key) for owner, key in owners.values()}
        found: list[_Parameter] = []
        for each in self._trained:
            place = kept.get(id(each.tensor)) or owners.get(each.full_name)  # the same one, also by another name
            now = place and place[0]._parameters[place[1]]
            if place is None or now is None or (now.shape, now.dtype, now.device) != each.form:
                raise self._changed(each, now)
            there = each.place if now is each.tensor and not each.place.has_moved else None
            found.append(_Parameter(self.name, each.full_name, *place, now, there))
        frozen = self._frozen_besides({id(each.tensor) for each in found})
        _check_apart(self.name, found)
        moved = {
            now.path: now.place.array
            for now, then in zip(found, self._trained, strict=True)
            if now.place is not then.place
        }
        if moved:
            self._arrays.put_at(moved)
        self._buffers.find_again(self._plain)
        self._trained, self._frozen = found, frozen
        self._tensors = [each.tensor for each in found]
        self._structure = _structure_of(self._plain)

    def _frozen_besides(self, trained: Collection[int]) -> list[tuple[str, torch.nn.Parameter]]:
        """The parameters that are not shared; InvalidArgumentError if one is new and would train."""
        then = {path for path, _ in self._frozen}
        found = [(_path_of(name), each) for name, each in self._plain.named_parameters() if id(each) not in trained]
        for path, tensor in found:
            if tensor.requires_grad and path not in then:
                raise InvalidArgumentError(
                    f"{self.name}: the model has a parameter {path} that it did not have when it was shared, and which "
                    f"would not train; tie or freeze it as it was, or close() this model and share it again",
                    variable=f"{self.name}/{path}",
                )
        return found

    def _changed(self, parameter: _Parameter, now: torch.Tensor | None) -> InvalidArgumentError:
        then = parameter.place.array
        found = "is gone" if now is None else f"is {now.dtype} {list(now.shape)} on {now.device} now"
        return InvalidArgumentError(
            f"{self.name}: parameter {parameter.path} {found}, and was {then.dtype.name} {list(then.shape)} when the "
            f"model was shared; convert and move a model before share(), or close() this one and share it again",
            variable=f"{self.name}/{parameter.path}",
        )


def check_optimizer(optimizer: object) -> Optimizer | None:
    """Makes sure that an optimizer is not one of PyTorch's; InvalidArgumentError that names its twin if it is."""
    is_class = isinstance(optimizer, type) and issubclass(optimizer, torch.optim.Optimizer)
    if is_class or isinstance(optimizer, torch.optim.Optimizer):
        kind = optimizer.__name__ if isinstance(optimizer, type) else type(optimizer).__name__
        settings = optimizer.param_groups[0] if isinstance(optimizer, torch.optim.Optimizer) else {}
        rate = settings.get("lr", 0.001)
        twin = _TWINS.get(kind)
        if kind == "SGD" and settings.get("momentum"):
            twin = "Momentum"
            rate = f"{rate}, momentum={settings['momentum']}"
        remedy = f"give ss.train.{twin}({rate})" if twin else "give one of ss.train"
        raise InvalidArgumentError(
            f"optimizer= is torch.optim.{kind}, which changes parameters in this process, while those of a shared "
            f"model are changed on the ps tasks; {remedy}"
        )
    return cast("Optimizer | None", optimizer)


def _without_wrapper(module: torch.nn.Module) -> torch.nn.Module:
    """The module that ``torch.compile`` was given, whose parameters have the names that it has without."""
    inner = getattr(module, "_orig_mod", None)
    return inner if isinstance(inner, torch.nn.Module) else module


def _parameters_of(module: torch.nn.Module, name: str) -> tuple[list[_Parameter], list[tuple[str, torch.nn.Parameter]]]:
    """The parameters that train, and the names of those that do not; one that is there twice by its first name."""
    owners = _owners_of(module)
    trained: list[_Parameter] = []
    frozen: list[tuple[str, torch.nn.Parameter]] = []
    names: dict[str, str] = {}
    for full_name, tensor in module.named_parameters():
        path = _path_of(full_name)
        if tensor.requires_grad:
            check_name(path, f"the parameters of {name}")
            if names.setdefault(path, full_name) != full_name:
                raise InvalidArgumentError(
                    f"{name}: the parameters {names[path]} and {full_name} would both be the variable {name}/{path}; "
                    f"rename one",
                    variable=f"{name}/{path}",
                )
            trained.append(_Parameter(name, full_name, *owners[full_name], tensor))
        else:
            frozen.append((path, tensor))
    return trained, frozen


def _path_of(full_name: str) -> str:
    return full_name.replace(".", "/")


def _owners_of(module: torch.nn.Module) -> dict[str, tuple[torch.nn.Module, str]]:
    """Which module has a parameter, and what it calls it, by the names of all."""
    return {
        (f"{prefix}.{key}" if prefix else key): (owner, key)
        for prefix, owner in module.named_modules()
        for key in owner._parameters
    }


def _structure_of(module: torch.nn.Module) -> list[tuple[torch.nn.Module, dict[str, Any], set[str]]]:
    """The modules of a module, each with its own ones and the names of its parameters."""
    return [(each, dict(each._modules), set(each._parameters)) for each in module.modules()]


def _check_apart(name: str, parameters: Sequence[_Parameter]) -> None:
    """Makes sure that no two parameters are read into the same memory; InvalidArgumentError that names them if so."""
    before: tuple[int, str] | None = None
    places = [(byte_bounds(each.place.array), each.path) for each in parameters if each.place.array.size]
    for (begin, end), path in sorted(places):
        if before is not None and begin < before[0]:
            raise InvalidArgumentError(
                f"{name}: parameters {before[1]} and {path} share memory, but are two, so that values of one would be "
                f"read over the other's; tie them by one parameter that has both names (module.weight = other.weight), "
                f"before share(), or give each its own memory with .clone()",
                variable=f"{name}/{path}",
            )
        before = end, path


def _has_rows(update: Any) -> bool:
    return math.prod(getattr(getattr(update, "values", update), "shape", (1,))) > 0
