"""Tensors of PyTorch as arrays of NumPy over the same memory, both ways, and what has to be copied instead."""

from __future__ import annotations

import logging
from typing import Final

import numpy as np
import torch

from ps_protocol.dtype_traits import is_ml_dtype
from ps_protocol.errors import DTypeMismatchError, InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.values.conversion import IndexedSlices
from worker_client.values.torch_tensors import sparse_rows, tensor_array

_LOG = logging.getLogger(__name__)


def array_over(tensor: torch.Tensor) -> Array:
    """Returns an array over the memory of a tensor of the CPU, which it keeps alive; writable, and strided alike."""
    return tensor_array(tensor.detach())


def tensor_over(array: Array) -> torch.Tensor:
    """Returns a tensor over the memory of an array, which it keeps alive.

    Raises:
        DTypeMismatchError: PyTorch has no such elements.
    """
    name = array.dtype.name
    try:
        if is_ml_dtype(array.dtype):
            of_bytes = torch.from_numpy(array.view(np.uint8 if array.itemsize == 1 else np.int16))
            return of_bytes.view(getattr(torch, name))
        return torch.from_numpy(array)
    except (AttributeError, KeyError, TypeError) as error:
        raise DTypeMismatchError(f"PyTorch has no tensors of {name}") from error


def check_layout(what: str, tensor: torch.Tensor, *, trained: bool = True) -> None:
    """Makes sure that the values of a tensor can be shared.

    Args:
        what: What errors call it, with its name.
        tensor: The tensor.
        trained: Whether it has gradients.

    Raises:
        InvalidArgumentError: It has no memory, is sparse or quantized, or some of its elements are one in memory.
        DTypeMismatchError: It is complex and trained, or of elements that no variable holds.
    """
    if isinstance(tensor, torch.nn.parameter.UninitializedTensorMixin):
        raise InvalidArgumentError(
            f"{what} has no shape yet: it is of a lazy module; run one batch through the model, then share it"
        )
    if tensor.device.type == "meta":
        raise InvalidArgumentError(
            f"{what} is on the meta device, where it has no values; model.to_empty(device='cpu') gives it memory, to "
            f"be initialised then"
        )
    if tensor.layout != torch.strided or tensor.is_quantized:
        kind = "is quantized" if tensor.is_quantized else f"has the layout {tensor.layout}"
        raise InvalidArgumentError(f"{what} {kind}; make it dense, as with .to_dense() or .dequantize(), or freeze it")
    if any(stride == 0 and size > 1 for stride, size in zip(tensor.stride(), tensor.shape, strict=True)):
        raise InvalidArgumentError(
            f"{what} has elements that share their memory, as expand() makes them, so that no values can be read into "
            f"it; give it memory of its own with .clone(memory_format=torch.contiguous_format), or expand it where the "
            f"model computes"
        )
    if trained and tensor.dtype.is_complex:
        raise DTypeMismatchError(
            f"{what} is {tensor.dtype}, and the optimizers of ss.train train real numbers; make it a parameter of "
            f"real numbers with torch.view_as_real(), and use torch.view_as_complex() where the model computes"
        )
    if not _has_numpy_dtype(tensor.dtype):
        raise DTypeMismatchError(f"{what} is {tensor.dtype}, which no variable holds; convert it, as to float32")


def _has_numpy_dtype(dtype: torch.dtype) -> bool:
    try:
        tensor_array(torch.empty(0, dtype=dtype, device="cpu"))
    except (RuntimeError, TypeError):
        return False
    return True


class TensorPlace:
    """Where the values of a parameter are read into: its own memory, or an array beside it that is copied.

    Args:
        what: What errors call the parameter, with its name.
        tensor: The parameter; not checked again.

    Attributes:
        tensor: The parameter.
        array: Contiguous and writable.
        is_beside: Whether that is not the parameter's own memory.
    """

    def __init__(self, what: str, tensor: torch.Tensor):
        check_layout(what, tensor)
        self.tensor = tensor
        self.is_beside = tensor.device.type != "cpu" or not tensor.is_contiguous()
        self._memory = _memory_of(tensor)
        self._beside: torch.Tensor | None = None
        self._gradient: torch.Tensor | None = None
        if self.is_beside:
            self._beside = _empty_like(tensor)
            self._beside.copy_(tensor.detach())
        self.array: Final = array_over(tensor if self._beside is None else self._beside)

    @property
    def has_moved(self) -> bool:
        """Whether the parameter has other memory than when this was made, or lies in it otherwise."""
        return _memory_of(self.tensor) != self._memory

    def take(self) -> None:
        """Copies the array into the parameter, where that has memory of its own. In ``torch.no_grad``."""
        if self._beside is not None:
            self.tensor.copy_(self._beside)

    def give(self) -> None:
        """Copies the parameter into the array, where that is beside it."""
        if self._beside is not None:
            self._beside.copy_(self.tensor.detach())

    def gradient(self, gradient: torch.Tensor) -> Array | IndexedSlices:
        """Returns a gradient of the parameter: over its memory, or over memory that the next one will be copied to."""
        if gradient.layout != torch.strided:
            rows = _rows_of(gradient, self.tensor)
            if rows is not None:
                return rows
            gradient = gradient.to_dense()
        gradient = gradient.detach()
        if (
            gradient.dtype == self.tensor.dtype
            and gradient.is_cpu
            and gradient.is_contiguous()
            and not gradient._is_zerotensor()
        ):
            return array_over(gradient)
        if self._gradient is None:
            self._gradient = _empty_like(self.tensor)
        self._gradient.copy_(gradient)
        return array_over(self._gradient)


def _memory_of(tensor: torch.Tensor) -> tuple[int, torch.Size, tuple[int, ...]]:
    return tensor.data_ptr(), tensor.shape, tensor.stride()


def _empty_like(tensor: torch.Tensor) -> torch.Tensor:
    """Contiguous memory of the host, which may also be written to outside of the inference mode that it is made in."""
    with torch.inference_mode(False):
        return torch.empty(tensor.shape, dtype=tensor.dtype, device="cpu")


def _rows_of(gradient: torch.Tensor, parameter: torch.Tensor) -> IndexedSlices | None:
    """The rows that a sparse gradient has, of which those that it has twice count as their sum; None of another one."""
    found = sparse_rows(gradient.detach())
    if found is None:
        return None
    values, rows, shape = found
    values = values.detach().to("cpu", parameter.dtype).contiguous()
    return IndexedSlices(array_over(values), array_over(rows.cpu().contiguous()), list(shape))


def say_device_once(name: str, device: str) -> None:
    """Says in the log that the values of a model go through the host."""
    _LOG.info("%s is on the device %s: its values and gradients are copied through the host in each step", name, device)
