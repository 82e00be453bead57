"""TensorFlow 1's operations that make summaries: their values are the bytes of ``Summary`` messages."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import numpy as np

from ps_protocol.errors import InvalidArgumentError
from ps_protocol.operations import Array
from worker_client.graph.blocks import name_scope
from worker_client.graph.computation import Kernel
from worker_client.graph.default_graph import get_default_graph
from worker_client.graph.keys import GraphKeys
from worker_client.graph.operation import OutputSpec
from worker_client.op_definitions.op_def import REAL
from worker_client.ops.constant_ops import convert_to_tensor
from worker_client.summaries.histograms import Histogram
from worker_client.summaries.images import encoded_images
from worker_client.summaries.protos import message_type
from worker_client.values.dtypes import DType, as_dtype, string
from worker_client.values.shapes import TensorShape
from worker_client.values.text import graph_array

__all__ = ["histogram", "image", "merge", "merge_all", "scalar", "text"]

_LOG = logging.getLogger("tensorflow")  # that of tf.logging

_ILLEGAL: Final = re.compile(r"[^-/\w\.]")


def scalar(name: str, tensor: Any, collections: Iterable[str] | None = None, family: str | None = None) -> Any:
    """Returns a tensor that is a summary of a number.

    Args:
        name: The tag, inside the name scope.
        tensor: A scalar.
        collections: Where it is added; ``GraphKeys.SUMMARIES`` if not given.
        family: A prefix of the tag, under which TensorBoard groups.

    Raises:
        TypeError: It is no number.
        InvalidArgumentError: When it is run: it is no scalar.
    """

    def values(tag: str, value: Array) -> list[Any]:
        if value.ndim:
            raise InvalidArgumentError(
                f"tags and values are not the same shape: [] != {list(value.shape)} (tag '{tag}'); give a scalar"
            )
        return [_value_type()(tag=tag, simple_value=float(value))]

    return _summary("ScalarSummary", name, tensor, "values", values, collections, family)


def histogram(
    name: str | None, values: Any, collections: Iterable[str] | None = None, family: str | None = None
) -> Any:
    """Returns a tensor that is a summary of how numbers are distributed. Arguments as ``scalar``, of any shape.

    Raises:
        TypeError: They are no numbers.
        InvalidArgumentError: When it is run: one is NaN or infinite.
    """

    def buckets(tag: str, value: Array) -> list[Any]:
        numbers = value.astype(np.float64, copy=False)
        if np.isnan(numbers).any():
            raise InvalidArgumentError(f"Nan in summary histogram for: {tag}")
        if np.isinf(numbers).any():
            raise InvalidArgumentError(f"Infinity in Histogram for: {tag}")
        fields = Histogram.of(value).fields()
        return [_value_type()(tag=tag, histo=message_type("HistogramProto")(**fields))]

    return _summary("HistogramSummary", name, values, "values", buckets, collections, family, "HistogramSummary")


def image(
    name: str,
    tensor: Any,
    max_outputs: int = 3,
    collections: Iterable[str] | None = None,
    family: str | None = None,
) -> Any:
    """Returns a tensor that is a summary of images, as PNG.

    Args:
        name: The tag, inside the name scope; "/image" or "/image/0" and so on follow.
        tensor: ``[batch, height, width, channels]`` with 1, 3 or 4 channels: uint8, or numbers that are scaled, each
            image by itself, so that they fill the range.
        max_outputs: At most how many of the batch.
        collections: As ``scalar``.
        family: As ``scalar``.

    Raises:
        TypeError: It is no number.
        InvalidArgumentError: When it is run: it has another shape.
    """

    def images(tag: str, value: Array) -> list[Any]:
        value = value[:max_outputs] if value.ndim == 4 else value
        encoded = encoded_images(tag, value)
        summary = message_type("Summary")
        tags = [f"{tag}/image"] if max_outputs == 1 else [f"{tag}/image/{number}" for number in range(len(encoded))]
        _, height, width, channels = value.shape
        return [
            summary.Value(
                tag=each,
                image=summary.Image(height=height, width=width, colorspace=channels, encoded_image_string=data),
            )
            for each, data in zip(tags, encoded, strict=True)
        ]

    return _summary("ImageSummary", name, tensor, "tensor", images, collections, family)


def text(name: str, tensor: Any, collections: Iterable[str] | None = None) -> Any:
    """Returns a tensor that is a summary of text, which TensorBoard shows as Markdown. Arguments as ``scalar``.

    Raises:
        ValueError: It is no text.
    """
    if as_dtype(tensor.dtype) != string:
        raise ValueError(f"Expected tensor {tensor.name} to have dtype string, got {DType.of(tensor.dtype)}")

    def texts(tag: str, value: Array) -> list[Any]:
        proto = message_type("TensorProto")(dtype="DT_STRING", string_val=list(value.flat))
        proto.tensor_shape.SetInParent()
        for size in value.shape:
            proto.tensor_shape.dim.add(size=size)
        metadata = message_type("SummaryMetadata")()
        metadata.plugin_data.plugin_name = "text"
        return [_value_type()(tag=tag, tensor=proto, metadata=metadata)]

    return _summary("TensorSummaryV2", name, tensor, "tensor", texts, collections, None, takes_text=True)


def merge(inputs: Sequence[Any], collections: Iterable[str] | None = None, name: str | None = None) -> Any:
    """Returns a tensor that is several summaries in one.

    Args:
        inputs: Summaries.
        collections: Where it is added; nowhere if not given.
        name: Name scope of the operation; "Merge" if not given.

    Raises:
        ValueError: There are no summaries.
        InvalidArgumentError: When it is run: two have one tag.
    """
    if not len(inputs):
        raise ValueError("tf.summary.merge needs one summary at least; tf.summary.merge_all() finds those of the graph")
    clean = _clean(name)

    def merged(*parts: Array) -> Array:
        summary = message_type("Summary")
        tags: set[str] = set()
        for part in parts:
            for data in np.ravel(part):
                for value in summary.FromString(data).value:
                    if value.tag in tags:
                        raise InvalidArgumentError(f"Duplicate tag {value.tag} found in summary inputs")
                    tags.add(value.tag)
        return graph_array(b"".join(data for part in parts for data in np.ravel(part)))

    with name_scope(clean, "Merge", inputs):
        operands = [convert_to_tensor(each) for each in inputs]
        made = _operation("MergeSummary", operands, merged, clean)
    for key in collections or ():
        get_default_graph().add_to_collection(key, made)
    return made


def merge_all(key: str = GraphKeys.SUMMARIES, scope: str | None = None, name: str | None = None) -> Any:
    """Returns a tensor that is all summaries of the default graph in one, None if there are none.

    Args:
        key: The collection of the summaries.
        scope: A regular expression for their names.
        name: As ``merge``.
    """
    found = get_default_graph().get_collection(key, scope)
    return merge(found, name=name) if found else None


def _summary(
    op_type: str,
    name: str | None,
    tensor: Any,
    argument: str,
    values: Callable[[str, Array], list[Any]],
    collections: Iterable[str] | None,
    family: str | None,
    default_name: str | None = None,
    *,
    takes_text: bool = False,
) -> Any:
    """Adds an operation that makes a summary from the value of a tensor.

    Args:
        op_type: The type.
        name: As given.
        tensor: What is summarised.
        argument: TensorFlow's name of that input.
        values: Makes the values of the summary, from the tag and the tensor's value.
        collections: As given.
        family: As given.
        default_name: Where no name is given.
        takes_text: Whether it is made from text; otherwise from numbers.
    """
    summary = message_type("Summary")
    with _scope(name, family, tensor, default_name) as (tag, scope):
        label = convert_to_tensor(tag, name="tags" if op_type == "ScalarSummary" else "tag")
        operand = convert_to_tensor(tensor, name=argument)
        if not takes_text and np.dtype(operand.dtype) not in REAL:
            raise TypeError(
                f"Value passed to parameter '{argument}' has DataType {DType.of(operand.dtype).name} not in list of "
                f"allowed values: {', '.join(sorted(each.name for each in REAL))}"
            )

        def serialized(_: Array, value: Array) -> Array:
            return graph_array(summary(value=values(tag, value)).SerializeToString())

        made = _operation(op_type, [label, operand], serialized, scope)
    for key in (GraphKeys.SUMMARIES,) if collections is None else collections:
        get_default_graph().add_to_collection(key, made)
    return made


def _operation(op_type: str, inputs: Sequence[Any], function: Callable[..., Array], name: str | None) -> Any:
    graph = get_default_graph()
    if not graph.deferred:
        raise RuntimeError(
            "summaries are operations of a deferred graph, and in this one everything happens at once; build in `with "
            "Graph().as_default():`, or write numbers with FileWriter.add_summary"
        )
    output = OutputSpec(string.dtype, TensorShape([]))
    return graph.create_op(op_type, inputs, [output], name=name, computation=Kernel(function)).outputs[0]


@contextmanager
def _scope(name: str | None, family: str | None, tensor: Any, default_name: str | None) -> Iterator[tuple[str, str]]:
    """Opens the name scope of a summary; gives its tag and the name of its operation."""
    clean, clean_family = _clean(name), _clean(family)
    with name_scope(clean if clean_family is None else f"{clean_family}/{clean}", default_name, [tensor]) as scope:
        tag = scope.rstrip("/")
        yield tag if clean_family is None else f"{clean_family}/{tag}", scope


def _clean(name: str | None) -> str | None:
    """Returns a name that a scope can have."""
    if name is None:
        return None
    clean = _ILLEGAL.sub("_", name).lstrip("/")
    if clean != name:
        _LOG.info("Summary name %s is illegal; using %s instead.", name, clean)
    return clean


def _value_type() -> Any:
    return message_type("Summary").Value
