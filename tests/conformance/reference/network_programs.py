"""Programs with what TensorFlow 1's training programs consist of.

Each is some lines over ``tf``, ``np`` and the functions of ``network_results``, which leave what is looked at in
``result``. Recorded are names, types, dtypes, shapes and values of it, which variables and collections there are, the
values that it has when it is run several times, and its gradients by the operands that the program names in ``by``; or
the type of the error. ``record_networks.py`` records all again.
"""

from __future__ import annotations

CONVOLUTIONS = [
    f"x, f = tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 4)); by = [x, f]; result = tf.nn.{call}"
    for call in (
        "conv2d(x, f, [1, 1, 1, 1], 'SAME')",
        "conv2d(x, f, [1, 1, 1, 1], 'VALID')",
        "conv2d(x, f, strides=[1, 2, 2, 1], padding='SAME')",
        "conv2d(x, f, [1, 2, 3, 1], 'VALID', name='own')",
        "conv2d(x, filters=f, strides=2, padding='SAME', dilations=1)",
        "conv2d(x, f, [1, 1, 1, 1], 'VALID', dilations=[1, 2, 2, 1])",
        "conv2d(x, f, [2, 1], [[0, 0], [1, 2], [3, 0], [0, 0]])",
        "convolution(x, f, 'SAME')",
        "convolution(x, f, padding='VALID', strides=[2, 2])",
    )
] + [
    "x, f = tf.constant(ramp(2, 3, 3, 4)), tf.constant(ramp(3, 2, 5, 4)); by = [x, f]; result = "
    f"tf.nn.conv2d_transpose(x, f, {call})"
    for call in (
        "[2, 3, 3, 5], [1, 1, 1, 1]",
        "[2, 6, 5, 5], [1, 2, 2, 1], name='up'",
        "[2, 7, 4, 5], [1, 2, 1, 1], 'VALID'",
        "output_shape=tf.constant([2, 6, 6, 5]), strides=2",
    )
] + [
    "x, f = tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 2)); by = [x, f]; result = "
    f"tf.nn.depthwise_conv2d(x, f, {call})"
    for call in (
        "[1, 1, 1, 1], 'SAME'",
        "[1, 2, 2, 1], 'VALID', name='own'",
        "[1, 1, 1, 1], [[0, 0], [1, 0], [0, 2], [0, 0]]",
    )
] + [
    "x, d, p = tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 2)), tf.constant(ramp(1, 1, 6, 4))\n"
    "by = [x, d, p]; result = tf.nn.separable_conv2d(x, d, p, [1, 1, 1, 1], 'SAME')",
    "x, f = tf.constant(ramp(2, 7, 3)), tf.constant(ramp(3, 3, 4)); by = [x, f]\n"
    "result = tf.nn.conv1d(x, f, 2, 'SAME')",
    "x, f = tf.constant(ramp(2, 7, 3)), tf.constant(ramp(3, 3, 4)); by = [x, f]\n"
    "result = tf.nn.conv1d(x, f, stride=1, padding='VALID', name='own', dilations=2)",
    "x, f = tf.placeholder(tf.float32, [None, None, 6, 3]), tf.constant(ramp(3, 2, 3, 4))\n"
    "result = tf.nn.conv2d(x, f, [1, 1, 1, 1], 'SAME')",
    "x, f = tf.placeholder(tf.float32, [None, None, 6, 3]), tf.constant(ramp(3, 2, 3, 4))\n"
    "result = tf.nn.conv2d(x, f, [1, 2, 2, 1], 'VALID')",
    "x, f = tf.placeholder(tf.float32), tf.constant(ramp(3, 2, 3, 4)); result = tf.nn.conv2d(x, f, [1]*4, 'SAME')",
    "x, f = tf.placeholder(tf.float32, [8, 3, 10, 12]), tf.constant(ramp(3, 2, 3, 4))\n"
    "result = tf.nn.conv2d(x, f, [1, 1, 2, 2], 'VALID', data_format='NCHW')",
    "x = tf.placeholder(tf.float32, [8, 3, 10, 12])\n"
    "result = tf.nn.max_pool(x, [1, 1, 2, 2], [1, 1, 2, 2], 'SAME', data_format='NCHW')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 5, 6, 2)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'SAME')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 2, 6, 3)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'VALID')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 5, 6)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'SAME')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1], 'SAME')",
    "result = tf.nn.conv2d(tf.constant(ramp(2, 5, 6, 3)), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'LIKE')",
    "result = tf.nn.conv2d(tf.ones([2, 5, 6, 3], tf.float64), tf.constant(ramp(3, 2, 3, 4)), [1, 1, 1, 1], 'SAME')",
    "result = tf.nn.conv2d(tf.ones([2, 5, 6, 3]), tf.ones([3, 2, 3, 4]), [1, 1, 1, 1], 'SAME', data_format='NHCW')",
    "result = tf.nn.conv2d_transpose(tf.ones([2, 3, 3, 4]), tf.ones([3, 2, 5, 4]), [2, 9, 9, 5], [1, 2, 2, 1])",
]

POOLS = [
    f"x = tf.constant(ramp(2, 5, 6, 3)); by = [x]; result = tf.nn.{call}"
    for call in (
        "max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], 'SAME')",
        "max_pool(x, [1, 3, 2, 1], [1, 1, 2, 1], 'VALID', name='own')",
        "max_pool(x, ksize=[1, 3, 3, 1], strides=[1, 1, 1, 1], padding='SAME')",
        "max_pool(x, 2, 2, [[0, 0], [1, 0], [0, 1], [0, 0]])",
        "max_pool2d(x, 2, 2, 'VALID')",
        "avg_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], 'SAME')",
        "avg_pool(x, [1, 3, 2, 1], [1, 1, 2, 1], 'VALID', name='own')",
        "avg_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], 'SAME')",
        "avg_pool2d(x, 2, 2, 'VALID')",
        "pool(x, [2, 2], 'MAX', 'VALID', strides=[2, 2])",
        "pool(x, [2, 2], 'AVG', 'SAME', strides=[2, 1])",
        "local_response_normalization(x)",
        "lrn(x, 1, bias=1.0, alpha=0.001 / 9.0, beta=0.75, name='norm1')",
    )
] + [
    "x = tf.constant(ramp(2, 7, 3)); by = [x]; result = tf.nn.max_pool1d(x, 2, 2, 'SAME')",
    "x = tf.constant(ramp(2, 7, 3)); by = [x]; result = tf.nn.avg_pool1d(x, [3], [2], 'VALID')",
    "x = tf.constant([[[[1.0], [1.0]], [[1.0], [0.0]]]]); by = [x]\nresult = tf.nn.max_pool(x, 2, 2, 'VALID')",
    "x = tf.placeholder(tf.float32, [None, 5, None, 3]); result = tf.nn.max_pool(x, 2, 2, 'SAME')",
    "x = tf.placeholder(tf.float32, [None, 5, None, 3]); result = tf.nn.avg_pool(x, 2, 2, 'VALID')",
    "x = tf.placeholder(tf.float32); result = tf.nn.max_pool(x, 2, 2, 'VALID')",
    "result = tf.nn.max_pool(tf.ones([2, 5, 6]), 2, 2, 'SAME')",
    "result = tf.nn.max_pool(tf.ones([2, 2, 2, 1]), 3, 1, 'VALID')",
    "result = tf.nn.avg_pool(tf.ones([2, 5, 6, 3], tf.int32), 2, 2, 'SAME')",
    "result = tf.nn.max_pool(tf.ones([2, 5, 6, 3]), 2, 2, 'FULL')",
    "result = tf.nn.lrn(tf.ones([2, 5]))",
]

ACTIVATIONS = [
    f"x = tf.constant([[1.5, -2.25, 0.0], [-0.5, 7.5, 3.5]]); by = [x]; result = tf.nn.{call}"
    for call in (
        "relu(x)",
        "relu6(x)",
        "elu(x)",
        "selu(x)",
        "leaky_relu(x)",
        "leaky_relu(x, alpha=0.1, name='own')",
        "softplus(x)",
        "softsign(x)",
        "sigmoid(x)",
        "tanh(x)",
        "crelu(x)",
        "softmax(x)",
        "softmax(x, axis=0)",
        "log_softmax(x)",
        "log_softmax(x, 0)",
        "l2_loss(x)",
        "l2_normalize(x, 1)",
        "l2_normalize(x, axis=0, epsilon=0.5)",
        "bias_add(x, tf.constant([1.0, 2.0, 3.0]))",
        "dropout(x, keep_prob=1.0)",
        "dropout(x, rate=0.0)",
        "moments(x, [0])[1]",
        "moments(x, [0, 1], keep_dims=True)[1]",
        "top_k(x, 2).values",
        "weighted_cross_entropy_with_logits(labels=tf.sigmoid(x), logits=x, pos_weight=2.0)",
        "sigmoid_cross_entropy_with_logits(labels=tf.ones_like(x) * 0.25, logits=x)",
        "softmax_cross_entropy_with_logits(labels=tf.constant([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), logits=x)",
        "softmax_cross_entropy_with_logits_v2(labels=tf.constant([[0.2, 0.3, 0.5], [1.0, 0.0, 0.0]]), logits=x)",
        "softmax_cross_entropy_with_logits_v2(labels=tf.nn.softmax(x * x), logits=x)",
        "sparse_softmax_cross_entropy_with_logits(labels=tf.constant([2, 0]), logits=x)",
        "embedding_lookup(x, [1, 1, 0])",
        "batch_normalization(x, tf.reduce_mean(x, 0), tf.constant([1.0, 2.0, 3.0]), 1.0, 2.0, 0.01)",
        "sufficient_statistics(x, [0])[1]",
        "sufficient_statistics(x, [0], tf.constant(0.5), keepdims=True)[2]",
        "normalize_moments(*tf.nn.sufficient_statistics(x, [0], 0.5))[1]",
        "weighted_moments(x, [0], tf.constant([[1.0], [3.0]]))[1]",
    )
] + [
    "x = tf.constant(ramp(2, 3, 4, 3)); s, o = tf.constant([1.0, 2.0, -1.0]), tf.constant([0.5, 0.0, 1.0])\n"
    f"by = [x, s, o]; result = tf.nn.fused_batch_norm(x, s, o{more})[0]"
    for more in (
        "",
        ", name='own', epsilon=0.1",
        ", mean=tf.constant([0.1, 0.2, 0.3]), variance=tf.constant([1.0, 2.0, 3.0]), is_training=False",
    )
] + [
    "x = tf.constant(ramp(2, 3, 4, 3)); result = tf.nn.fused_batch_norm(x, tf.ones([3]), tf.zeros([3]))",
    "x = tf.placeholder(tf.float32, [None, 3, 4, None])\n"
    "result = tf.nn.fused_batch_norm(x, tf.ones([3]), tf.zeros([3]))",
    "result = tf.nn.fused_batch_norm(tf.ones([2, 3, 4, 3]), tf.ones([3]), tf.zeros([3]), is_training=False)",
    "result = tf.nn.fused_batch_norm(tf.ones([2, 3, 4, 3]), tf.ones([2]), tf.zeros([3]))",
    "result = tf.nn.in_top_k(tf.constant([[0.1, 0.9], [0.8, 0.2]]), [1, 1], 1)",
    "result = tf.nn.dropout(tf.ones([2, 3]), 0.5, noise_shape=[2, 1])",
    "result = tf.nn.dropout(tf.ones([2, 3]), rate=1.5)",
    "result = tf.nn.dropout(tf.ones([2, 3], tf.int32), rate=0.5)",
    "result = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[[1]], logits=[[1.0, 2.0]])",
    "result = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=[2], logits=[[1.0, 2.0]])",
    "result = tf.nn.softmax_cross_entropy_with_logits(labels=[[1.0, 2.0, 3.0]], logits=[[1.0, 2.0]])",
]

SAMPLED = [
    "w, b, x = tf.constant(ramp(10, 3)), tf.constant(ramp(10)), tf.constant(ramp(4, 3)); by = [w, b, x]\n"
    "drawn = tf.constant([7, 1, 5], tf.int64), tf.fill([4, 2], 0.3), tf.constant([0.1, 0.9, 0.2])\n"
    "labels = tf.constant([[1, 2], [5, 0], [9, 9], [3, 1]], tf.int64)\n"
    f"result = tf.nn.{call}(w, b, labels, x, 3, 10, 2, sampled_values=drawn{more})"
    for call in ("nce_loss", "sampled_softmax_loss")
    for more in ("", ", remove_accidental_hits=True", ", remove_accidental_hits=False, name='own'")
]

PRODUCTS = [
    f"a, b = tf.constant(ramp(2, 3, 4)), tf.constant(ramp(4, 3, 5)); by = [a, b]; result = tf.{call}"
    for call in (
        "tensordot(a, b, 1)",
        "tensordot(a, b, [[2], [0]])",
        "tensordot(a, b, [[1, 2], [1, 0]], name='own')",
        "tensordot(a, b, [[-1], [-3]])",
        "tensordot(a, b, 0)",
        "einsum('abc,cbd->ad', a, b)",
        "einsum('abc,cde->abde', a, b)",
        "einsum('abc->ca', a)",
        "einsum('abc,cbd', a, b)",
        "einsum('...c,cbd->...bd', a, b, name='own')",
        "matmul(a, tf.transpose(b, [2, 0, 1])[:2])",
        "linalg.norm(a, axis=1)",
        "linalg.matmul(a, a, transpose_b=True)",
        "linalg.trace(a[:, :, :3])",
        "linalg.matrix_transpose(a)",
        "linalg.band_part(a, 1, 0)",
        "linalg.diag_part(a)",
        "linalg.diag(a)",
        "linalg.cross(tf.transpose(a, [0, 2, 1]), tf.transpose(a, [0, 2, 1]) * 2.0 + 1.0)",
    )
] + [
    f"a = tf.constant([[2.0, 1.0, 0.5], [1.0, 3.0, 0.25], [0.5, 0.25, 4.0]]); by = [a]; result = tf.linalg.{call}"
    for call in ("inv(a)", "det(a)", "solve(a, a[:, :2])", "cholesky(a)", "l2_normalize(a, 0)", "set_diag(a, a[0])")
] + [
    "a = tf.placeholder(tf.float32, [None, 3, 4]); result = tf.tensordot(a, tf.constant(ramp(4, 5)), [[2], [0]])",
    "a = tf.placeholder(tf.float32, [None, None, 4]); result = tf.tensordot(a, a, [[0, 1], [0, 1]])",
    "a = tf.placeholder(tf.float32); result = tf.tensordot(a, tf.constant(ramp(4, 5)), 1)",
    "a = tf.placeholder(tf.float32, [None, 3, 4]); result = tf.einsum('abc,cd->abd', a, tf.constant(ramp(4, 5)))",
    "result = tf.tensordot(tf.ones([2, 3]), tf.ones([4, 3]), 1)",
    "result = tf.tensordot(tf.ones([2, 3]), tf.ones([4, 3]), [[0, 1], [0]])",
    "result = tf.einsum('ab,bc->ac', tf.ones([2, 3]), tf.ones([4, 3]))",
    "result = tf.reshape(tf.ones([6]), tf.placeholder_with_default([2, 3], [2]))",
    "result = tf.zeros(tf.placeholder_with_default([2, 3], [2]))",
]

X5 = "x = tf.constant(ramp(4, 5))"
X8 = "x = tf.constant(ramp(2, 6, 5, 3))"
LAYERS = (
    [
        f"{X5}; by = [x]; result = tf.layers.{call}"
        for call in (
            "dense(x, 3, kernel_initializer=ramps)",
            "dense(x, 3, tf.nn.relu, name='own', kernel_initializer=ramps, bias_initializer=ramps)",
            "dense(x, 3, use_bias=False, kernel_initializer=ramps, kernel_regularizer=lambda w: 0.5 * tf.nn.l2_loss(w))",
            "dense(x, 3, kernel_initializer=ramps, bias_regularizer=tf.nn.l2_loss, activity_regularizer=tf.reduce_sum)",
            "dense(x, 3, trainable=False, kernel_initializer=ramps)",
            "dropout(x)",
            "dropout(x, 0.3, training=False, name='own')",
            "flatten(x)",
        )
    ]
    + [
        f"{X8}; by = [x]; result = tf.layers.{call}"
        for call in (
            "dense(x, 2, kernel_initializer=ramps)",
            "conv2d(x, 4, 3, kernel_initializer=ramps)",
            "conv2d(x, 4, [3, 2], padding='same', activation=tf.nn.relu, kernel_initializer=ramps, name='own')",
            "conv2d(x, 4, 3, strides=(2, 1), padding='SAME', use_bias=False, kernel_initializer=ramps)",
            "conv2d(x, 4, 2, dilation_rate=2, kernel_initializer=ramps, bias_initializer=ramps)",
            "conv2d(x, 4, 2, kernel_initializer=ramps, kernel_regularizer=tf.nn.l2_loss, trainable=False)",
            "conv2d_transpose(x, 2, 3, strides=2, padding='same', kernel_initializer=ramps)",
            "conv2d_transpose(x, 2, 3, 2, activation=tf.tanh, kernel_initializer=ramps)",
            "separable_conv2d(x, 4, 3, depth_multiplier=2, depthwise_initializer=ramps, pointwise_initializer=ramps)",
            "max_pooling2d(x, 2, 2)",
            "max_pooling2d(x, [3, 2], [2, 1], padding='same', name='own')",
            "average_pooling2d(x, 2, 2)",
            "average_pooling2d(x, pool_size=3, strides=1, padding='same')",
            "flatten(x)",
            "batch_normalization(x, training=True)",
            "batch_normalization(x)",
            "batch_normalization(x, training=True, momentum=0.9, epsilon=0.1, center=False, name='own')",
            "batch_normalization(x, scale=False, fused=False, training=True)",
            "batch_normalization(x, fused=False, gamma_initializer=ramps, moving_mean_initializer=ramps)",
            "batch_normalization(x, axis=1, fused=False, training=True)",
            "batch_normalization(x, gamma_regularizer=tf.nn.l2_loss, trainable=False, training=True)",
        )
    ]
    + [
        f"x = tf.constant(ramp(2, 6, 3)); by = [x]; result = tf.layers.{call}"
        for call in (
            "conv1d(x, 4, 3, kernel_initializer=ramps)",
            "conv1d(x, 4, 3, 2, 'same', activation=tf.nn.elu, kernel_initializer=ramps, name='own')",
            "max_pooling1d(x, 2, 2)",
            "average_pooling1d(x, 3, 2, 'same')",
            "dense(x, 2, kernel_initializer=ramps)",
        )
    ]
    + [
        f"{X5}; by = [x]; result = tf.layers.batch_normalization(x, training=True)",
        f"{X5}; by = [x]; result = tf.layers.batch_normalization(x, center=False, scale=False)",
        f"{X5}; t = tf.constant(True); result = tf.layers.batch_normalization(x, training=t)",
        f"{X5}; y = tf.layers.batch_normalization(x, training=True, momentum=0.5)\n"
        "with tf.control_dependencies(tf.get_collection('update_ops')):\n"
        "    result = [y] + [tf.identity(v) for v in tf.global_variables()]\n"
        "runs = 3",
        f"{X8}; y = tf.layers.batch_normalization(x, training=True, momentum=0.5)\n"
        "result = tf.get_collection('update_ops') + [y]",
        f"{X8}; t = tf.placeholder_with_default(False, []); y = tf.layers.batch_normalization(x, training=t)\n"
        "feeds = [{}, {t: True}, {t: False}]; runs = 3; result = y",
        f"{X5}; t = tf.placeholder_with_default(False, []); y = tf.layers.batch_normalization(x, training=t)\n"
        "feeds = [{t: True}, {}]; runs = 2; result = y",
        f"{X8}; t = tf.placeholder_with_default(False, []); y = tf.layers.batch_normalization(x, training=t)\n"
        "with tf.control_dependencies(tf.get_collection('update_ops')):\n"
        "    result = [tf.identity(v) for v in tf.global_variables()]\n"
        "feeds = [{t: True}, {}, {t: True}]; runs = 3",
        f"{X5}; t = tf.placeholder_with_default(False, []); result = tf.layers.dropout(x, 0.5, training=t)",
        f"{X5}; y = tf.layers.dense(x, 5, name='a', kernel_initializer=ramps)\n"
        "result = tf.layers.dense(y, 5, name='a', reuse=True)",
        f"{X5}; y = tf.layers.dense(x, 5, kernel_initializer=ramps)\n"
        "result = tf.layers.dense(y, 5, kernel_initializer=ramps)",
        f"{X5}\nwith tf.variable_scope('s'):\n    y = tf.layers.dense(x, 5, kernel_initializer=ramps)\n"
        "with tf.variable_scope('s', reuse=True):\n    result = tf.layers.dense(y, 5)",
        f"{X5}\nwith tf.variable_scope('s', reuse=tf.AUTO_REUSE, initializer=ramps, regularizer=tf.nn.l2_loss):\n"
        "    result = [tf.layers.dense(x, 5, name='d'), tf.layers.dense(x, 5, name='d')]",
        f"{X5}; layer = tf.layers.Dense(3, kernel_initializer=ramps); y = layer(x); result = [y, layer(x)]\n"
        "result += [layer.kernel.name, layer.bias.name, layer.scope_name, layer.built, len(layer.variables)]",
        f"{X5}; layer = tf.layers.Dense(3, name='own', kernel_initializer=ramps); y = layer(x)\n"
        "result = [y, layer.count_params(), [v.name for v in layer.trainable_variables]]",
        f"{X8}; layer = tf.layers.BatchNormalization(momentum=0.9); y = layer.apply(x, training=True)\n"
        "result = [y, [v.name for v in layer.weights], [v.name for v in layer.non_trainable_variables]]",
        "class Own(tf.layers.Layer):\n    def build(self, shape):\n"
        "        self.w = self.add_variable('w', [int(shape[-1])], initializer=ramps)\n        self.built = True\n"
        "    def call(self, inputs):\n        self.add_loss(tf.reduce_sum(self.w))\n        return inputs * self.w\n"
        f"{X5}; layer = Own(); result = layer(x)",
        "x = tf.placeholder(tf.float32, [None, 28, 28, 1]); y = tf.layers.conv2d(x, 8, 5, activation=tf.nn.relu)\n"
        "y = tf.layers.flatten(tf.layers.max_pooling2d(y, 2, 2)); result = tf.layers.dense(y, 10)",
        "x = tf.placeholder(tf.float32, [None, None, 3]); result = tf.layers.flatten(x)",
        "x = tf.placeholder(tf.float32, [7, None, 3]); result = tf.layers.flatten(x)",
        "x = tf.placeholder(tf.float32, [None, 5, 7, 3])\n"
        "result = tf.layers.conv2d_transpose(x, 2, 3, strides=2, padding='same')",
        "x = tf.placeholder(tf.float32, [None, 3, 8, 8])\n"
        "result = tf.layers.conv2d(x, 2, 3, data_format='channels_first', activation=tf.nn.relu)",
        "x = tf.placeholder(tf.float32, [None, 3, 8, 8])\n"
        "result = tf.layers.max_pooling2d(x, 2, 2, data_format='channels_first')",
        "x = tf.placeholder(tf.float32, [None, 3, 8, 8]); result = tf.layers.flatten(x, data_format='channels_first')",
        "x = tf.placeholder(tf.float32, [None, 3, 8, 8]); result = tf.layers.batch_normalization(x, axis=1)",
        "result = tf.layers.dense(tf.placeholder(tf.float32, [4, None]), 3)",
        "result = tf.layers.dense(tf.placeholder(tf.float32), 3)",
        "result = tf.layers.dense(tf.ones([3, 4], tf.int32), 3)",
        "result = tf.layers.dense(tf.ones([3]), 3)",
        "result = tf.layers.conv2d(tf.ones([3, 4, 5]), 3, 2)",
        "result = tf.layers.conv2d(tf.placeholder(tf.float32, [4, 5, 5, None]), 3, 2)",
        "result = tf.layers.conv2d(tf.ones([3, 4, 5, 1]), 3, 2, padding='full')",
        "result = tf.layers.conv2d(tf.ones([3, 4, 5, 1]), 3, [2, 2, 2])",
        "result = tf.layers.max_pooling2d(tf.ones([3, 4, 5]), 2, 2)",
        "result = tf.layers.batch_normalization(tf.placeholder(tf.float32, [4, None]))",
        "result = tf.layers.batch_normalization(tf.ones([4, 3]), axis=2)",
        "result = tf.layers.dropout(tf.ones([4, 3]), 1.5)",
        f"{X5}; y = tf.layers.dense(x, 5, name='a'); result = tf.layers.dense(x, 5, name='a')",
        f"{X5}; result = tf.layers.dense(x, 5, name='a', reuse=True)",
        f"{X5}; y = tf.layers.dense(x, 5, name='a'); result = tf.layers.dense(x, 4, name='a', reuse=True)",
        "result = tf.layers.Dense(3).scope_name",
    ]
)

OF_METRICS = (
    "l, p = tf.placeholder_with_default([1, 0, 1, 1], [None]), tf.placeholder_with_default([1, 1, 0, 1], [None])\n"
    "q = tf.placeholder_with_default([0.9, 0.6, 0.2, 0.7], [None]); w = tf.constant([1.0, 0.5, 2.0, 0.0])\n"
    "feeds = [{}, {l: [0, 0, 1, 0], p: [0, 1, 1, 0], q: [0.1, 0.8, 0.4, 0.3]}]; runs = 3\n"
)
METRICS = [
    f"{OF_METRICS}value, update = tf.metrics.{call}; result = update"
    for call in (
        "accuracy(l, p)",
        "accuracy(l, p, w, name='own')",
        "accuracy(tf.cast(l, tf.int64), p, metrics_collections=['a'], updates_collections=['update_ops'])",
        "mean(q)",
        "mean(q, weights=w)",
        "mean(tf.reshape(q, [2, 2]), [[2.0], [1.0]])",
        "auc(l, q)",
        "auc(l, q, w, num_thresholds=20, curve='PR')",
        "auc(l, q, num_thresholds=20, summation_method='minoring')",
        "auc(l, q, num_thresholds=20, curve='PR', summation_method='careful_interpolation')",
        "auc(l, q, summation_method='majoring', thresholds=[0.25, 0.5])",
        "precision(l, p)",
        "precision(l, p, w)",
        "recall(l, p)",
        "recall(l, p, w, name='own')",
        "true_positives(l, p)",
        "false_positives(l, p, w)",
        "true_negatives(l, p)",
        "false_negatives(l, p)",
        "mean_squared_error(tf.cast(l, tf.float32), q)",
        "mean_squared_error(tf.cast(l, tf.float32), q, w)",
        "root_mean_squared_error(tf.cast(l, tf.float32), q)",
        "mean_absolute_error(tf.cast(l, tf.float32), q)",
        "mean_relative_error(tf.cast(l, tf.float32), q, tf.cast(p, tf.float32))",
        "percentage_below(q, 0.5)",
        "precision_at_thresholds(l, q, [0.3, 0.6])",
        "recall_at_thresholds(l, q, [0.3, 0.6])",
    )
] + [
    f"{OF_METRICS}value, update = tf.metrics.{call}\nwith tf.control_dependencies([update]):\n    result = [tf.identity("
    "v) for v in tf.get_collection('metric_variables')]"
    for call in ("mean(q, w)", "accuracy(l, p)")
] + [
    "a = tf.metrics.accuracy([1, 2], [1, 3]); b = tf.metrics.accuracy([1, 2], [1, 3]); result = [a, b][1][1]",
    "a = tf.metrics.mean([1.0], name='m'); b = tf.metrics.mean([1.0], name='m'); result = b[1]",
    "with tf.variable_scope('s'), tf.name_scope('n'):\n    result = tf.metrics.mean([1.0, 2.0])[1]",
    "result = tf.metrics.accuracy([[1], [2]], [1, 2])[1]",
    "result = tf.metrics.accuracy([1, 2, 3], [1, 2])",
    "result = tf.metrics.mean([1.0, 2.0], [1.0, 2.0, 3.0])",
    "result = tf.metrics.auc([True], tf.constant([2.0]))[1]",
    "result = tf.metrics.auc([True], tf.constant([0.5]), curve='X')",
]

LOSSES = [
    "l, q = tf.constant([[1.0, 0.0], [0.0, 1.0]]), tf.constant([[0.9, 0.2], [0.4, 0.7]]); by = [q]\n"
    f"w = tf.constant([[0.5], [0.0]]); result = tf.losses.{call}"
    for call in (
        "mean_squared_error(l, q)",
        "mean_squared_error(l, q, w)",
        "mean_squared_error(l, q, 0.5, scope='own', loss_collection=None)",
        "mean_squared_error(l, q, w, reduction=tf.losses.Reduction.SUM)",
        "mean_squared_error(l, q, w, reduction=tf.losses.Reduction.NONE)",
        "mean_squared_error(l, q, w, reduction=tf.losses.Reduction.MEAN)",
        "mean_squared_error(l, q, w, reduction=tf.losses.Reduction.SUM_OVER_BATCH_SIZE)",
        "mean_squared_error(l, q, w, reduction='sum')",
        "absolute_difference(l, q)",
        "huber_loss(l, q, delta=0.3)",
        "log_loss(l, q)",
        "hinge_loss(l, q)",
        "sigmoid_cross_entropy(l, q)",
        "sigmoid_cross_entropy(l, q, w, label_smoothing=0.1)",
        "softmax_cross_entropy(l, q)",
        "softmax_cross_entropy(l, q, label_smoothing=0.1)",
        "softmax_cross_entropy(l, q, weights=[1.0, 3.0])",
        "sparse_softmax_cross_entropy([1, 0], q)",
        "sparse_softmax_cross_entropy(tf.constant([[1], [0]]), q, weights=[1.0, 3.0])",
        "cosine_distance(tf.nn.l2_normalize(l + 0.5, 1), tf.nn.l2_normalize(q, 1), axis=1)",
        "cosine_distance(l, q, 0, weights=2.0)",
        "mean_pairwise_squared_error(l, q)",
        "mean_pairwise_squared_error(l, q, [[2.0], [1.0]])",
        "compute_weighted_loss(q, w)",
        "mean_squared_error(l, q[:, :1])",
        "mean_squared_error(l, q, [1.0, 2.0, 3.0])",
        "mean_squared_error(None, q)",
    )
] + [
    "a = tf.losses.mean_squared_error([1.0], [2.0]); b = tf.losses.absolute_difference([1.0], [3.0])\n"
    "tf.add_to_collection('regularization_losses', tf.constant(5.0)); result = [tf.losses.get_total_loss(), "
    "tf.losses.get_total_loss(False, name='t'), tf.losses.get_regularization_loss()] + tf.losses.get_losses()",
    "result = tf.losses.get_total_loss()",
]

RANDOM = [
    f"tf.set_random_seed(7); result = {call}"
    for call in (
        "tf.random_normal([2, 3])",
        "tf.random_normal([2, 3], 1.0, 2.0, tf.float64, seed=3, name='own')",
        "tf.random_uniform([2, 3])",
        "tf.random_uniform([4], 2, 9, tf.int32)",
        "tf.random_uniform([4], -1.0, 1.0)",
        "tf.truncated_normal([2, 3], stddev=0.1)",
        "tf.random_shuffle(tf.ones([3, 2]))",
        "tf.random_normal(tf.placeholder_with_default([2, 3], [2]))",
        "tf.nn.dropout(tf.ones([2, 3]), keep_prob=0.5)",
        "tf.nn.dropout(tf.ones([2, 3]), rate=0.5, noise_shape=[2, 1], seed=4, name='own')",
        "tf.nn.dropout(tf.ones([2, 3]), keep_prob=tf.placeholder_with_default(0.5, []))",
    )
] + [
    "result = tf.random_normal([2, 3], dtype=tf.int32)",
    "result = tf.random_uniform([2, 3], dtype=tf.int32)",
    "result = tf.random_normal([2.5, 3])",
]

TRAINED = [
    """
images, labels = tf.constant(ramp(4, 8, 8, 1)), tf.constant([0, 1, 2, 1])


def conv_relu(input, kernel_shape, bias_shape):
    weights = tf.get_variable("weights", kernel_shape, initializer=ramps)
    biases = tf.get_variable("biases", bias_shape, initializer=tf.constant_initializer(0.1))
    conv = tf.nn.conv2d(input, weights, strides=[1, 1, 1, 1], padding="SAME")
    return tf.nn.relu(conv + biases)


with tf.variable_scope("conv1"):
    x = conv_relu(images, [3, 3, 1, 4], [4])
x = tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
with tf.variable_scope("conv2"):
    x = conv_relu(x, [3, 3, 4, 2], [2])
x = tf.reshape(tf.nn.avg_pool(x, 2, 2, "VALID"), [-1, 8])
with tf.variable_scope("out", regularizer=lambda w: 0.01 * tf.nn.l2_loss(w)):
    logits = tf.matmul(x, tf.get_variable("w", [8, 3], initializer=ramps))
tf.losses.sparse_softmax_cross_entropy(labels, logits)
loss = tf.losses.get_total_loss()
variables = tf.trainable_variables()
found = tf.gradients(loss, variables)
with tf.control_dependencies(found):
    steps = [tf.assign_sub(v, 0.01 * g) for v, g in zip(variables, found)]
with tf.control_dependencies(steps):
    result = [loss] + [tf.reduce_sum(v) for v in variables]
runs = 4
""",
    """
t = tf.placeholder_with_default(True, [])
x = tf.layers.conv2d(tf.constant(ramp(4, 8, 8, 1)), 3, 3, padding="same", kernel_initializer=ramps)
x = tf.nn.elu(tf.layers.batch_normalization(x, training=t, momentum=0.8, gamma_initializer=ramps))
x = tf.layers.flatten(tf.layers.average_pooling2d(x, 2, 2))
x = tf.layers.dense(x, 5, activation=tf.nn.softplus, kernel_initializer=ramps)
x = tf.layers.batch_normalization(x, training=t, momentum=0.8)
loss = tf.losses.mean_squared_error(tf.constant(ramp(4, 2)), tf.layers.dense(x, 2, kernel_initializer=ramps))
variables = tf.trainable_variables()
found = tf.gradients(loss, variables)
with tf.control_dependencies(found + tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    steps = [tf.assign_sub(v, 0.01 * g) for v, g in zip(variables, found)]
with tf.control_dependencies(steps):
    result = [loss] + [tf.reduce_sum(v) for v in tf.global_variables()]
runs = 5
feeds = [{}, {}, {}, {}, {t: False}]
""",
]

PROGRAMS = CONVOLUTIONS + POOLS + ACTIVATIONS + SAMPLED + PRODUCTS + LAYERS + METRICS + LOSSES + RANDOM + TRAINED
