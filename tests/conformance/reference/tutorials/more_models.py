"""More programs as tutorials and repositories have them, from residual blocks to optimizers of one's own.

Each is a function of ``tf`` and of what notes the values that are compared: see ``tutorials/__init__.py``.
"""

import numpy as np

from tests.conformance.reference.tutorials.values import onehot, program, wave
K = lambda tf, *s, **k: tf.constant_initializer(wave(*s, **k))


@program
def dcgan(tf, log):
    def g(z, train):
        with tf.variable_scope("generator"):
            h = tf.reshape(tf.layers.dense(z, 2 * 2 * 4, use_bias=False, kernel_initializer=K(tf, 3, 16)), [-1, 2, 2, 4])
            h = tf.nn.relu(tf.layers.batch_normalization(h, training=train))
            h = tf.layers.conv2d_transpose(h, 3, 3, strides=2, padding="same", use_bias=False, kernel_initializer=K(tf, 3, 3, 3, 4))
            h = tf.nn.relu(tf.layers.batch_normalization(h, training=train, momentum=.8))
            return tf.tanh(tf.layers.conv2d_transpose(h, 1, (5, 5), (2, 2), "SAME", kernel_initializer=K(tf, 5, 5, 1, 3)))
    def d(x, reuse):
        with tf.variable_scope("discriminator", reuse=reuse):
            h = tf.nn.leaky_relu(tf.layers.conv2d(x, 3, 5, 2, "same", kernel_initializer=K(tf, 5, 5, 1, 3)), .2)
            h = tf.layers.flatten(h)
            return tf.layers.dense(h, 1, kernel_initializer=K(tf, 48, 1))
    z = tf.placeholder(tf.float32, [None, 3]); x = tf.placeholder(tf.float32, [None, 8, 8, 1]); train = tf.placeholder(tf.bool)
    fake = g(z, train); r, f = d(x, None), d(fake, True)
    ce = tf.nn.sigmoid_cross_entropy_with_logits
    dl = tf.reduce_mean(ce(logits=r, labels=tf.ones_like(r) * .9)) + tf.reduce_mean(ce(logits=f, labels=tf.zeros_like(f))); gl = tf.reduce_mean(ce(logits=f, labels=tf.ones_like(f)))
    gu = tf.get_collection(tf.GraphKeys.UPDATE_OPS, scope="generator"); du = tf.get_collection(tf.GraphKeys.UPDATE_OPS, scope="discriminator")
    log(len(gu), len(du), fake.shape.as_list())
    with tf.control_dependencies(gu): gt = tf.train.AdamOptimizer(2e-2, .5).minimize(gl, var_list=tf.trainable_variables("generator"))
    with tf.control_dependencies(du): dt = tf.train.AdamOptimizer(2e-2, .5).minimize(dl, var_list=tf.trainable_variables("discriminator"))
    feed = {z: wave(4, 3), x: wave(4, 8, 8, 1), train: True}
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(3): log(*s.run([dl, gl], feed)); s.run(dt, feed); s.run(gt, feed)
        log(s.run(fake, {z: wave(2, 3), train: False})); log(s.run([v for v in tf.global_variables() if "moving" in v.name]))
    log([v.name for v in tf.global_variables()])


@program
def resnet_block(tf, log):
    def bn(x, train): return tf.layers.batch_normalization(inputs=x, axis=3, momentum=.9, epsilon=1e-5, center=True, scale=True, training=train, fused=True)
    def conv(x, f, k, s):
        if s > 1:
            p = k - 1; x = tf.pad(x, [[0, 0], [p // 2, p - p // 2], [p // 2, p - p // 2], [0, 0]])
        return tf.layers.conv2d(inputs=x, filters=f, kernel_size=k, strides=s, padding=("SAME" if s == 1 else "VALID"), use_bias=False, kernel_initializer=tf.constant_initializer(wave(k, k, x.shape[-1].value, f, scale=.4)))
    x = tf.placeholder(tf.float32, [2, 6, 6, 3]); y = tf.placeholder(tf.int32, [2]); train = True
    h = tf.identity(conv(x, 4, 3, 1), "initial_conv")
    for i, s in enumerate((1, 2)):
        with tf.variable_scope("block%d" % i):
            short = h
            pre = tf.nn.relu(bn(h, train))
            if s == 2: short = conv(pre, 4, 1, s)
            h = conv(pre, 4, 3, s); h = conv(tf.nn.relu(bn(h, train)), 4, 3, 1) + short
    h = tf.reduce_mean(tf.nn.relu(h), [1, 2], keepdims=True); h = tf.squeeze(h, [1, 2])
    logits = tf.layers.dense(h, 3, kernel_initializer=K(tf, 4, 3))
    ce = tf.losses.sparse_softmax_cross_entropy(logits=logits, labels=y)
    l2 = 1e-3 * tf.add_n([tf.nn.l2_loss(tf.cast(v, tf.float32)) for v in tf.trainable_variables() if "batch_normalization" not in v.name])
    loss = ce + l2; gs = tf.train.get_or_create_global_step()
    lr = tf.train.piecewise_constant(gs, [2, 4], [.1, .05, .01])
    opt = tf.train.MomentumOptimizer(learning_rate=lr, momentum=.9)
    gv = opt.compute_gradients(loss * 128); gv = [(g / 128, v) for g, v in gv]
    op = tf.group(opt.apply_gradients(gv, global_step=gs), tf.get_collection(tf.GraphKeys.UPDATE_OPS))
    F = {x: wave(2, 6, 6, 3), y: [0, 2]}
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(*s.run([ce, l2, lr], F)); s.run(op, F)
        log(s.run(tf.trainable_variables()))
    log([v.name for v in tf.global_variables()])


@program
def vae(tf, log):
    X = tf.placeholder(tf.float32, [None, 6]); eps = tf.placeholder(tf.float32, [None, 2])
    with tf.name_scope("encoder"):
        h = tf.nn.softplus(tf.layers.dense(X, 5, kernel_initializer=K(tf, 6, 5))); mu = tf.layers.dense(h, 2, kernel_initializer=K(tf, 5, 2)); lv = tf.layers.dense(h, 2, kernel_initializer=K(tf, 5, 2, phase=1))
    z = mu + tf.exp(lv / 2) * eps
    logits = tf.layers.dense(tf.layers.dense(z, 5, tf.nn.relu, kernel_initializer=K(tf, 2, 5)), 6, kernel_initializer=K(tf, 5, 6))
    recon = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(logits=logits, labels=X), 1); kl = .5 * tf.reduce_sum(tf.exp(lv) + mu ** 2 - 1. - lv, 1)
    loss = tf.reduce_mean(recon + kl); t = tf.train.AdamOptimizer().minimize(loss)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        F = {X: np.abs(wave(5, 6)), eps: wave(5, 2)}
        for _ in range(4): log(s.run([loss, recon, kl], F)); s.run(t, F)
        log(s.run(tf.trainable_variables()), [v.name for v in tf.trainable_variables()])


@program
def attention(tf, log):
    x = tf.get_variable("x", initializer=wave(2, 4, 6))
    def norm(t, scope):
        with tf.variable_scope(scope, reuse=tf.AUTO_REUSE):
            p = t.get_shape()[-1:]; beta = tf.get_variable("beta", p, initializer=tf.zeros_initializer()); gamma = tf.get_variable("gamma", p, initializer=tf.ones_initializer())
            m, v = tf.nn.moments(t, [-1], keepdims=True); return gamma * (t - m) / ((v + 1e-8) ** .5) + beta
    def split(t, n): return tf.transpose(tf.reshape(t, [2, 4, n, 6 // n]), [0, 2, 1, 3])
    qkv = [tf.tensordot(x, tf.get_variable(n, initializer=wave(6, 6, phase=i)), 1) for i, n in enumerate("qkv")]
    q, k, v = [split(t, 2) for t in qkv]
    sc = tf.matmul(q, k, transpose_b=True) / tf.sqrt(3.)
    mask = 1. - tf.matrix_band_part(tf.ones([4, 4]), -1, 0)
    w = tf.nn.softmax(sc - 1e9 * mask); o = tf.einsum("bhij,bhjd->bihd", w, v)
    out = norm(tf.reshape(o, [2, 4, 6]) + x, "ln")
    ff = tf.layers.dense(tf.layers.dense(out, 8, lambda t: t * .5 * (1. + tf.erf(t / tf.sqrt(2.))), kernel_initializer=K(tf, 6, 8)), 6, kernel_initializer=K(tf, 8, 6))
    out2 = norm(out + ff, "ln")
    loss = tf.reduce_mean(tf.square(out2 - tf.sin(tf.range(6.))))
    gs = tf.train.get_or_create_global_step(); st = tf.cast(gs + 1, tf.float32)
    lr = 6 ** -.5 * tf.minimum(st * 4. ** -1.5, st ** -.5)
    opt = tf.train.AdamOptimizer(lr, .9, .98, 1e-9); t = opt.minimize(loss, gs)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run([loss, lr, w])); s.run(t)
        log(s.run(tf.trainable_variables()))


@program
def siamese_triplet(tf, log):
    a, p, n = [tf.placeholder(tf.float32, [None, 4], nm) for nm in "apn"]
    with tf.variable_scope("siamese") as scope:
        def net(x):
            w = tf.get_variable("fc1W", dtype=tf.float32, shape=[4, 3], initializer=K(tf, 4, 3)); b = tf.get_variable("fc1b", dtype=tf.float32, initializer=tf.constant(0.01, shape=[3], dtype=tf.float32))
            return tf.nn.l2_normalize(tf.nn.bias_add(tf.matmul(x, w), b), 1)
        oa = net(a); scope.reuse_variables(); op_, on = net(p), net(n)
    dp, dn = tf.reduce_sum(tf.square(oa - op_), 1), tf.reduce_sum(tf.square(oa - on), 1)
    loss = tf.reduce_mean(tf.maximum(dp - dn + .2, 0.)); dist = tf.sqrt(dp + 1e-6, name="distance")
    contr = tf.reduce_mean(tf.where(dp > .5, tf.square(tf.nn.relu(1. - dist)), dp)); sim = tf.matmul(oa, on, transpose_b=True)
    m = tf.boolean_mask(sim, sim > .2); top, idx = tf.nn.top_k(sim, 2)
    total = loss + contr + .1 * tf.reduce_sum(m) + .05 * tf.reduce_sum(top)
    t = tf.train.GradientDescentOptimizer(.2).minimize(total)
    F = {a: wave(4, 4), p: wave(4, 4, phase=.2), n: wave(4, 4, phase=2)}
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(*s.run([total, loss, contr, idx, m], F)); s.run(t, F)
        log(s.run(tf.trainable_variables()), [v.name for v in tf.trainable_variables()])


@program
def nearest_neighbor(tf, log):
    xtr = tf.placeholder("float", [None, 5]); xte = tf.placeholder("float", [5])
    distance = tf.reduce_sum(tf.abs(tf.add(xtr, tf.negative(xte))), reduction_indices=1); pred = tf.arg_min(distance, 0)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        log([sess.run(pred, feed_dict={xtr: wave(9, 5), xte: wave(5, phase=i)}) for i in range(4)])


@program
def kmeans(tf, log):
    pts = tf.Variable(wave(20, 2), trainable=False); c = tf.Variable(wave(3, 2, phase=1)); asg = tf.Variable(tf.zeros([20], dtype=tf.int64))
    d = tf.reduce_sum(tf.square(tf.expand_dims(pts, 1) - tf.expand_dims(c, 0)), axis=2); best = tf.argmin(d, 1)
    changed = tf.reduce_any(tf.not_equal(best, asg))
    total = tf.unsorted_segment_sum(pts, best, 3); count = tf.unsorted_segment_sum(tf.ones_like(pts), best, 3); means = total / (count + 1e-9)
    with tf.control_dependencies([changed, means]): do = tf.group(c.assign(means), asg.assign(best))
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for i in range(8):
            ch, _ = s.run([changed, do]); log(bool(ch), s.run(c))
            if not ch: break


@program
def text_cnn(tf, log):
    # dennybritz cnn-text-classification
    input_x = tf.placeholder(tf.int32, [None, 7], name="input_x"); input_y = tf.placeholder(tf.float32, [None, 2], name="input_y"); keep = tf.placeholder(tf.float32, name="dropout_keep_prob")
    l2_loss = tf.constant(0.0)
    with tf.device('/cpu:0'), tf.name_scope("embedding"):
        W = tf.Variable(wave(11, 4), name="W"); chars = tf.nn.embedding_lookup(W, input_x); expanded = tf.expand_dims(chars, -1)
    pooled = []
    for i, size in enumerate((2, 3)):
        with tf.name_scope("conv-maxpool-%s" % size):
            Wc = tf.Variable(wave(size, 4, 1, 3), name="W"); b = tf.Variable(tf.constant(0.1, shape=[3]), name="b")
            conv = tf.nn.conv2d(expanded, Wc, strides=[1, 1, 1, 1], padding="VALID", name="conv"); h = tf.nn.relu(tf.nn.bias_add(conv, b), name="relu")
            pooled.append(tf.nn.max_pool(h, ksize=[1, 7 - size + 1, 1, 1], strides=[1, 1, 1, 1], padding='VALID', name="pool"))
    h_flat = tf.reshape(tf.concat(pooled, 3), [-1, 6])
    with tf.name_scope("dropout"): h_drop = tf.nn.dropout(h_flat, keep)
    with tf.name_scope("output"):
        Wo = tf.get_variable("W", shape=[6, 2], initializer=K(tf, 6, 2)); b = tf.Variable(tf.constant(0.1, shape=[2]), name="b")
        l2_loss += tf.nn.l2_loss(Wo); l2_loss += tf.nn.l2_loss(b)
        scores = tf.nn.xw_plus_b(h_drop, Wo, b, name="scores"); predictions = tf.argmax(scores, 1, name="predictions")
    with tf.name_scope("loss"): loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits=scores, labels=input_y)) + 0.1 * l2_loss
    with tf.name_scope("accuracy"): accuracy = tf.reduce_mean(tf.cast(tf.equal(predictions, tf.argmax(input_y, 1)), "float"), name="accuracy")
    global_step = tf.Variable(0, name="global_step", trainable=False)
    optimizer = tf.train.AdamOptimizer(1e-2); gv = optimizer.compute_gradients(loss); train_op = optimizer.apply_gradients(gv, global_step=global_step)
    summ = []
    for g, v in gv:
        if g is not None:
            summ.append(tf.summary.histogram("{}/grad/hist".format(v.name), g if not isinstance(g, tf.IndexedSlices) else g)); summ.append(tf.summary.scalar("{}/grad/sparsity".format(v.name), tf.nn.zero_fraction(g)))
    merged = tf.summary.merge(summ)
    F = {input_x: [[1, 2, 3, 4, 5, 6, 7], [3, 3, 3, 10, 0, 0, 0]], input_y: onehot(2, 2), keep: 1.0}
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): l, a, m = s.run([loss, accuracy, merged], F); log(l, a); s.run(train_op, F)
        p = tf.Summary(); p.ParseFromString(m); log([v.tag for v in p.value], [v.simple_value for v in p.value])
        log(s.run(tf.trainable_variables()), s.run(global_step), [v.name for v in tf.global_variables()])
    log([t.name for t in summ])


@program
def ddpg(tf, log):
    s_ = tf.placeholder(tf.float32, [None, 3])
    def actor(x, name):
        with tf.variable_scope(name): return tf.layers.dense(tf.layers.dense(x, 4, tf.nn.relu, kernel_initializer=K(tf, 3, 4)), 2, tf.tanh, kernel_initializer=K(tf, 4, 2))
    a = actor(s_, "actor"); at = actor(s_, "actor_target"); ain = tf.placeholder(tf.float32, [None, 2])
    with tf.variable_scope("critic"):
        w1s = tf.get_variable('w1_s', [3, 4], initializer=K(tf, 3, 4)); w1a = tf.get_variable('w1_a', [2, 4], initializer=K(tf, 2, 4)); b1 = tf.get_variable('b1', [1, 4], initializer=tf.zeros_initializer())
        q = tf.layers.dense(tf.nn.relu(tf.matmul(s_, w1s) + tf.matmul(ain, w1a) + b1), 1, kernel_initializer=K(tf, 4, 1))
    qg = tf.gradients(q, ain)[0]; ag = tf.placeholder(tf.float32, [None, 2])
    av = tf.trainable_variables("actor/"); tv = tf.trainable_variables("actor_target"); cv = tf.trainable_variables("critic")
    pg = tf.gradients(ys=a, xs=av, grad_ys=-ag); pg = [tf.div(g, 5.) for g in pg]
    at_op = tf.train.AdamOptimizer(1e-2).apply_gradients(zip(pg, av)); closs = tf.losses.mean_squared_error(tf.ones_like(q), q); ct = tf.train.AdamOptimizer(1e-2).minimize(closs, var_list=cv)
    soft = [t.assign(.9 * t + .1 * e) for t, e in zip(tv, av)]; copy = [tf.assign(t, e) for t, e in zip(tv, av)]
    S = wave(5, 3)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); s.run(copy)
        for _ in range(4):
            act = s.run(a, {s_: S}); g = s.run(qg, {s_: S, ain: act}); s.run(at_op, {s_: S, ag: g}); s.run(ct, {s_: S, ain: act}); s.run(soft); log(act, g, s.run(closs, {s_: S, ain: act}))
        log(s.run(av), s.run(tv), s.run(cv))


@program
def ppo_clip(tf, log):
    s_ = tf.placeholder(tf.float32, [None, 3]); act = tf.placeholder(tf.float32, [None, 1]); adv = tf.placeholder(tf.float32, [None, 1])
    def pi(name, trainable):
        with tf.variable_scope(name):
            l = tf.layers.dense(s_, 4, tf.nn.relu6, trainable=trainable, kernel_initializer=K(tf, 3, 4)); mu = 2 * tf.layers.dense(l, 1, tf.nn.tanh, trainable=trainable, kernel_initializer=K(tf, 4, 1)); sd = tf.layers.dense(l, 1, tf.nn.softplus, trainable=trainable, kernel_initializer=K(tf, 4, 1, phase=1))
        return mu, sd + .1, tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope=name)
    def logp(mu, sd): return -tf.log(sd) - .5 * tf.log(2 * np.pi) - tf.square(act - mu) / (2 * sd ** 2)
    m, sd, pv = pi("pi", True); om, osd, ov = pi("oldpi", False)
    upd = [o.assign(p) for p, o in zip(pv, ov)]
    ratio = tf.exp(logp(m, sd) - logp(om, osd)); surr = ratio * adv
    loss = -tf.reduce_mean(tf.minimum(surr, tf.clip_by_value(ratio, .8, 1.2) * adv)); kl = tf.reduce_mean(logp(om, osd) - logp(m, sd))
    t = tf.train.AdamOptimizer(.02).minimize(loss)
    F = {s_: wave(6, 3), act: wave(6, 1), adv: wave(6, 1, phase=1)}
    log([v.name for v in tf.trainable_variables()])
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(3):
            s.run(upd)
            for _ in range(3): log(*s.run([loss, kl], F)); s.run(t, F)
        log(s.run(pv))


@program
def a3c(tf, log):
    OPT_A = tf.train.RMSPropOptimizer(.01, name='RMSPropA')
    s_ = tf.placeholder(tf.float32, [None, 3])
    def net(scope):
        with tf.variable_scope(scope):
            with tf.variable_scope("actor"): p = tf.layers.dense(s_, 2, tf.nn.softmax, kernel_initializer=K(tf, 3, 2), name="ap")
        return p, tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, scope=scope + '/actor')
    _, gv = net("Global_Net")
    workers = []
    for i in range(2):
        p, lv = net("W_%i" % i)
        with tf.name_scope("W_%i" % i):
            with tf.name_scope('local_grad'): g = tf.gradients(-tf.reduce_mean(tf.log(p[:, 0])), lv)
            with tf.name_scope('sync'):
                with tf.name_scope('pull'): pull = [l.assign(gp) for l, gp in zip(lv, gv)]
                with tf.name_scope('push'): push = OPT_A.apply_gradients(zip(g, gv))
        workers.append((pull, push, p))
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for i in range(4):
            pull, push, p = workers[i % 2]; s.run(push, {s_: wave(4, 3, phase=i)}); s.run(pull); log(s.run(p, {s_: wave(4, 3)}))
        log(s.run(gv), [v.name for v in tf.global_variables()], workers[0][1].name, workers[1][1].name)


@program
def custom_gradient(tf, log):
    @tf.custom_gradient
    def log1pexp(x):
        e = tf.exp(x)
        def grad(dy): return dy * (1 - 1 / (1 + e))
        return tf.log(1 + e), grad
    @tf.custom_gradient
    def clip_grad(x):
        def grad(dy): return tf.clip_by_value(dy, -.1, .1)
        return tf.identity(x), grad
    x = tf.Variable([0., 1., 5.]); y = log1pexp(x); z = tf.reduce_sum(clip_grad(y) * [1., .05, 3.])
    g = tf.gradients(z, x)[0]; t = tf.train.GradientDescentOptimizer(1.).minimize(z)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); log(s.run([y, z, g])); s.run(t); log(s.run(x))


@program
def py_func_and_template(tf, log):
    def np_fn(a, b): return (a * b + 1).astype(np.float32)
    x = tf.placeholder(tf.float32, [None, 2])
    def model(x, scale): return tf.matmul(x, tf.get_variable("w", initializer=wave(2, 3))) * scale
    net = tf.make_template("net", model, scale=2.)
    y = net(x) + net(x * .5); f = tf.py_func(np_fn, [x, 2 * x], tf.float32); f.set_shape([None, 2])
    nf = tf.numpy_function(lambda a: a.sum(0), [x], tf.float32)
    loss = tf.reduce_mean((y[:, :2] - f) ** 2); t = tf.train.GradientDescentOptimizer(.01).minimize(loss)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(3): log(*s.run([loss, nf], {x: wave(4, 2)})); s.run(t, {x: wave(4, 2)})
        log(s.run(tf.trainable_variables()), [v.name for v in tf.trainable_variables()])


@program
def ptb_lr_update(tf, log):
    vocab, size, steps = 9, 3, 3
    inp, tgt = tf.placeholder(tf.int32, [2, steps]), tf.placeholder(tf.int32, [2, steps])
    with tf.variable_scope("Model", initializer=tf.constant_initializer(.1)):
        with tf.device("/cpu:0"): emb = tf.get_variable("embedding", initializer=wave(vocab, size)); inputs = tf.nn.embedding_lookup(emb, inp)
        states = [[tf.zeros([2, size]), tf.zeros([2, size])] for _ in range(2)]; outs = []
        with tf.variable_scope("RNN"):
            for t in range(steps):
                if t > 0: tf.get_variable_scope().reuse_variables()
                h = inputs[:, t, :]
                for l in range(2):
                    with tf.variable_scope("cell_%d" % l):
                        k = tf.get_variable("kernel", [2 * size, 4 * size], initializer=K(tf, 2 * size, 4 * size)); b = tf.get_variable("bias", [4 * size])
                        i, j, f, o = tf.split(tf.matmul(tf.concat([h, states[l][1]], 1), k) + b, 4, 1)
                        c = states[l][0] * tf.sigmoid(f) + tf.sigmoid(i) * tf.tanh(j); h = tf.tanh(c) * tf.sigmoid(o); states[l] = [c, h]
                outs.append(h)
        output = tf.reshape(tf.concat(outs, 1), [-1, size]); sw = tf.get_variable("softmax_w", [size, vocab]); sb = tf.get_variable("softmax_b", [vocab])
        logits = tf.matmul(output, sw) + sb
        cost = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.reshape(tgt, [-1]), logits=logits)) / 2
        lr = tf.Variable(0.0, trainable=False); tvars = tf.trainable_variables(); grads, _ = tf.clip_by_global_norm(tf.gradients(cost, tvars), .5)
        opt = tf.train.GradientDescentOptimizer(lr); train = opt.apply_gradients(zip(grads, tvars), global_step=tf.train.get_or_create_global_step())
        new_lr = tf.placeholder(tf.float32, shape=[], name="new_learning_rate"); upd = tf.assign(lr, new_lr)
    F = {inp: [[1, 2, 3], [4, 5, 8]], tgt: [[2, 3, 1], [5, 8, 0]]}
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for i in range(4): s.run(upd, {new_lr: 1. / (i + 1)}); log(s.run(cost, F)); s.run(train, F)
        log(s.run(tvars), [v.name for v in tvars], np.exp(s.run(cost, F) / 3))


@program
def own_optimizer(tf, log):
    class PowerSign(tf.train.Optimizer):
        def __init__(self, learning_rate=0.001, alpha=0.01, beta=0.5, use_locking=False, name="PowerSign"):
            super(PowerSign, self).__init__(use_locking, name); self._lr, self._alpha, self._beta = learning_rate, alpha, beta
            self._lr_t = self._alpha_t = self._beta_t = None
        def _prepare(self):
            self._lr_t = tf.convert_to_tensor(self._lr, name="learning_rate"); self._alpha_t = tf.convert_to_tensor(self._beta, name="alpha_t"); self._beta_t = tf.convert_to_tensor(self._beta, name="beta_t")
        def _create_slots(self, var_list):
            for v in var_list: self._zeros_slot(v, "m", self._name)
        def _apply_dense(self, grad, var):
            lr_t = tf.cast(self._lr_t, var.dtype.base_dtype); alpha_t = tf.cast(self._alpha_t, var.dtype.base_dtype); beta_t = tf.cast(self._beta_t, var.dtype.base_dtype)
            eps = 1e-7; m = self.get_slot(var, "m"); m_t = m.assign(tf.maximum(beta_t * m + eps, tf.abs(grad)))
            var_update = tf.assign_sub(var, lr_t * grad * tf.exp(tf.log(alpha_t) * tf.sign(grad) * tf.sign(m_t)))
            return tf.group(*[var_update, m_t])
        def _apply_sparse(self, grad, var): return self._apply_dense(tf.convert_to_tensor(grad), var) if False else tf.scatter_sub(var, grad.indices, .1 * grad.values)
        def _resource_apply_dense(self, grad, var): return self._apply_dense(grad, var)
        def _resource_apply_sparse(self, grad, var, indices): return self._apply_sparse(tf.IndexedSlices(grad, indices), var)
    w = tf.get_variable("w", initializer=wave(3, 2)); e = tf.get_variable("e", initializer=wave(4, 2)); gs = tf.train.get_or_create_global_step()
    loss = tf.reduce_sum(tf.square(w - 1.)) + tf.reduce_sum(tf.square(tf.gather(e, [1, 1, 3])))
    opt = PowerSign(.1); t = opt.minimize(loss, global_step=gs)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run(loss)); s.run(t)
        log(s.run([w, e, opt.get_slot(w, "m"), gs]), [v.name for v in opt.variables()], t.name)


@program
def gradient_accumulation(tf, log):
    x = tf.placeholder(tf.float32, [None, 3]); w = tf.get_variable("w", initializer=wave(3, 2)); b = tf.get_variable("b", initializer=tf.zeros([2]))
    loss = tf.reduce_mean(tf.square(tf.matmul(x, w) + b - 1.)); opt = tf.train.AdamOptimizer(.1); tvs = tf.trainable_variables()
    accum_vars = [tf.Variable(tf.zeros_like(tv.initial_value), trainable=False) for tv in tvs]; zero_ops = [tv.assign(tf.zeros_like(tv)) for tv in accum_vars]
    gvs = opt.compute_gradients(loss, tvs); accum_ops = [accum_vars[i].assign_add(gv[0]) for i, gv in enumerate(gvs)]
    train_step = opt.apply_gradients([(accum_vars[i], gv[1]) for i, gv in enumerate(gvs)])
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for i in range(3):
            s.run(zero_ops)
            for j in range(2): s.run(accum_ops, {x: wave(4, 3, phase=i + j)})
            s.run(train_step); log(s.run([w, b] + accum_vars))
    log([v.name for v in tf.global_variables()])


@program
def multi_tower(tf, log):
    images = tf.placeholder(tf.float32, [4, 5]); labels = tf.placeholder(tf.int32, [4])
    opt = tf.train.GradientDescentOptimizer(.1); global_step = tf.get_variable('global_step', [], initializer=tf.constant_initializer(0), trainable=False)
    def _variable_with_weight_decay(name, shape, wd):
        var = tf.get_variable(name, shape, initializer=K(tf, *shape))
        if wd is not None: tf.add_to_collection('losses', tf.multiply(tf.nn.l2_loss(var), wd, name='weight_loss'))
        return var
    def tower_loss(scope, im, la):
        with tf.variable_scope('softmax_linear') as sc: logits = tf.add(tf.matmul(im, _variable_with_weight_decay('weights', [5, 3], .01)), tf.get_variable('biases', [3], initializer=tf.zeros_initializer()), name=sc.name)
        tf.add_to_collection('losses', tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=la, logits=logits), name='cross_entropy'))
        return tf.add_n(tf.get_collection('losses', scope), name='total_loss')
    tower_grads = []
    with tf.variable_scope(tf.get_variable_scope()):
        for i in range(2):
            with tf.device('/cpu:%d' % 0):
                with tf.name_scope('%s_%d' % ('tower', i)) as scope:
                    loss = tower_loss(scope, tf.split(images, 2)[i], labels[i * 2:i * 2 + 2]); tf.get_variable_scope().reuse_variables(); tower_grads.append(opt.compute_gradients(loss))
    average_grads = []
    for grad_and_vars in zip(*tower_grads):
        grad = tf.reduce_mean(tf.concat(axis=0, values=[tf.expand_dims(g, 0) for g, _ in grad_and_vars]), 0); average_grads.append((grad, grad_and_vars[0][1]))
    apply_gradient_op = opt.apply_gradients(average_grads, global_step=global_step)
    ema = tf.train.ExponentialMovingAverage(.5, global_step); train_op = tf.group(apply_gradient_op, ema.apply(tf.trainable_variables()) if False else tf.no_op())
    F = {images: wave(4, 5), labels: [0, 1, 2, 0]}
    with tf.Session(config=tf.ConfigProto(allow_soft_placement=True, log_device_placement=False)) as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run(loss, F)); s.run(train_op, F)
        log(s.run(tf.global_variables()), [v.name for v in tf.global_variables()], [l.name for l in tf.get_collection('losses')])


@program
def layer_objects(tf, log):
    dense = tf.layers.Dense(4, activation=tf.nn.relu, kernel_initializer=K(tf, 3, 4), kernel_regularizer=lambda w: .1 * tf.nn.l2_loss(w), name="d"); bn = tf.layers.BatchNormalization(momentum=.5)
    x = tf.placeholder(tf.float32, [None, 3]); y = bn(dense(x), training=True); y2 = dense(x + 1.)
    class Scale(tf.layers.Layer):
        def build(self, shape): self.s = self.add_variable("s", [int(shape[-1])], initializer=tf.ones_initializer()); self.built = True
        def call(self, t): return t * self.s
    z = Scale(name="scale")(y2); conv = tf.layers.Conv2D(2, 2, kernel_initializer=K(tf, 2, 2, 1, 2)); c = conv(tf.reshape(x, [-1, 3, 1, 1]) if False else tf.pad(tf.reshape(x, [-1, 1, 3, 1]), [[0, 0], [0, 1], [0, 0], [0, 0]]))
    loss = tf.reduce_mean(y ** 2) + tf.reduce_sum(z) * .1 + tf.add_n(dense.losses) + tf.reduce_mean(c)
    with tf.control_dependencies(bn.updates): t = tf.train.GradientDescentOptimizer(.1).minimize(loss)
    log(dense.kernel.name, [v.name for v in dense.trainable_weights], [v.name for v in bn.weights], dense.name, [v.name for v in bn.non_trainable_variables], dense.units)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(3): log(s.run(loss, {x: wave(4, 3)})); s.run(t, {x: wave(4, 3)})
        log(s.run(tf.global_variables()), [v.name for v in tf.global_variables()])


@program
def odd_losses(tf, log):
    w = tf.get_variable("w", initializer=wave(5, 4)); lab = tf.constant([0, 1, 2, 3, 1]); one = tf.one_hot(lab, 4)
    p = tf.nn.softmax(w); pt = tf.reduce_sum(p * one, -1)
    focal = -tf.reduce_mean((1 - pt) ** 2. * tf.log(tf.clip_by_value(pt, 1e-8, 1.)))
    e = one - w; q = tf.reduce_mean(tf.maximum(.9 * e, (.9 - 1) * e)); smooth = tf.reduce_mean(tf.where(tf.less(tf.abs(e), .5), .5 * e ** 2, .5 * (tf.abs(e) - .25)))
    dice = 1 - 2 * tf.reduce_sum(p * one) / (tf.reduce_sum(p) + tf.reduce_sum(one) + 1e-5); kl = tf.reduce_sum(p * (tf.log_softmax(w) if hasattr(tf, "log_softmax") else tf.nn.log_softmax(w)))
    logcosh = tf.reduce_mean(tf.log(tf.cosh(e))); pois = tf.reduce_mean(tf.nn.log_poisson_loss(tf.abs(one), w)); tv = tf.reduce_sum(tf.abs(w[1:] - w[:-1])) + tf.reduce_sum(tf.squared_difference(w[:, ::2], w[:, 1::2]))
    gram = tf.matmul(w, w, transpose_a=True); style = tf.reduce_mean(gram ** 2) + tf.trace(gram) * .1 + tf.log(tf.matrix_determinant(gram + tf.eye(4)))
    centers = tf.get_variable("centers", initializer=wave(4, 4, phase=1), trainable=False); cb = tf.gather(centers, lab); diff = cb - w
    _, idx, cnt = tf.unique_with_counts(lab); times = tf.reshape(tf.gather(cnt, idx), [-1, 1]); upd = tf.scatter_sub(centers, lab, .5 * diff / tf.cast(1 + times, tf.float32)); center = tf.nn.l2_loss(w - cb)
    total = focal + q + smooth + dice + kl + logcosh + pois + .1 * tv + .01 * style + center
    t = tf.train.FtrlOptimizer(.1, learning_rate_power=-.3, l1_regularization_strength=.001).minimize(total)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run([focal, q, smooth, dice, kl, logcosh, pois, tv, style, center, total])); s.run(t); s.run(upd)
        log(s.run([w, centers]))


@program
def array_ops_gradients(tf, log):
    v = tf.get_variable("v", initializer=wave(3, 4)); i = tf.placeholder(tf.int32, [None])
    parts = [tf.tile(v, [2, 1]), tf.reverse(v, [1]), tf.reshape(v, [4, 3]), tf.pad(v, [[1, 0], [0, 2]], constant_values=2.), tf.transpose(v), tf.expand_dims(v, 0), tf.concat([v, v * 2], 1), tf.stack([v, v]), tf.gather(v, i, axis=1), tf.gather_nd(v, [[0, 1], [2, 3]]),
             tf.scatter_nd([[1], [1], [4]], v, [5, 4]), tf.unsorted_segment_max(v, [0, 0, 1], 2), tf.segment_sum(v, [0, 0, 1]), tf.dynamic_partition(v, [0, 1, 0], 2)[0], tf.cumsum(v, 1, exclusive=True), tf.cumprod(v, 0), tf.where(v > 0, v, v ** 2), tf.slice(v, [0, 1], [2, 2]), v[..., tf.newaxis, 1:3], tf.split(v, [1, 3], 1)[1],
             tf.matrix_diag(v), tf.diag_part(v[:, :3]), tf.space_to_depth(tf.reshape(v, [1, 2, 6, 1]), 2) if False else v, tf.reduce_max(v, 1), tf.reduce_min(v, 0, keepdims=True), tf.norm(v, axis=1), tf.sort(v, 1), tf.clip_by_value(v, -.5, .5), tf.floormod(v, .3), tf.atan2(v, v + 2.), tf.minimum(v, tf.reverse(v, [0])), tf.roll(v, 1, 0), tf.broadcast_to(v, [2, 3, 4]), tf.repeat(v, 2, 1), tf.boolean_mask(v, [True, False, True]), tf.sigmoid(v) * tf.tanh(v) + tf.erf(v) + tf.square(v) + tf.expm1(v) + tf.log1p(v + 2.) + tf.rsqrt(v + 2.) + tf.asinh(v) + tf.nn.softsign(v) + tf.nn.swish(v)]
    loss = tf.add_n([tf.reduce_sum(tf.sin(p * (1. + k / 10.))) for k, p in enumerate(parts)]); gs = [tf.gradients(tf.reduce_sum(tf.sin(p * 1.3)), v)[0] for p in parts]
    t = tf.train.RMSPropOptimizer(.01, centered=True, momentum=.3).minimize(loss)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); F = {i: [0, 3, 3]}
        log(s.run([g if not isinstance(g, tf.IndexedSlices) else tf.convert_to_tensor(g) for g in gs], F)); log(s.run(parts, F))
        for _ in range(3): log(s.run(loss, F)); s.run(t, F)
        log(s.run(v))


@program
def monitored_more(tf, log):
    seen = []
    tf.logging.set_verbosity(tf.logging.FATAL)
    x = tf.placeholder(tf.float32, [2], name="x"); w = tf.get_variable("w", initializer=[1., 2.]); loss = tf.reduce_sum((w - x) ** 2, name="loss"); gs = tf.train.create_global_step(); t = tf.train.GradientDescentOptimizer(.1).minimize(loss, global_step=gs)
    p = tf.placeholder(tf.float32, [2]); own = tf.Variable(p, name="own", trainable=False, validate_shape=True)
    sc = tf.train.Scaffold(init_feed_dict={p: [5., 6.]}, init_fn=lambda scaffold, session: seen.append(float(session.run(own)[0])))
    lg = tf.train.LoggingTensorHook({"l": loss}, every_n_iter=2, at_end=False, formatter=lambda d: seen.append(sorted(d)) or "x"); ct = tf.train.StepCounterHook(every_n_steps=100)
    with tf.train.MonitoredTrainingSession(master="", is_chief=True, scaffold=sc, hooks=[tf.train.FeedFnHook(lambda: {x: [3., 3.]}), tf.train.StopAtStepHook(num_steps=3), lg, ct], log_step_count_steps=None, config=tf.ConfigProto(intra_op_parallelism_threads=1)) as s:
        log(s.run(own), s.graph is tf.get_default_graph(), s.run_step_fn(lambda step_context: step_context.session.run(w)))
        while not s.should_stop(): seen.append(float(s.run([loss, t])[0]))
    log(seen); 
    try:
        with tf.train.MonitoredTrainingSession() as s: s.run(loss)
    except Exception as e: log(type(e).__name__)
    try: tf.constant(1.)
    except RuntimeError as e: log("finalized")


@program
def session_errors(tf, log):
    def t(f):
        try: r = f(); return "ok"
        except Exception as e: return type(e).__name__
    x = tf.placeholder(tf.float32, [None, 2], name="x"); w = tf.get_variable("w", initializer=wave(2, 3)); loss = tf.reduce_sum(tf.matmul(x, w)); u = tf.get_variable("u", [2]); i = tf.get_variable("i", initializer=3)
    opt = tf.train.AdamOptimizer(.1); tr = opt.minimize(loss)
    log(t(lambda: opt.minimize(tf.reduce_sum(tf.cast(i, tf.float32)), var_list=[i])), t(lambda: opt.minimize(tf.constant(1.), var_list=[w])), t(lambda: opt.compute_gradients(loss, var_list=[tf.constant(1.)])), t(lambda: opt.apply_gradients([(None, w)])))
    log(t(lambda: tf.gradients(loss, [3.])), t(lambda: tf.gradients(loss, w, grad_ys=[1., 2.])), t(lambda: tf.gradients(loss, w, grad_ys=tf.constant(1))), t(lambda: tf.gradients(tf.argmax(w, 1), w)), t(lambda: tf.clip_by_global_norm(tf.ones([2]), 1.)), t(lambda: tf.train.exponential_decay(.1, None, 3, .9)), t(lambda: tf.train.MonitoredTrainingSession(hooks=[3])), t(lambda: opt.apply_gradients([(tf.IndexedSlices(tf.ones([1, 3]), tf.constant([0])), w)])))
    with tf.Session() as s:
        log(t(lambda: s.run(tr, {x: wave(1, 2)}))); s.run(tf.global_variables_initializer())
        log(t(lambda: s.run(tr)), t(lambda: s.run(tr, {x: wave(1, 3)})), t(lambda: s.run("loss")), t(lambda: s.run(None)), t(lambda: s.run(tr, {"x:0": wave(1, 2)})), t(lambda: s.run([tr, "nope:0"], {x: wave(1, 2)})), t(lambda: s.run(tr, {x: "a"})))
        log(s.run(w), s.run(opt._get_beta_accumulators()))
    log(t(lambda: s.run(w)))
