"""Programs as tutorials have them: regressions, networks, embeddings, adversaries, agents.

Each is a function of ``tf`` and of what notes the values that are compared: see ``tutorials/__init__.py``.
"""

import numpy as np

from tests.conformance.reference.tutorials.values import onehot, program, wave


@program
def linear_regression(tf, log):
    # aymericdamien: linear_regression.py
    learning_rate = 0.01; training_epochs = 20; display_step = 5
    train_X = np.asarray([3.3,4.4,5.5,6.71,6.93,4.168,9.779,6.182,7.59,2.167,7.042,10.791,5.313,7.997,5.654,9.27,3.1])
    train_Y = np.asarray([1.7,2.76,2.09,3.19,1.694,1.573,3.366,2.596,2.53,1.221,2.827,3.465,1.65,2.904,2.42,2.94,1.3])
    n_samples = train_X.shape[0]
    X = tf.placeholder("float"); Y = tf.placeholder("float")
    W = tf.Variable(0.3, name="weight"); b = tf.Variable(-0.2, name="bias")
    pred = tf.add(tf.multiply(X, W), b)
    cost = tf.reduce_sum(tf.pow(pred - Y, 2)) / (2 * n_samples)
    optimizer = tf.train.GradientDescentOptimizer(learning_rate).minimize(cost)
    init = tf.global_variables_initializer()
    with tf.Session() as sess:
        sess.run(init)
        for epoch in range(training_epochs):
            for (x, y) in zip(train_X, train_Y):
                sess.run(optimizer, feed_dict={X: x, Y: y})
            if (epoch + 1) % display_step == 0:
                c = sess.run(cost, feed_dict={X: train_X, Y: train_Y})
                log("epoch %d" % (epoch + 1), c, sess.run(W), sess.run(b))
        testing_cost = sess.run(tf.reduce_sum(tf.pow(pred - Y, 2)) / (2 * n_samples), feed_dict={X: train_X[:4], Y: train_Y[:4]})
        log("test", testing_cost, pred.name, cost.name, optimizer.name)


@program
def logistic_regression(tf, log):
    x = tf.placeholder(tf.float32, [None, 8]); y = tf.placeholder(tf.float32, [None, 3])
    W = tf.Variable(tf.zeros([8, 3])); b = tf.Variable(tf.zeros([3]))
    pred = tf.nn.softmax(tf.matmul(x, W) + b)
    cost = tf.reduce_mean(-tf.reduce_sum(y * tf.log(pred), reduction_indices=1))
    optimizer = tf.train.GradientDescentOptimizer(0.5).minimize(cost)
    init = tf.global_variables_initializer()
    xs, ys = wave(24, 8), onehot(24, 3)
    with tf.Session() as sess:
        sess.run(init)
        for epoch in range(6):
            avg_cost = 0.
            for i in range(4):
                _, c = sess.run([optimizer, cost], feed_dict={x: xs[i*6:i*6+6], y: ys[i*6:i*6+6]})
                avg_cost += c / 4
            log(epoch, avg_cost)
        correct_prediction = tf.equal(tf.argmax(pred, 1), tf.argmax(y, 1))
        accuracy = tf.reduce_mean(tf.cast(correct_prediction, tf.float32))
        log(accuracy.eval({x: xs, y: ys}), W.eval(), b.eval(), W.name, b.name, accuracy.name)


@program
def sigmoid_regression_weighted(tf, log):
    X = tf.placeholder(tf.float32, shape=(None, 4), name="X"); y = tf.placeholder(tf.float32, shape=(None, 1), name="y")
    with tf.variable_scope("logreg"):
        theta = tf.get_variable("theta", initializer=wave(4, 1, scale=.1))
        bias = tf.get_variable("bias", shape=[], initializer=tf.constant_initializer(0.25))
    logits = tf.matmul(X, theta, name="logits") + bias
    proba = tf.sigmoid(logits)
    loss = tf.losses.log_loss(y, proba)
    wloss = tf.reduce_mean(tf.nn.weighted_cross_entropy_with_logits(targets=y, logits=logits, pos_weight=3.0))
    hinge = tf.losses.hinge_loss(y, logits)
    total = loss + 0.1 * wloss + 0.01 * hinge
    opt = tf.train.MomentumOptimizer(0.1, 0.9, use_nesterov=True)
    train = opt.minimize(total)
    xs = wave(10, 4); ys = (wave(10, 1, phase=.5) > 0).astype(np.float32)
    with tf.Session() as sess:
        tf.global_variables_initializer().run()
        for _ in range(8):
            log(*sess.run([loss, wloss, hinge, total, train], {X: xs, y: ys})[:4])
        log(theta.eval(), bias.eval(), opt.get_slot(theta, "momentum").eval(), opt.get_slot(bias, "momentum").name)
        log([l.name for l in tf.losses.get_losses()], tf.losses.get_total_loss().name)


@program
def mlp_dicts(tf, log):
    # aymericdamien: neural_network_raw
    n_hidden_1, n_hidden_2, num_input, num_classes = 7, 5, 6, 4
    X = tf.placeholder("float", [None, num_input]); Y = tf.placeholder("float", [None, num_classes])
    weights = {'h1': tf.Variable(wave(num_input, n_hidden_1)), 'h2': tf.Variable(wave(n_hidden_1, n_hidden_2)), 'out': tf.Variable(wave(n_hidden_2, num_classes))}
    biases = {'b1': tf.Variable(wave(n_hidden_1)), 'b2': tf.Variable(wave(n_hidden_2)), 'out': tf.Variable(wave(num_classes))}
    def neural_net(x):
        layer_1 = tf.add(tf.matmul(x, weights['h1']), biases['b1'])
        layer_2 = tf.add(tf.matmul(layer_1, weights['h2']), biases['b2'])
        return tf.matmul(layer_2, weights['out']) + biases['out']
    logits = neural_net(X); prediction = tf.nn.softmax(logits)
    loss_op = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits=logits, labels=Y))
    optimizer = tf.train.AdamOptimizer(learning_rate=0.01)
    train_op = optimizer.minimize(loss_op)
    correct_pred = tf.equal(tf.argmax(prediction, 1), tf.argmax(Y, 1))
    accuracy = tf.reduce_mean(tf.cast(correct_pred, tf.float32))
    init = tf.global_variables_initializer()
    xs, ys = wave(20, num_input), onehot(20, num_classes)
    with tf.Session() as sess:
        sess.run(init)
        for step in range(1, 16):
            sess.run(train_op, feed_dict={X: xs, Y: ys})
            if step % 5 == 0:
                loss, acc = sess.run([loss_op, accuracy], feed_dict={X: xs, Y: ys})
                log("Step " + str(step), loss, acc)
        log(sess.run(weights), sess.run(biases))
        log(sess.run([optimizer.get_slot(weights['h1'], "m"), optimizer.get_slot(weights['h1'], "v")]), sess.run(optimizer._get_beta_accumulators()))


@program
def convnet_variable_scope(tf, log):
    def conv_relu(input, kernel_shape, bias_shape):
        weights = tf.get_variable("weights", kernel_shape, initializer=tf.constant_initializer(wave(*kernel_shape, scale=.3)))
        biases = tf.get_variable("biases", bias_shape, initializer=tf.constant_initializer(0.1))
        conv = tf.nn.conv2d(input, weights, strides=[1, 1, 1, 1], padding='SAME')
        return tf.nn.relu(conv + biases)
    def my_image_filter(input_images):
        with tf.variable_scope("conv1"):
            relu1 = conv_relu(input_images, [3, 3, 2, 4], [4])
        with tf.variable_scope("conv2"):
            return conv_relu(relu1, [3, 3, 4, 4], [4])
    images = tf.placeholder(tf.float32, [None, 6, 6, 2])
    with tf.variable_scope("image_filters") as scope:
        result1 = my_image_filter(images)
        scope.reuse_variables()
        result2 = my_image_filter(images * 0.5)
    pool = tf.nn.max_pool(result1 + result2, ksize=[1, 2, 2, 1], strides=[1, 2, 2, 1], padding='SAME', name="pool")
    norm = tf.nn.lrn(pool, 4, bias=1.0, alpha=0.001 / 9.0, beta=0.75, name='norm1')
    flat = tf.reshape(norm, [-1, 3 * 3 * 4])
    with tf.variable_scope("fc"):
        w = tf.get_variable("w", [36, 3], initializer=tf.constant_initializer(wave(36, 3, scale=.2)))
        b = tf.get_variable("b", [3], initializer=tf.zeros_initializer)
    logits = tf.nn.xw_plus_b(flat, w, b)
    labels = tf.placeholder(tf.int64, [None])
    ce = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name="xentropy")
    loss = tf.reduce_mean(ce, name="loss")
    step = tf.Variable(0, name="global_step", trainable=False)
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss, global_step=step)
    top = tf.nn.in_top_k(logits, labels, 1)
    xs = wave(5, 6, 6, 2); ys = np.array([0, 1, 2, 1, 0])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(4):
            _, l, t, s = sess.run([train, loss, top, step], {images: xs, labels: ys}); log(l, t)
        log(sess.run(tf.trainable_variables()), [v.name for v in tf.trainable_variables()], [v.name for v in tf.global_variables()])
        log(sess.run(tf.gradients(loss, [images]), {images: xs, labels: ys}))


@program
def convnet_layers(tf, log):
    # the TF "A Guide to TF Layers" model
    def cnn_model_fn(features, labels, training):
        input_layer = tf.reshape(features["x"], [-1, 8, 8, 1])
        k = tf.constant_initializer
        conv1 = tf.layers.conv2d(inputs=input_layer, filters=4, kernel_size=[5, 5], padding="same", activation=tf.nn.relu, kernel_initializer=k(wave(5, 5, 1, 4, scale=.2)))
        pool1 = tf.layers.max_pooling2d(inputs=conv1, pool_size=[2, 2], strides=2)
        conv2 = tf.layers.conv2d(inputs=pool1, filters=6, kernel_size=3, padding="same", activation=tf.nn.relu, kernel_initializer=k(wave(3, 3, 4, 6, scale=.2)))
        pool2 = tf.layers.average_pooling2d(inputs=conv2, pool_size=[2, 2], strides=2)
        pool2_flat = tf.layers.flatten(pool2)
        dense = tf.layers.dense(inputs=pool2_flat, units=8, activation=tf.nn.relu, kernel_initializer=k(wave(24, 8, scale=.2)))
        dropout = tf.layers.dropout(inputs=dense, rate=0.4, training=training)
        logits = tf.layers.dense(inputs=dropout, units=5, kernel_initializer=k(wave(8, 5, scale=.2)))
        predictions = {"classes": tf.argmax(input=logits, axis=1), "probabilities": tf.nn.softmax(logits, name="softmax_tensor")}
        loss = tf.losses.sparse_softmax_cross_entropy(labels=labels, logits=logits)
        return predictions, loss
    x = tf.placeholder(tf.float32, [None, 64]); y = tf.placeholder(tf.int32, [None])
    predictions, loss = cnn_model_fn({"x": x}, y, False)
    optimizer = tf.train.GradientDescentOptimizer(learning_rate=0.05)
    train_op = optimizer.minimize(loss=loss, global_step=tf.train.get_global_step())
    accuracy = tf.metrics.accuracy(labels=y, predictions=predictions["classes"])
    xs = wave(6, 64); ys = np.arange(6) % 5
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        for _ in range(4):
            log(sess.run([loss, predictions, accuracy, train_op], {x: xs, y: ys})[:2])
        log(sess.run(accuracy[0]), [v.name for v in tf.local_variables()], [v.op.name for v in tf.trainable_variables()])
        log(sess.run(tf.trainable_variables()))


@program
def autoencoder(tf, log):
    X = tf.placeholder("float", [None, 12])
    weights = {'encoder_h1': tf.Variable(wave(12, 6)), 'encoder_h2': tf.Variable(wave(6, 3)), 'decoder_h1': tf.Variable(wave(3, 6)), 'decoder_h2': tf.Variable(wave(6, 12))}
    biases = {k: tf.Variable(wave(n)) for k, n in (('encoder_b1', 6), ('encoder_b2', 3), ('decoder_b1', 6), ('decoder_b2', 12))}
    enc = lambda x: tf.nn.sigmoid(tf.add(tf.matmul(tf.nn.sigmoid(tf.add(tf.matmul(x, weights['encoder_h1']), biases['encoder_b1'])), weights['encoder_h2']), biases['encoder_b2']))
    dec = lambda x: tf.nn.sigmoid(tf.add(tf.matmul(tf.nn.sigmoid(tf.add(tf.matmul(x, weights['decoder_h1']), biases['decoder_b1'])), weights['decoder_h2']), biases['decoder_b2']))
    y_pred = dec(enc(X)); y_true = X
    loss = tf.reduce_mean(tf.pow(y_true - y_pred, 2))
    opt = tf.train.RMSPropOptimizer(0.01)
    optimizer = opt.minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(10):
            _, l = sess.run([optimizer, loss], feed_dict={X: np.abs(wave(9, 12))}); log(l)
        log(sess.run(y_pred, {X: np.abs(wave(2, 12))}), sess.run(weights['decoder_h2']), opt.get_slot_names(), sess.run(opt.get_slot(weights['encoder_h1'], 'rms')))


@program
def word2vec_nce(tf, log):
    vocabulary_size, embedding_size, batch_size, num_sampled = 12, 4, 6, 5
    graph = tf.get_default_graph()
    with tf.name_scope('inputs'):
        train_inputs = tf.placeholder(tf.int32, shape=[batch_size]); train_labels = tf.placeholder(tf.int32, shape=[batch_size, 1])
        valid_dataset = tf.constant([1, 4], dtype=tf.int32)
    with tf.device('/cpu:0'):
        with tf.name_scope('embeddings'):
            embeddings = tf.Variable(wave(vocabulary_size, embedding_size))
            embed = tf.nn.embedding_lookup(embeddings, train_inputs)
        with tf.name_scope('weights'):
            nce_weights = tf.Variable(wave(vocabulary_size, embedding_size, phase=.3))
        with tf.name_scope('biases'):
            nce_biases = tf.Variable(tf.zeros([vocabulary_size]))
    sampled = (tf.constant([0, 3, 5, 7, 11], tf.int64), tf.fill([batch_size, 1], 0.4), tf.fill([5], 0.4))
    with tf.name_scope('loss'):
        loss = tf.reduce_mean(tf.nn.nce_loss(weights=nce_weights, biases=nce_biases, labels=train_labels, inputs=embed, num_sampled=num_sampled, num_classes=vocabulary_size, sampled_values=sampled))
    with tf.name_scope('optimizer'):
        optimizer = tf.train.GradientDescentOptimizer(1.0).minimize(loss)
    norm = tf.sqrt(tf.reduce_sum(tf.square(embeddings), 1, keepdims=True))
    normalized_embeddings = embeddings / norm
    valid_embeddings = tf.nn.embedding_lookup(normalized_embeddings, valid_dataset)
    similarity = tf.matmul(valid_embeddings, normalized_embeddings, transpose_b=True)
    init = tf.global_variables_initializer()
    with tf.Session(graph=graph) as session:
        init.run()
        for step in range(4):
            feed = {train_inputs: [1, 1, 2, 5, 5, 5], train_labels: [[2], [3], [1], [4], [6], [2]]}
            _, l = session.run([optimizer, loss], feed_dict=feed); log(l)
        log(similarity.eval(), normalized_embeddings.eval(), session.run([embeddings, nce_weights, nce_biases]), optimizer.name, embeddings.name)


@program
def word2vec_sampled_softmax(tf, log):
    V, D = 10, 3
    inputs = tf.placeholder(tf.int64, [None]); labels = tf.placeholder(tf.int64, [None, 1])
    emb = tf.get_variable("emb", [V, D], initializer=tf.constant_initializer(wave(V, D)))
    sw = tf.get_variable("softmax_w", [V, D], initializer=tf.constant_initializer(wave(V, D, phase=1)))
    sb = tf.get_variable("softmax_b", [V], initializer=tf.zeros_initializer())
    sampled = (tf.constant([0, 2, 7], tf.int64), tf.constant([[.3], [.2], [.4]]), tf.constant([.3, .2, .1]))
    x = tf.nn.embedding_lookup(emb, inputs)
    loss = tf.reduce_mean(tf.nn.sampled_softmax_loss(sw, sb, labels, x, 3, V, sampled_values=sampled, remove_accidental_hits=True))
    train = tf.train.AdagradOptimizer(1.0)
    grads = train.compute_gradients(loss)
    log([(type(g).__name__, v.op.name) for g, v in grads])
    op = train.apply_gradients(grads)
    full = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(labels=tf.one_hot(tf.squeeze(labels, [1]), V), logits=tf.matmul(x, tf.transpose(sw)) + sb))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(5):
            F = {inputs: [1, 2, 2], labels: [[2], [0], [5]]}; log(*sess.run([loss, full], F)); sess.run(op, F)
        g = sess.run([g for g, _ in grads], {inputs: [1, 2, 2], labels: [[2], [0], [5]]})
        log([(np.asarray(i.values), np.asarray(i.indices), np.asarray(i.dense_shape)) if hasattr(i, 'indices') else i for i in g])
        log(sess.run([emb, sw, sb, train.get_slot(emb, "accumulator")]))


@program
def matrix_factorization(tf, log):
    user, item, rate = tf.placeholder(tf.int32, [None], "user"), tf.placeholder(tf.int32, [None], "item"), tf.placeholder(tf.float32, [None], "rate")
    with tf.device("/cpu:0"):
        bias_global = tf.get_variable("bias_global", shape=[], initializer=tf.constant_initializer(.1))
        w_bias_user = tf.get_variable("embd_bias_user", shape=[6], initializer=tf.zeros_initializer())
        w_bias_item = tf.get_variable("embd_bias_item", shape=[5], initializer=tf.zeros_initializer())
        bias_user = tf.nn.embedding_lookup(w_bias_user, user, name="bias_user")
        bias_item = tf.nn.embedding_lookup(w_bias_item, item, name="bias_item")
        w_user = tf.get_variable("embd_user", shape=[6, 3], initializer=tf.constant_initializer(wave(6, 3)))
        w_item = tf.get_variable("embd_item", shape=[5, 3], initializer=tf.constant_initializer(wave(5, 3, phase=2)))
        embd_user = tf.nn.embedding_lookup(w_user, user, name="embedding_user")
        embd_item = tf.nn.embedding_lookup(w_item, item, name="embedding_item")
    infer = tf.reduce_sum(tf.multiply(embd_user, embd_item), 1)
    infer = tf.add(infer, bias_global); infer = tf.add(infer, bias_user); infer = tf.add(infer, bias_item, name="svd_inference")
    regularizer = tf.add(tf.nn.l2_loss(embd_user), tf.nn.l2_loss(embd_item), name="svd_regularizer")
    global_step = tf.train.get_or_create_global_step()
    cost_l2 = tf.nn.l2_loss(tf.subtract(infer, rate))
    penalty = tf.constant(0.05, dtype=tf.float32, shape=[], name="l2")
    cost = tf.add(cost_l2, tf.multiply(regularizer, penalty))
    for name, opt in (("ftrl", tf.train.FtrlOptimizer(0.1, l1_regularization_strength=.01)), ("adam", tf.train.AdamOptimizer(0.05)), ("mom", tf.train.MomentumOptimizer(.05, .8))):
        train = opt.minimize(cost, global_step=global_step, name=name)
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            for i in range(5):
                feed = {user: [0, 1, 1, 5], item: [2, 2, 4, 0], rate: [1., 3., 2., 5.]}
                _, c, p = sess.run([train, cost, infer], feed); log(name, c, p)
            log(sess.run([w_user, w_item, w_bias_user, bias_global, global_step]), {s: sess.run(opt.get_slot(w_user, s)) for s in opt.get_slot_names()})
    log([v.name for v in tf.global_variables()])


@program
def gan(tf, log):
    G = lambda z: None
    def generator(x, reuse=False):
        with tf.variable_scope('Generator', reuse=reuse):
            x = tf.layers.dense(x, units=6, kernel_initializer=tf.constant_initializer(wave(4, 6)))
            x = tf.nn.tanh(x)
            x = tf.layers.dense(x, units=5, kernel_initializer=tf.constant_initializer(wave(6, 5)))
            return tf.nn.sigmoid(x)
    def discriminator(x, reuse=False):
        with tf.variable_scope('Discriminator', reuse=reuse):
            x = tf.layers.dense(x, 7, activation=tf.nn.leaky_relu, kernel_initializer=tf.constant_initializer(wave(5, 7)), name="hidden")
            x = tf.layers.dense(x, 1, kernel_initializer=tf.constant_initializer(wave(7, 1)), name="out")
            return x
    noise = tf.placeholder(tf.float32, [None, 4]); real = tf.placeholder(tf.float32, [None, 5])
    fake = generator(noise); d_real = discriminator(real); d_fake = discriminator(fake, reuse=True)
    ce = tf.nn.sigmoid_cross_entropy_with_logits
    disc_loss = tf.reduce_mean(ce(logits=d_real, labels=tf.ones_like(d_real))) + tf.reduce_mean(ce(logits=d_fake, labels=tf.zeros_like(d_fake)))
    gen_loss = tf.reduce_mean(ce(logits=d_fake, labels=tf.ones_like(d_fake)))
    t_vars = tf.trainable_variables()
    d_vars = [v for v in t_vars if v.name.startswith('Discriminator')]; g_vars = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, scope='Generator')
    log([v.name for v in d_vars], [v.name for v in g_vars])
    train_gen = tf.train.AdamOptimizer(0.02, beta1=0.5).minimize(gen_loss, var_list=g_vars)
    train_disc = tf.train.AdamOptimizer(0.02, beta1=0.5).minimize(disc_loss, var_list=d_vars)
    clip_D = [p.assign(tf.clip_by_value(p, -0.9, 0.9)) for p in d_vars]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(5):
            f = {real: np.abs(wave(8, 5)), noise: wave(8, 4, phase=i)}
            gl, dl = sess.run([gen_loss, disc_loss], feed_dict=f); sess.run(train_gen, f); sess.run(train_disc, f)
            log(gl, dl)
            sess.run(clip_D)
        log(sess.run(g_vars), sess.run(d_vars), [v.name for v in tf.global_variables()])


@program
def wgan_gp(tf, log):
    # gradient penalty: gradients of gradients
    x = tf.placeholder(tf.float32, [None, 3])
    w1 = tf.get_variable("w1", initializer=wave(3, 4)); w2 = tf.get_variable("w2", initializer=wave(4, 1))
    def D(x): return tf.matmul(tf.nn.tanh(tf.matmul(x, w1)), w2)
    gradients = tf.gradients(D(x), [x])[0]
    slopes = tf.sqrt(tf.reduce_sum(tf.square(gradients), reduction_indices=[1]))
    gradient_penalty = tf.reduce_mean((slopes - 1.) ** 2)
    loss = -tf.reduce_mean(D(x)) + 10 * gradient_penalty
    train = tf.train.AdamOptimizer(learning_rate=1e-2, beta1=0.5, beta2=0.9).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(6): log(*sess.run([loss, gradient_penalty, train], {x: wave(5, 3)})[:2])
        log(sess.run([w1, w2]))


@program
def policy_gradient(tf, log):
    # arthurjuliani: policy gradient agent
    state_in = tf.placeholder(shape=[None, 4], dtype=tf.float32)
    hidden = tf.layers.dense(state_in, 8, use_bias=False, activation=tf.nn.relu, kernel_initializer=tf.constant_initializer(wave(4, 8)))
    output = tf.layers.dense(hidden, 2, use_bias=False, activation=tf.nn.softmax, kernel_initializer=tf.constant_initializer(wave(8, 2)))
    chosen_action = tf.argmax(output, 1)
    reward_holder = tf.placeholder(shape=[None], dtype=tf.float32); action_holder = tf.placeholder(shape=[None], dtype=tf.int32)
    indexes = tf.range(0, tf.shape(output)[0]) * tf.shape(output)[1] + action_holder
    responsible_outputs = tf.gather(tf.reshape(output, [-1]), indexes)
    loss = -tf.reduce_mean(tf.log(responsible_outputs) * reward_holder)
    tvars = tf.trainable_variables()
    gradient_holders = []
    for idx, var in enumerate(tvars):
        placeholder = tf.placeholder(tf.float32, name=str(idx) + '_holder'); gradient_holders.append(placeholder)
    gradients = tf.gradients(loss, tvars)
    optimizer = tf.train.AdamOptimizer(learning_rate=1e-2)
    update_batch = optimizer.apply_gradients(zip(gradient_holders, tvars))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        gradBuffer = sess.run(tf.trainable_variables())
        for ix, grad in enumerate(gradBuffer): gradBuffer[ix] = grad * 0
        for i in range(6):
            a = sess.run(chosen_action, {state_in: wave(5, 4, phase=i)})
            feed = {reward_holder: [1., .9, .8, -1., .3], action_holder: a, state_in: wave(5, 4, phase=i)}
            grads = sess.run(gradients, feed_dict=feed)
            for idx, grad in enumerate(grads): gradBuffer[idx] += grad
            if i % 2 == 1:
                sess.run(update_batch, feed_dict=dict(zip(gradient_holders, gradBuffer)))
                for ix, grad in enumerate(gradBuffer): gradBuffer[ix] = grad * 0
            log(a, sess.run(loss, feed))
        log(sess.run(tvars), [g.name for g in gradients], update_batch.name)


@program
def actor_critic(tf, log):
    s = tf.placeholder(tf.float32, [None, 3], "state"); a = tf.placeholder(tf.int32, [None], "act"); td = tf.placeholder(tf.float32, [None], "td_error")
    with tf.variable_scope('Actor'):
        l1 = tf.layers.dense(inputs=s, units=5, activation=tf.nn.relu, kernel_initializer=tf.constant_initializer(wave(3, 5)), bias_initializer=tf.constant_initializer(0.1), name='l1')
        acts_prob = tf.layers.dense(l1, 4, tf.nn.softmax, kernel_initializer=tf.constant_initializer(wave(5, 4)), name='acts_prob')
    with tf.variable_scope('Critic'):
        v = tf.squeeze(tf.layers.dense(tf.layers.dense(s, 6, tf.nn.elu, kernel_initializer=tf.constant_initializer(wave(3, 6))), 1, kernel_initializer=tf.constant_initializer(wave(6, 1))), axis=1)
    one_hot = tf.one_hot(a, 4, dtype=tf.float32)
    log_prob = tf.reduce_sum(tf.log(acts_prob + 1e-8) * one_hot, axis=1)
    entropy = -tf.reduce_sum(acts_prob * tf.log(acts_prob + 1e-5), axis=1, keepdims=True)
    advantage = td - v
    exp_v = tf.reduce_mean(log_prob * tf.stop_gradient(advantage) + 0.01 * entropy)
    c_loss = tf.reduce_mean(tf.square(advantage))
    a_params = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, scope='Actor'); c_params = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, scope='Critic')
    a_train = tf.train.AdamOptimizer(.01).minimize(-exp_v, var_list=a_params)
    OPT = tf.train.RMSPropOptimizer(.01, name='RMSPropC')
    c_grads = tf.gradients(c_loss, c_params)
    c_train = OPT.apply_gradients(zip(c_grads, c_params))
    pull = [l.assign(0.9 * l + 0.1 * r) for l, r in zip(c_params[:2], c_params[:2])]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(5):
            f = {s: wave(6, 3, phase=i), a: [0, 1, 2, 3, 0, 1], td: wave(6, phase=i)}
            sess.run(a_train, f); sess.run(c_train, f); sess.run(pull)
            log(*sess.run([exp_v, c_loss, acts_prob, v], f))
        log(sess.run(a_params), sess.run(c_params))


@program
def dqn_target_network(tf, log):
    s = tf.placeholder(tf.float32, [None, 3], name='s'); s_ = tf.placeholder(tf.float32, [None, 3], name='s_')
    r = tf.placeholder(tf.float32, [None], name='r'); a = tf.placeholder(tf.int32, [None], name='a')
    w_initializer, b_initializer = tf.constant_initializer(0.3), tf.constant_initializer(0.1)
    def net(x, scope):
        with tf.variable_scope(scope):
            c_names = [scope + '_params', tf.GraphKeys.GLOBAL_VARIABLES]
            with tf.variable_scope('l1'):
                w1 = tf.get_variable('w1', [3, 5], initializer=tf.constant_initializer(wave(3, 5)), collections=c_names)
                b1 = tf.get_variable('b1', [1, 5], initializer=b_initializer, collections=c_names)
                l1 = tf.nn.relu(tf.matmul(x, w1) + b1)
            with tf.variable_scope('l2'):
                w2 = tf.get_variable('w2', [5, 4], initializer=w_initializer, collections=c_names)
                b2 = tf.get_variable('b2', [1, 4], initializer=b_initializer, collections=c_names)
                return tf.matmul(l1, w2) + b2
    q_eval = net(s, 'eval_net'); q_next = net(s_, 'target_net')
    with tf.variable_scope('q_target'):
        q_target = tf.stop_gradient(r + 0.9 * tf.reduce_max(q_next, axis=1, name='Qmax_s_'))
    with tf.variable_scope('q_eval'):
        a_indices = tf.stack([tf.range(tf.shape(a)[0], dtype=tf.int32), a], axis=1)
        q_eval_wrt_a = tf.gather_nd(params=q_eval, indices=a_indices)
    with tf.variable_scope('loss'):
        loss = tf.reduce_mean(tf.squared_difference(q_target, q_eval_wrt_a, name='TD_error'))
    with tf.variable_scope('train'):
        _train_op = tf.train.RMSPropOptimizer(0.01).minimize(loss)
    t_params = tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope='target_net'); e_params = tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope='eval_net')
    with tf.variable_scope('soft_replacement'):
        target_replace_op = [tf.assign(t, e) for t, e in zip(t_params, e_params)]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(6):
            f = {s: wave(4, 3, phase=i), s_: wave(4, 3, phase=i + 1), r: wave(4), a: [0, 3, 1, 2]}
            if i % 3 == 0: sess.run(target_replace_op)
            _, c = sess.run([_train_op, loss], f); log(c)
        log(sess.run(e_params), sess.run(t_params), [v.name for v in tf.global_variables()], loss.name, [v.name for v in tf.trainable_variables()])


@program
def lstm_by_hand(tf, log):
    n_input, n_hidden, steps = 3, 4, 5
    x = tf.placeholder("float", [None, steps, n_input]); y = tf.placeholder("float", [None, 2])
    def lstm_cell(x_t, h, c):
        with tf.variable_scope("lstm", reuse=tf.AUTO_REUSE):
            kernel = tf.get_variable("kernel", [n_input + n_hidden, 4 * n_hidden], initializer=tf.constant_initializer(wave(n_input + n_hidden, 4 * n_hidden, scale=.5)))
            bias = tf.get_variable("bias", [4 * n_hidden], initializer=tf.zeros_initializer())
        gates = tf.nn.bias_add(tf.matmul(tf.concat([x_t, h], 1), kernel), bias)
        i, j, f, o = tf.split(value=gates, num_or_size_splits=4, axis=1)
        c = c * tf.sigmoid(f + 1.0) + tf.sigmoid(i) * tf.tanh(j)
        return tf.tanh(c) * tf.sigmoid(o), c
    xs = tf.unstack(x, steps, 1)
    h = c = tf.zeros([tf.shape(x)[0], n_hidden])
    outputs = []
    for x_t in xs:
        h, c = lstm_cell(x_t, h, c); outputs.append(h)
    out_w = tf.Variable(wave(n_hidden, 2)); out_b = tf.Variable(wave(2))
    logits = tf.matmul(outputs[-1], out_w) + out_b
    cost = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(logits=logits, labels=y))
    tvars = tf.trainable_variables()
    grads, norm = tf.clip_by_global_norm(tf.gradients(cost, tvars), 0.05)
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    train_op = optimizer.apply_gradients(zip(grads, tvars), global_step=tf.train.get_or_create_global_step())
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(5):
            _, l, n = sess.run([train_op, cost, norm], {x: wave(6, steps, n_input), y: onehot(6, 2)}); log(l, n)
        log(sess.run(tvars), tf.stack(outputs, axis=1).eval({x: wave(2, steps, n_input)}), [v.name for v in tvars])


@program
def gru_scan_by_python(tf, log):
    x = tf.placeholder(tf.float32, [4, 2, 3])
    U = tf.get_variable("U", initializer=wave(3, 3, 4)); W = tf.get_variable("W", initializer=wave(3, 4, 4, phase=1))
    h = tf.zeros([2, 4])
    for t in range(4):
        z = tf.sigmoid(tf.matmul(x[t], U[0]) + tf.matmul(h, W[0])); r = tf.sigmoid(tf.matmul(x[t], U[1]) + tf.matmul(h, W[1]))
        hh = tf.tanh(tf.matmul(x[t], U[2]) + tf.matmul(h * r, W[2]))
        h = (1 - z) * hh + z * h
    loss = tf.reduce_mean(tf.square(h[:, -1] - [0.5, -0.5])) + 0.001 * tf.nn.l2_loss(U[:, :, ::2])
    opt = tf.train.AdadeltaOptimizer(1.0, rho=.9, epsilon=1e-4)
    gv = opt.compute_gradients(loss)
    capped = [(tf.clip_by_value(g, -.1, .1), v) for g, v in gv]
    train = opt.apply_gradients(capped)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(5): log(*sess.run([loss, train], {x: wave(4, 2, 3)})[:1])
        log(sess.run([U, W]), sess.run([opt.get_slot(U, n) for n in opt.get_slot_names()]), [g.name for g, _ in gv])


@program
def batch_norm_update_ops(tf, log):
    x = tf.placeholder(tf.float32, [None, 5]); y = tf.placeholder(tf.float32, [None, 1]); training = tf.placeholder_with_default(False, shape=(), name='training')
    k = tf.constant_initializer
    hidden1 = tf.layers.dense(x, 6, name="hidden1", kernel_initializer=k(wave(5, 6)))
    bn1 = tf.layers.batch_normalization(hidden1, training=training, momentum=0.9)
    bn1_act = tf.nn.elu(bn1)
    hidden2 = tf.layers.dense(bn1_act, 4, name="hidden2", kernel_initializer=k(wave(6, 4)))
    bn2 = tf.layers.batch_normalization(hidden2, training=training, momentum=0.9, renorm=False, scale=False)
    out = tf.layers.dense(tf.nn.elu(bn2), 1, name="outputs", kernel_initializer=k(wave(4, 1)))
    loss = tf.losses.mean_squared_error(y, out)
    extra_update_ops = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    with tf.control_dependencies(extra_update_ops):
        train = tf.train.MomentumOptimizer(.05, .9).minimize(loss)
    log(len(extra_update_ops), [v.name for v in tf.trainable_variables()], [v.name for v in tf.global_variables() if "moving" in v.name])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(5):
            _, l = sess.run([train, loss], {x: wave(8, 5, phase=i), y: wave(8, 1), training: True})
            log(l, sess.run(loss, {x: wave(8, 5), y: wave(8, 1)}))
        log(sess.run(tf.global_variables()))


@program
def batch_norm_by_hand(tf, log):
    # r2rt: batch norm wrapper with tf.nn.moments
    epsilon = 1e-3
    def batch_norm_wrapper(inputs, is_training, decay=0.9):
        scale = tf.Variable(tf.ones([inputs.get_shape()[-1]])); beta = tf.Variable(tf.zeros([inputs.get_shape()[-1]]))
        pop_mean = tf.Variable(tf.zeros([inputs.get_shape()[-1]]), trainable=False); pop_var = tf.Variable(tf.ones([inputs.get_shape()[-1]]), trainable=False)
        if is_training:
            batch_mean, batch_var = tf.nn.moments(inputs, [0])
            train_mean = tf.assign(pop_mean, pop_mean * decay + batch_mean * (1 - decay))
            train_var = tf.assign(pop_var, pop_var * decay + batch_var * (1 - decay))
            with tf.control_dependencies([train_mean, train_var]):
                return tf.nn.batch_normalization(inputs, batch_mean, batch_var, beta, scale, epsilon)
        return tf.nn.batch_normalization(inputs, pop_mean, pop_var, beta, scale, epsilon)
    x = tf.placeholder(tf.float32, [None, 4]); y_ = tf.placeholder(tf.float32, [None, 3])
    w1 = tf.Variable(wave(4, 5)); z1 = tf.matmul(x, w1)
    l1 = tf.nn.sigmoid(batch_norm_wrapper(z1, True))
    w2 = tf.Variable(wave(5, 3)); b2 = tf.Variable(tf.zeros([3]))
    y = tf.nn.softmax(tf.matmul(l1, w2) + b2)
    cross_entropy = -tf.reduce_sum(y_ * tf.log(tf.clip_by_value(y, 1e-10, 1.0)))
    train_step = tf.train.GradientDescentOptimizer(0.05).minimize(cross_entropy)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(5): log(sess.run([cross_entropy, train_step], {x: wave(6, 4, phase=i), y_: onehot(6, 3)})[0])
        log(sess.run(tf.global_variables()), [v.name for v in tf.global_variables()])
