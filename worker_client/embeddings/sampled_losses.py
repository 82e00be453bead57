"""TensorFlow 1's losses of many classes, which compare the true ones with a few that are drawn."""

from __future__ import annotations

from typing import Any

from worker_client.embeddings.lookup import embedding_lookup
from worker_client.graph.blocks import name_scope
from worker_client.ops.array_ops import cast, concat, expand_dims, reshape, stack
from worker_client.ops.array_ops import slice as slice_
from worker_client.ops.constant_ops import convert_to_tensor, ones, ones_like, zeros_like
from worker_client.ops.constant_ops import shape as shape_tensor
from worker_client.ops.elementwise_ops import stop_gradient
from worker_client.ops.math_ops import add, divide, log, matmul, multiply, subtract
from worker_client.ops.nn.candidate_samplers import compute_accidental_hits, log_uniform_candidate_sampler
from worker_client.ops.nn_ops import sigmoid_cross_entropy_with_logits, softmax_cross_entropy_with_logits_v2
from worker_client.ops.selection_ops import scatter_nd
from worker_client.values.dtypes import int32, int64


def nce_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = False,
    partition_strategy: str = "mod",
    name: str = "nce_loss",
) -> Any:
    """Returns for each example the loss of noise-contrastive estimation: are true classes told from drawn ones?

    Args:
        weights: Shape ``[num_classes, dim]``: a variable, a list of parts, or a partitioned one.
        biases: Shape ``[num_classes]``.
        labels: The true classes: integers, shape ``[batch, num_true]``.
        inputs: Shape ``[batch, dim]``.
        num_sampled: How many classes to draw for the batch.
        num_classes: How many there are.
        num_true: How many true ones an example has.
        sampled_values: What a candidate sampler returned; by default the log-uniform one is used.
        remove_accidental_hits: Whether drawn classes do not count where they are true ones.
        partition_strategy: As ``embedding_lookup``'s.
        name: Of the scope.

    Returns:
        Shape ``[batch]``.
    """
    logits, targets = _sampled_logits(
        weights,
        biases,
        labels,
        inputs,
        num_sampled,
        num_classes,
        num_true,
        sampled_values,
        remove_accidental_hits,
        partition_strategy,
        name,
        None,
    )
    return _sum_rows(sigmoid_cross_entropy_with_logits(targets, logits, name="sampled_losses"))


def sampled_softmax_loss(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int = 1,
    sampled_values: Any = None,
    remove_accidental_hits: bool = True,
    partition_strategy: str = "mod",
    name: str = "sampled_softmax_loss",
    seed: int | None = None,
) -> Any:
    """Returns for each example the cross entropy of a softmax over its true and the drawn classes.

    Its arguments are those of ``nce_loss``; ``seed`` makes every session draw the same sequence.
    """
    logits, targets = _sampled_logits(
        weights,
        biases,
        labels,
        inputs,
        num_sampled,
        num_classes,
        num_true,
        sampled_values,
        remove_accidental_hits,
        partition_strategy,
        name,
        seed,
    )
    targets = stop_gradient(targets, name="labels_stop_gradient")
    return softmax_cross_entropy_with_logits_v2(labels=targets, logits=logits)


def _sampled_logits(
    weights: Any,
    biases: Any,
    labels: Any,
    inputs: Any,
    num_sampled: int,
    num_classes: int,
    num_true: int,
    sampled_values: Any,
    remove_accidental_hits: bool,
    partition_strategy: str,
    name: str,
    seed: int | None,
) -> tuple[Any, Any]:
    """Returns the logits of true and drawn classes, ``[batch, num_true + num_sampled]``, and what they should be."""
    with name_scope(name, "compute_sampled_logits", [inputs, labels]):
        labels, inputs = cast(convert_to_tensor(labels), int64), convert_to_tensor(inputs)
        flat = reshape(labels, [-1])
        if sampled_values is None:
            sampled_values = log_uniform_candidate_sampler(
                labels, num_true, num_sampled, unique=True, range_max=num_classes, seed=seed
            )
        drawn, true_counts, drawn_counts = (stop_gradient(each) for each in sampled_values)
        drawn = cast(drawn, int64)
        ids = concat([flat, drawn], 0)
        number = shape_tensor(flat)
        all_rows = cast(embedding_lookup(weights, ids, partition_strategy=partition_strategy), inputs.dtype)
        true_rows = slice_(all_rows, [0, 0], stack([number[0], -1]))
        drawn_rows = slice_(all_rows, stack([number[0], 0]), [-1, -1])
        drawn_logits = matmul(inputs, drawn_rows, transpose_b=True)
        all_biases = cast(embedding_lookup(biases, ids, partition_strategy=partition_strategy), inputs.dtype)
        true_biases, drawn_biases = slice_(all_biases, [0], number), slice_(all_biases, number, [-1])
        dim = shape_tensor(true_rows)[1:2]
        products = multiply(expand_dims(inputs, 1), reshape(true_rows, concat([[-1, num_true], dim], 0)))
        dots = _sum_rows(reshape(products, concat([[-1], dim], 0)))
        true_logits = add(reshape(dots, [-1, num_true]), reshape(true_biases, [-1, num_true]))
        drawn_logits = add(drawn_logits, drawn_biases)
        if remove_accidental_hits:
            drawn_logits = add(drawn_logits, _hits(labels, drawn, num_true, drawn_logits))
        true_logits = subtract(true_logits, log(true_counts))
        drawn_logits = subtract(drawn_logits, log(drawn_counts))
        targets = [divide(ones_like(true_logits), float(num_true)), zeros_like(drawn_logits)]
        return concat([true_logits, drawn_logits], 1), concat(targets, 1)


def _hits(labels: Any, drawn: Any, num_true: int, logits: Any) -> Any:
    """Returns a very small number where a drawn class is a true one of its example, elsewhere 0."""
    rows, places, least = compute_accidental_hits(labels, drawn, num_true)
    where = concat([reshape(rows, [-1, 1]), reshape(cast(places, int32), [-1, 1])], 1, "sparse_indices")
    return scatter_nd(where, cast(least, logits.dtype), shape_tensor(logits))


def _sum_rows(x: Any) -> Any:
    columns = shape_tensor(x)[1]
    return reshape(matmul(x, ones(stack([columns, 1]), x.dtype)), [-1])
