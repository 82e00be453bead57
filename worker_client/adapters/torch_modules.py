"""A module of PyTorch whose parameters a cluster keeps: pulls into its memory, steps with its gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, cast, runtime_checkable

import torch

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

    __slots__ = ("key", "owner", "path", "place", "tensor")

    def __init__(self, model: str, path: str, owner: torch.nn.Module, key: str, tensor: torch.Tensor):
        self.path = path
        self.owner = owner
        self.key = key
        self.tensor = tensor
        self.place = TensorPlace(f"{model}: parameter {path}", tensor)


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
            InvalidArgumentError: A parameter has another shape, dtype or device than when the model was shared.
            ShardscopeError: A ps task has failed; with ``overlap`` what the last step has failed with.
        """
        if [each for each in self._trained if each.owner._parameters.get(each.key) is not each.tensor]:
            self._find_again()
        moved = [each for each in self._trained if each.place.has_moved]
        if moved:
            self._move(moved)
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
            FailedPreconditionError: No parameter has a gradient.
            InvalidArgumentError: A parameter has one that was frozen when the model was shared; nothing was changed.
            ShardscopeError: As of ``Optimizer.apply_gradients``. The gradients are gone.
        """
        if self.optimizer is None:
            raise FailedPreconditionError(
                f"{self.name} is shared without an optimizer, so that it makes no steps; give share() one of ss.train"
            )
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

    def _find_again(self) -> None:
        """Takes the parameters that the module has now, in the place of those that were replaced."""
        for each in self._trained:
            now = each.owner._parameters.get(each.key)
            if now is None or (now.shape, now.dtype, now.device) != (
                each.tensor.shape,
                each.tensor.dtype,
                each.tensor.device,
            ):
                raise self._changed(each, now)
            each.tensor = now
        self._tensors = [each.tensor for each in self._trained]
        self._move([each for each in self._trained if each.place.tensor is not each.tensor])

    def _move(self, moved: Sequence[_Parameter]) -> None:
        for each in moved:
            place = TensorPlace(f"{self.name}: parameter {each.path}", each.tensor)
            if (place.array.shape, place.array.dtype) != (each.place.array.shape, each.place.array.dtype):
                raise self._changed(each, each.tensor)
            each.place = place
        self._arrays.put_at({each.path: each.place.array for each in moved})

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
    if isinstance(optimizer, torch.optim.Optimizer):
        kind = type(optimizer).__name__
        rate = optimizer.param_groups[0].get("lr", 0.001)
        twin = _TWINS.get(kind)
        has_momentum = kind == "SGD" and optimizer.param_groups[0].get("momentum")
        if has_momentum:
            twin = "Momentum"
            rate = f"{rate}, momentum={optimizer.param_groups[0]['momentum']}"
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
    owners = {
        (f"{prefix}.{key}" if prefix else key): (owner, key)
        for prefix, owner in module.named_modules()
        for key in owner._parameters
    }
    trained: list[_Parameter] = []
    frozen: list[tuple[str, torch.nn.Parameter]] = []
    for full_name, tensor in module.named_parameters():
        path = full_name.replace(".", "/")
        if tensor.requires_grad:
            check_name(path, f"the parameters of {name}")
            trained.append(_Parameter(name, path, *owners[full_name], tensor))
        else:
            frozen.append((path, tensor))
    return trained, frozen


def _has_rows(update: Any) -> bool:
    return math.prod(getattr(getattr(update, "values", update), "shape", (1,))) > 0
