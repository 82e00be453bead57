"""Calls of TensorFlow 1's functions, and the gradients of what each makes by its operands, or the error's type.

Each call is one expression over ``tf`` and the operands below, evaluated in a graph of its own; what it makes is
multiplied by numbers that are all different, so that no two elements have the same gradient, and differentiated by
every operand that it names. ``recorded`` works with every module that has TensorFlow 1's names. To add a call, write it
there without an answer and record all of them again (needs tensorflow):

    python gradient_calls.py traces/gradients.json
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path
from typing import Any

import numpy as np

OPERANDS: dict[str, Any] = {
    "f": [[1.5, -2.25, 0.0], [-0.5, 2.5, 3.5]],
    "g": [[2.0, 0.5, -3.0], [1.0, -1.5, 3.5]],
    "p": [0.25, 1.0, 4.0],
    "q": [0.125, -0.5, 0.75],
    "z": [[0.0, 2.0, 3.0], [4.0, -1.0, 0.5]],
    "m": [[2.0, 1.0], [1.0, 3.0]],
    "k": [[[1.0, 0.5], [-2.0, 1.5]], [[0.25, -1.0], [3.0, 2.0]]],
    "n": [[0.5], [-1.25]],
    "s": 1.75,
    "h": [[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]],
    "t": [[[1.0, -0.5, 2.0], [0.5, 0.25, -1.0]]],
}
"""All of float32; float64 where the call is marked by "#64"."""

CALLS = """
f + g
f - g
f * g
f / g
f + q
f * q
q * f
f - q
f / p
f * s
s / p
n * f
n / g
-f
abs(f)
p ** 2.0
p ** q
f ** 2.0
f ** 3.0
tf.pow(f, g * 0.0 + 2.0)
f % g
f % p
f * 2.0 + 1.0
1.0 / p
2.0 - f
tf.add(f, f)
tf.add_n([f, g, f])
tf.accumulate_n([f, g])
tf.subtract(f, g)
tf.multiply(f, g)
tf.divide(f, g)
tf.div(f, g)
tf.truediv(f, p)
tf.realdiv(f, p)
tf.div_no_nan(f, z)
tf.math.multiply_no_nan(f, z)
tf.math.xlogy(p, p)
tf.math.xlogy(z, p)
tf.math.xdivy(f, p)
tf.squared_difference(f, g)
tf.squared_difference(f, q)
tf.maximum(f, g)
tf.minimum(f, g)
tf.maximum(f, q)
tf.minimum(q, f)
tf.maximum(f, 0.0)
tf.atan2(f, g)
tf.floordiv(f, g)
tf.mod(f, p)
tf.truncatemod(f, p)
tf.square(f)
tf.sqrt(p)
tf.rsqrt(p)
tf.exp(f)
tf.log(p)
tf.log1p(p)
tf.expm1(f)
tf.sin(f)
tf.cos(f)
tf.tan(q)
tf.asin(q)
tf.acos(q)
tf.atan(f)
tf.sinh(q)
tf.cosh(q)
tf.tanh(f)
tf.asinh(f)
tf.acosh(p + 1.0)
tf.atanh(q)
tf.sigmoid(f)
tf.log_sigmoid(f)
tf.erf(f)
tf.erfc(f)
tf.reciprocal(p)
tf.negative(f)
tf.abs(f)
tf.sign(f)
tf.floor(f)
tf.ceil(f)
tf.rint(f)
tf.round(f)
tf.identity(f)
tf.stop_gradient(f) * f
tf.cast(f, tf.float64)
tf.cast(tf.cast(f, tf.int32), tf.float32)
tf.to_double(f)
tf.check_numerics(f, 'x')
tf.scalar_mul(s, f)
tf.cross(f, g)
tf.clip_by_value(f, -1.0, 2.0)
tf.clip_by_value(f, q, 2.0)
tf.clip_by_norm(f, 2.0)
tf.clip_by_norm(f, 20.0)
tf.clip_by_norm(f, 1.0, axes=[1])
tf.clip_by_average_norm(f, 0.5)
tf.global_norm([f, p])
tf.clip_by_global_norm([f, p], 1.0)[0]
tf.nn.relu(f)
tf.nn.relu6(f * 3.0)
tf.nn.elu(f)
tf.nn.selu(f)
tf.nn.softplus(f)
tf.nn.softsign(f)
tf.nn.leaky_relu(f)
tf.nn.leaky_relu(f, 0.5)
tf.nn.crelu(f)
tf.nn.swish(f)
tf.nn.softmax(f)
tf.nn.softmax(f, axis=0)
tf.nn.log_softmax(f)
tf.nn.log_softmax(t)
tf.nn.bias_add(f, p)
tf.nn.bias_add(k, [1.0, 2.0], data_format='NCHW')
tf.nn.bias_add(t, p)
tf.nn.xw_plus_b(m, g, p)
tf.nn.relu_layer(m, g, p)
tf.nn.batch_normalization(f, 0.5, 2.0, 1.0, 3.0, 0.001)
tf.nn.batch_normalization(f, q, p, q, p, 0.001)
tf.nn.l2_loss(f)
tf.nn.l2_normalize(f, 1)
tf.nn.l2_normalize(f, 0)
tf.nn.moments(f, [0])
tf.nn.moments(f, [0, 1])
tf.nn.dropout(f, rate=0.0)
tf.nn.softmax_cross_entropy_with_logits_v2(labels=h, logits=f)
tf.nn.softmax_cross_entropy_with_logits(labels=h, logits=f)
tf.nn.softmax_cross_entropy_with_logits_v2(labels=t, logits=t)
tf.nn.softmax_cross_entropy_with_logits_v2(labels=h, logits=f, axis=0)
tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2, 0], logits=f)
tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[[2, 0]], logits=t)
tf.nn.sigmoid_cross_entropy_with_logits(labels=h, logits=f)
tf.nn.weighted_cross_entropy_with_logits(h, f, 2.0)
tf.nn.log_poisson_loss(h + 1.0, f)
tf.nn.log_poisson_loss(h + 1.0, f, compute_full_loss=True)
tf.losses.mean_squared_error(h, f)
tf.losses.mean_squared_error(h, f, weights=p)
tf.losses.absolute_difference(h, f)
tf.losses.huber_loss(h, f)
tf.losses.log_loss(h, tf.sigmoid(f))
tf.losses.hinge_loss(h, f)
tf.losses.sigmoid_cross_entropy(h, f)
tf.losses.softmax_cross_entropy(h, f)
tf.losses.softmax_cross_entropy(h, f, label_smoothing=0.1)
tf.losses.sparse_softmax_cross_entropy([2, 0], f)
tf.matmul(f, g, transpose_b=True)
tf.matmul(f, g, transpose_a=True)
tf.matmul(m, f)
tf.matmul(m, f, transpose_a=True)
tf.matmul(f, m, transpose_a=True, transpose_b=True)
tf.matmul(k, k)
tf.matmul(k, k, transpose_a=True)
tf.matmul(k, k, transpose_b=True)
tf.matmul(k, k, adjoint_a=True, adjoint_b=True)
tf.matmul(k, m)
m @ f
tf.tensordot(f, g, [[1], [1]])
tf.tensordot(f, g, 2)
tf.tensordot(k, m, 1)
tf.tensordot(k, t, [[0, 2], [1, 0]]) if False else tf.tensordot(k, f, [[1], [0]])
tf.einsum('ij,kj->ik', f, g)
tf.einsum('ij,ij->i', f, g)
tf.einsum('bij,bjk->bik', k, k)
tf.einsum('ij->ji', f)
tf.einsum('i,j->ij', p, q)
tf.matrix_inverse(m)
tf.matrix_inverse(k)
tf.matrix_inverse(m, adjoint=True)
tf.matrix_solve(m, f)
tf.matrix_solve(m, f, adjoint=True)
tf.matrix_determinant(m)
tf.matrix_determinant(k)
tf.cholesky(m)
tf.trace(m)
tf.trace(k)
tf.diag(p)
tf.diag_part(m)
tf.matrix_diag(f)
tf.matrix_diag_part(k)
tf.matrix_set_diag(k, m)
tf.matrix_band_part(m, 0, -1)
tf.matrix_band_part(k, 0, 0)
tf.matrix_transpose(k)
tf.norm(f)
tf.norm(f, axis=1)
tf.norm(f, ord=1)
tf.norm(f, ord=3, axis=0)
tf.norm(g, ord=np.inf, axis=1)
tf.reduce_sum(f)
tf.reduce_sum(f, 0)
tf.reduce_sum(f, -1, keepdims=True)
tf.reduce_sum(k, [0, 2])
tf.reduce_sum(s)
tf.reduce_sum(f, [])
tf.reduce_mean(f)
tf.reduce_mean(f, 1)
tf.reduce_mean(k, [0, 1], keepdims=True)
tf.reduce_max(f)
tf.reduce_max(f, 1)
tf.reduce_max(h, 1)
tf.reduce_min(h, 1)
tf.reduce_min(h, [0, 1], keepdims=True)
tf.reduce_prod(f)
tf.reduce_prod(f, 1)
tf.reduce_prod(z, 1)
tf.reduce_prod(g, 0, keepdims=True)
tf.reduce_logsumexp(f)
tf.reduce_logsumexp(f, 1)
tf.math.reduce_std(f)
tf.math.reduce_variance(f, 1)
tf.math.reduce_euclidean_norm(f, 1)
tf.cumsum(f)
tf.cumsum(f, 1)
tf.cumsum(f, 1, exclusive=True)
tf.cumsum(f, 0, reverse=True)
tf.cumsum(f, 1, exclusive=True, reverse=True)
tf.cumprod(g)
tf.cumprod(g, 1)
tf.cumprod(g, 1, exclusive=True)
tf.cumprod(g, 0, reverse=True)
tf.reshape(f, [3, 2])
tf.reshape(f, [-1])
tf.transpose(f)
tf.transpose(k, [2, 0, 1])
tf.expand_dims(f, 1)
tf.squeeze(n)
tf.squeeze(t, [0])
tf.concat([f, g], 0)
tf.concat([f, g], 1)
tf.concat([k, t[:, :, :2]], -3)
tf.stack([f, g])
tf.stack([f, g], axis=1)
tf.stack([f, g], axis=-1)
tf.stack([s, s, 1.0])
tf.unstack(f)
tf.unstack(f, axis=1)[1]
tf.split(f, 3, 1)
tf.split(f, [1, 2], 1)
tf.split(f, 3, 1)[1]
tf.tile(f, [2, 3])
tf.slice(f, [0, 1], [2, 2])
tf.slice(f, [1, 0], [-1, 2])
f[0]
f[:, 1]
f[:, ::2]
f[::-1, 1:]
f[..., tf.newaxis]
k[1, :, 0]
tf.gather(f, [1, 0, 1])
tf.gather(f, [2, 0], axis=1)
tf.gather(p, 1)
tf.gather(f, [[1], [1]])
tf.gather(k, [[1], [0]], batch_dims=1)
tf.batch_gather(k, [[1], [0]])
tf.gather_nd(f, [[0, 1], [1, 2], [0, 1]])
tf.gather_nd(f, [[1], [1]])
tf.gather_nd(k, [[[0], [1]], [[1], [1]]], batch_dims=1)
tf.boolean_mask(f, [True, False])
tf.boolean_mask(f, [[True, False, True], [False, True, False]])
tf.where([[True, False, True], [False, True, False]], f, g)
tf.where([True, False], f, g)
tf.where_v2([True, False, True], f, s)
tf.where_v2([[True], [False]], f, q)
tf.pad(f, [[1, 0], [0, 2]])
tf.pad(f, [[1, 0], [0, 2]], constant_values=7.0)
tf.pad(f, [[1, 0], [0, 2]], mode='REFLECT')
tf.pad(f, [[1, 1], [2, 1]], mode='SYMMETRIC')
tf.broadcast_to(q, [2, 3])
tf.broadcast_to(n, [2, 3])
tf.reverse(f, [1])
tf.reverse(f, [0, 1])
tf.reverse_sequence(f, [2, 3], seq_axis=1)
tf.roll(f, 1, 1)
tf.roll(f, [1, -1], [0, 1])
tf.repeat(f, 2, axis=1)
tf.repeat(f, [1, 3], axis=0)
tf.sort(f)
tf.sort(f, direction='DESCENDING')
tf.sort(g, axis=0)
tf.nn.top_k(f, 2)[0]
tf.nn.top_k(f, 2).values
tf.identity_n([f, p])
tf.ensure_shape(f, [2, 3])
tf.meshgrid(p, q)
tf.linspace(s, 3.0, 4)
tf.fill([2, 2], s)
tf.zeros_like(f) * f
tf.one_hot([1, 0], 3, s, 0.0)
tf.argmax(f, 1)
tf.to_float(tf.argmax(f, 1))
tf.to_float(f > g)
tf.placeholder_with_default(f, [2, 3])
tf.segment_sum(f, [0, 0])
tf.segment_sum(f, [0, 2])
tf.segment_mean(f, [0, 0])
tf.segment_mean(k, [0, 1])
tf.segment_max(f, [0, 0])
tf.segment_min(h, [0, 0])
tf.unsorted_segment_sum(f, [1, 0], 3)
tf.unsorted_segment_sum(f, [1, -1], 3)
tf.unsorted_segment_sum(f, [[0, 1, 0], [1, 1, 0]], 2)
tf.unsorted_segment_mean(f, [1, 1], 2)
tf.unsorted_segment_sqrt_n(f, [1, 1], 2)
tf.unsorted_segment_max(f, [1, 1], 2)
tf.unsorted_segment_min(h, [0, 0], 1)
tf.unsorted_segment_prod(z, [0, 0], 1)
tf.unsorted_segment_prod(z, [0, -1], 2)
tf.dynamic_partition(f, [1, 0], 2)
tf.dynamic_partition(f, [1, 0], 2)[1]
tf.dynamic_stitch([[1], [0, 2]], [n[0], p[:2]])
tf.dynamic_stitch([[1, 0]], [f])
tf.scatter_nd([[1], [0], [1]], p, [3])
tf.tensor_scatter_nd_add(p, [[1], [1]], q[:2])
tf.tensor_scatter_nd_sub(p, [[1], [1]], q[:2])
tf.tensor_scatter_nd_update(p, [[1], [2]], q[:2])
tf.nn.embedding_lookup(f, [1, 0, 1])
tf.nn.embedding_lookup([f, g], [1, 2, 0])
tf.nn.embedding_lookup(f, [1, 0], max_norm=2.0)
tf.nn.embedding_lookup_sparse(f, tf.SparseTensor([[0, 0], [0, 1], [1, 0]], [1, 1, 0], [2, 2]), None, combiner='mean')
tf.nn.embedding_lookup_sparse(f, tf.SparseTensor([[0, 0], [0, 1], [1, 0]], [1, 0, 0], [2, 2]), None, combiner='sum')
tf.nn.embedding_lookup_sparse(f, tf.SparseTensor([[0, 0], [0, 1], [1, 0]], [1, 0, 0], [2, 2]), None, combiner='sqrtn')
tf.py_func(lambda x: x, [f], tf.float32)
tf.unique(p)[0]
tf.gradients(f * f * f, f)[0]
tf.gradients(tf.matmul(f, g, transpose_b=True) ** 2.0, f)[0]
tf.gradients(tf.tanh(f), f)[0]
tf.gradients(tf.sigmoid(f), f)[0]
tf.gradients(tf.exp(f), f)[0]
tf.gradients(tf.log(p), p)[0]
tf.gradients(tf.sqrt(p), p)[0]
tf.gradients(p / q, q)[0]
tf.gradients(p ** 3.0, p)[0]
tf.gradients(tf.nn.softmax(f) * g, f)[0]
tf.gradients(tf.nn.softplus(f), f)[0]
tf.gradients(tf.reduce_mean(tf.square(f - g)), f)[0]
tf.gradients(tf.reduce_prod(g, 1), g)[0]
tf.gradients(tf.reduce_sum(tf.gather(f, [1, 1]) ** 2.0), f)[0]
tf.gradients(tf.concat([f, g], 0) ** 2.0, f)[0]
tf.gradients(tf.transpose(f) ** 3.0, f)[0]
tf.gradients(f[:, 1:] ** 3.0, f)[0]
tf.gradients(tf.tile(f, [2, 1]) ** 3.0, f)[0]
tf.gradients(tf.nn.softmax_cross_entropy_with_logits_v2(labels=[[0.25, 0.5, 0.25], [0.0, 1.0, 0.0]], logits=f), f)[0]
tf.gradients(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2, 0], logits=f), f)[0]
tf.gradients(tf.gradients(f ** 4.0, f)[0], f)[0]
tf.gradients(f * g, f, grad_ys=p + f)[0]
tf.gradients([f * f, f], f)[0]
tf.gradients(tf.reduce_max(f, 1) ** 2.0, f)[0]
tf.gradients(tf.nn.log_softmax(f), f)[0]
tf.gradients(tf.nn.elu(f), f)[0]
tf.gradients(tf.cumsum(f, 1) ** 3.0, f)[0]
tf.gradients(tf.where([[True, False, True], [False, True, False]], f, g) ** 3.0, f)[0]
tf.gradients(tf.einsum('ij,kj->ik', f, g) ** 2.0, f)[0]
tf.gradients(tf.matrix_inverse(m), m)[0]
tf.gradients(tf.unstack(f)[1] ** 3.0, f)[0]
tf.gradients(tf.split(f, 3, 1)[1] ** 3.0, f)[0]
tf.gradients(tf.gather_nd(f, [[0, 1], [1, 2]]) ** 3.0, f)[0]
tf.gradients(tf.pad(f, [[1, 0], [0, 2]], mode='REFLECT') ** 3.0, f)[0]
tf.gradients(tf.segment_sum(f, [0, 0]) ** 3.0, f)[0]
tf.gradients(f * g, [f], stop_gradients=[f])[0] * f
tf.gradients(f * g * f, [f], stop_gradients=[g])[0]
tf.gradients(f, g, unconnected_gradients='zero')[0] + g
f + g #64
tf.matmul(f, g, transpose_b=True) #64
tf.nn.softmax(f) #64
tf.reduce_mean(f, 1) #64
tf.nn.relu(f) * 0.5 #64
tf.cumprod(f, 1) #64
tf.cumprod(f, 1, exclusive=True, reverse=True)
tf.where(f > 0.0, f, g) * np.inf
tf.maximum(f, g) * np.inf
tf.minimum(f, np.nan * g)
tf.maximum(f, np.nan * g)
tf.clip_by_value(f, -1.0, 1.0) * np.inf
tf.abs(f * np.inf)
tf.pow(np.nan * f, z)
""".strip().splitlines()


def recorded(tf: Any, call: str) -> dict[str, Any]:
    """Returns the gradients by each operand that a call names, with one implementation of TensorFlow 1's names."""
    words = re.findall(r"\b[a-z]\b", re.sub(r"'[^']*'", "", call))
    dtype = tf.float64 if "#64" in call else tf.float32
    with tf.Graph().as_default(), tf.Session() as session:
        names: dict[str, Any] = {"tf": tf, "np": np}
        operands = {word: tf.constant(OPERANDS[word], dtype, name=word) for word in OPERANDS if word in words}
        names.update(operands)
        try:
            ys = made_by(tf, call, names)
            factors = [factors_of(session.run(y)) for y in ys]
            found = tf.gradients(ys, list(operands.values()), grad_ys=factors)
            return {"call": call, "made": {name: _ran(session, each) for name, each in zip(operands, found, strict=True)}}
        except Exception as error:
            return {"call": call, "error": type(error).__name__}


def made_by(tf: Any, call: str, names: dict[str, Any]) -> list[Any]:
    """Returns the tensors that a call makes."""
    made = eval(call, names)
    return [tf.convert_to_tensor(each) for each in (list(made) if isinstance(made, list | tuple) else [made])]


def factors_of(value: Any) -> Any:
    """Returns what the elements of a value are multiplied by."""
    numbers = 0.5 + np.arange(np.size(value)) * 0.25
    return numbers.reshape(np.shape(value)).astype(value.dtype)


def _ran(session: Any, gradient: Any) -> Any:
    """Returns a gradient as nested lists, with its dtype and shape; of rows their sum in the whole."""
    if gradient is None:
        return None
    static = gradient.shape
    value = session.run(gradient)
    if hasattr(value, "indices"):
        whole = np.zeros(value.dense_shape, value.values.dtype)
        np.add.at(whole, value.indices, value.values)
        return {"dtype": whole.dtype.name, "rows": sorted(set(value.indices.tolist())), "value": whole.tolist()}
    shape = [None if size is None else int(size) for size in static.as_list()] if static.rank is not None else None
    return {"dtype": value.dtype.name, "shape": shape, "value": value.tolist()}


def main(target: Path) -> None:
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    tf.disable_v2_behavior()
    lines = [json.dumps(recorded(tf, call)) for call in CALLS]
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
