"""Programs as repositories of papers have them, about gradients that are changed on their way to an optimizer.

Each is a function of ``tf`` and of what notes the values that are compared: see ``tutorials/__init__.py``.
"""

import numpy as np

from tests.conformance.reference.tutorials.values import program, wave


@program
def sparse_clip_training(tf, log):
    for o in (tf.train.MomentumOptimizer(.1, .9), tf.train.AdagradOptimizer(.1), tf.train.AdamOptimizer(.1), tf.train.RMSPropOptimizer(.1), tf.train.FtrlOptimizer(.1), tf.train.AdadeltaOptimizer(.1)):
        with tf.Graph().as_default():
            e = tf.Variable(wave(5, 2), name="e"); ids = tf.placeholder(tf.int32, [None]); l = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(e, ids) - 1.)); gv = o.compute_gradients(l)
            ts = [o.apply_gradients([(tf.clip_by_norm(g, .5), v) for g, v in gv]), o.apply_gradients([(tf.clip_by_value(g, -.2, .2), v) for g, v in gv]), o.apply_gradients([(tf.scalar_mul(.5, g), v) for g, v in gv]), o.apply_gradients([(g * .5, v) for g, v in gv]) if 0 else tf.no_op()]
            with tf.Session() as s:
                s.run(tf.global_variables_initializer())
                for i in ([0, 1], [1, 1], [4], [2, 0, 2]): s.run(ts[0], {ids: i}); s.run(ts[1], {ids: i}); s.run(ts[2], {ids: i})
                log(type(o).__name__, s.run(tf.global_variables()))


@program
def wide_deep_ftrl_adagrad(tf, log):
    ids = tf.placeholder(tf.int64, [None], name="ids"); vals = tf.placeholder(tf.float32, [None]); inds = tf.placeholder(tf.int64, [None, 2]); shp = tf.placeholder(tf.int64, [2])
    y = tf.placeholder(tf.float32, [None, 1])
    gs = tf.train.get_or_create_global_step()
    with tf.variable_scope("wide"):
        w = tf.get_variable("w", [10, 1], initializer=tf.zeros_initializer()); b = tf.get_variable("b", [1], initializer=tf.zeros_initializer())
    with tf.variable_scope("deep"):
        emb = tf.get_variable("emb", initializer=wave(10, 3))
        h = tf.get_variable("h", initializer=wave(3, 1))
    sp = tf.SparseTensor(inds, ids, shp); spw = tf.SparseTensor(inds, vals, shp)
    wide = tf.nn.embedding_lookup_sparse(w, sp, spw, combiner="sum") + b
    deep = tf.matmul(tf.nn.relu(tf.nn.embedding_lookup_sparse(emb, sp, None, combiner="sqrtn")), h)
    logits = wide + deep
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=logits))
    t1 = tf.train.FtrlOptimizer(.1, l1_regularization_strength=.01, l2_regularization_strength=.001).minimize(loss, var_list=tf.trainable_variables("wide"))
    t2 = tf.train.AdagradOptimizer(.05).minimize(loss, var_list=tf.trainable_variables("deep"))
    with tf.control_dependencies([t1, t2]):
        train = tf.assign_add(gs, 1)
    log(t1.name, t2.name, [v.name for v in tf.global_variables()])
    fd = {ids: [1, 2, 2, 7, 9], vals: [1., .5, .5, 2., -1.], inds: [[0, 0], [0, 1], [1, 0], [2, 0], [2, 1]], shp: [3, 2], y: [[1.], [0.], [1.]]}
    with tf.Session() as s:
        s.run([tf.global_variables_initializer(), tf.local_variables_initializer(), tf.tables_initializer()])
        for _ in range(5): log(s.run([loss, train], fd))
        log(s.run(tf.global_variables()))


@program
def deepfm(tf, log):
    feat = tf.placeholder(tf.int32, [None, None], name="feat"); val = tf.placeholder(tf.float32, [None, None], name="val"); label = tf.placeholder(tf.float32, [None, 1], "label")
    keep = tf.placeholder(tf.float32, [None], name="keep")
    W = {}
    W["fe"] = tf.Variable(wave(12, 4), name="feature_embeddings"); W["fb"] = tf.Variable(wave(12, 1), name="feature_bias")
    W["l0"] = tf.Variable(wave(12, 6)); W["b0"] = tf.Variable(wave(1, 6)); W["cp"] = tf.Variable(wave(13, 1)); W["cb"] = tf.Variable(tf.constant(.01), dtype=np.float32)
    e = tf.nn.embedding_lookup(W["fe"], feat); fv = tf.reshape(val, shape=[-1, 3, 1]); e = tf.multiply(e, fv)
    first = tf.reduce_sum(tf.multiply(tf.nn.embedding_lookup(W["fb"], feat), fv), 2)
    first = tf.nn.dropout(first, keep[0])
    sq = tf.square(tf.reduce_sum(e, 1)); s2 = tf.reduce_sum(tf.square(e), 1); second = 0.5 * tf.subtract(sq, s2)
    deep = tf.reshape(e, shape=[-1, 12]); deep = tf.nn.relu(tf.add(tf.matmul(deep, W["l0"]), W["b0"]))
    out = tf.add(tf.matmul(tf.concat([first, second, deep], axis=1), W["cp"]), W["cb"])
    p = tf.nn.sigmoid(out); loss = tf.losses.log_loss(label, p)
    loss += 0.01 * tf.nn.l2_loss(W["cp"])
    opts = [tf.train.AdamOptimizer(.01, beta1=.9, beta2=.999, epsilon=1e-8).minimize(loss), tf.train.AdagradOptimizer(.1, initial_accumulator_value=1e-8).minimize(loss), tf.train.MomentumOptimizer(.01, .95).minimize(loss), tf.train.RMSPropOptimizer(.01).minimize(loss)]
    log([v.name for v in tf.global_variables()], [o.name for o in opts])
    total = 0
    for v in W.values():
        variable_parameters = 1
        for dim in v.get_shape(): variable_parameters *= dim.value
        total += variable_parameters
    log(total)
    fd = {feat: [[1, 5, 9], [2, 5, 11]], val: [[1, 1, .5], [1, 2, 1]], label: [[1], [0]], keep: [1.0]}
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for o in opts:
            log(s.run((loss, o), fd)); log(s.run(W))


@program
def trpo_fvp(tf, log):
    ob = tf.placeholder(tf.float32, [None, 3]); adv = tf.placeholder(tf.float32, [None]); act = tf.placeholder(tf.int32, [None]); vflat = tf.placeholder(tf.float32, [None])
    w = tf.get_variable("w", initializer=wave(3, 2)); b = tf.get_variable("b", initializer=wave(2))
    p = tf.nn.softmax(tf.matmul(ob, w) + b); logp = tf.log(p)
    n = tf.shape(ob)[0]
    idx = tf.stack([tf.range(n), act], 1); pa = tf.gather_nd(p, idx)
    surr = -tf.reduce_mean(pa / tf.stop_gradient(pa) * adv)
    kl = tf.reduce_sum(tf.stop_gradient(p) * (tf.stop_gradient(logp) - logp)) / tf.cast(n, tf.float32)
    vs = tf.trainable_variables()
    def flat(gs): return tf.concat([tf.reshape(g, [int(np.prod(v.get_shape().as_list()))]) for g, v in zip(gs, vs)], 0)
    pg = flat(tf.gradients(surr, vs)); g = tf.gradients(kl, vs)
    start = 0; tang = []
    for v in vs:
        sz = int(np.prod(v.shape.as_list())); tang.append(tf.reshape(vflat[start:start + sz], v.shape)); start += sz
    gvp = [tf.reduce_sum(a * t) for a, t in zip(g, tang)]
    fvp = flat(tf.gradients(gvp, vs))
    theta = tf.placeholder(tf.float32, [8]); start = 0; assigns = []
    for v in vs:
        sz = int(np.prod(v.shape.as_list())); assigns.append(tf.assign(v, tf.reshape(theta[start:start + sz], v.shape))); start += sz
    setf = tf.group(*assigns); getf = tf.concat([tf.reshape(v, [-1]) for v in vs], axis=0)
    log([x.name for x in g], fvp.name, pg.name, setf.name)
    fd = {ob: wave(4, 3), adv: wave(4), act: [0, 1, 1, 0], vflat: wave(8)}
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for i in range(3):
            a, f, th = s.run([pg, fvp, getf], fd); log(a, f, th); s.run(setf, {theta: th - .1 * a})
        log(s.run([surr, kl], fd))


@program
def spectral_norm_power_iter(tf, log):
    def sn(w, it=2):
        ws = w.shape.as_list(); w = tf.reshape(w, [-1, ws[-1]])
        u = tf.get_variable("u", [1, ws[-1]], initializer=tf.constant_initializer(wave(1, ws[-1])), trainable=False)
        uh = u; vh = None
        for i in range(it):
            v_ = tf.matmul(uh, tf.transpose(w)); vh = tf.nn.l2_normalize(v_)
            u_ = tf.matmul(vh, w); uh = tf.nn.l2_normalize(u_)
        uh = tf.stop_gradient(uh); vh = tf.stop_gradient(vh)
        sigma = tf.matmul(tf.matmul(vh, w), tf.transpose(uh))
        with tf.control_dependencies([u.assign(uh)]):
            wn = w / sigma; wn = tf.reshape(wn, ws)
        return wn
    x = tf.placeholder(tf.float32, [None, 5, 5, 2])
    with tf.variable_scope("c"):
        w = tf.get_variable("kernel", initializer=wave(3, 3, 2, 3)); h = tf.nn.conv2d(input=x, filter=sn(w), strides=[1, 2, 2, 1], padding="SAME")
        h = tf.nn.bias_add(h, tf.get_variable("bias", [3], initializer=tf.constant_initializer(0.0)))
    h = tf.nn.leaky_relu(h, .2)
    with tf.variable_scope("d"):
        o = tf.matmul(tf.layers.flatten(h), sn(tf.get_variable("kernel", initializer=wave(27, 1))))
    loss = tf.reduce_mean(tf.nn.relu(1.0 - o))
    opt = tf.train.AdamOptimizer(2e-4, beta1=0.0, beta2=.9)
    gv = opt.compute_gradients(loss); train = opt.apply_gradients(gv)
    log([g.name for g, v in gv], [v.name for g, v in gv], h.name, o.name, loss.name)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for i in range(3): log(s.run([loss, train], {x: wave(2, 5, 5, 2)}))
        log(s.run(tf.global_variables()))


@program
def capsule_routing(tf, log):
    x = tf.placeholder(tf.float32, [2, 4, 3]); y = tf.placeholder(tf.int64, [2])
    def squash(s, axis=-1, eps=1e-7, name=None):
        with tf.name_scope(name, default_name="squash"):
            sn = tf.reduce_sum(tf.square(s), axis=axis, keep_dims=True); return sn / (1. + sn) * s / tf.sqrt(sn + eps)
    u = squash(x, name="primary"); W = tf.Variable(wave(1, 4, 3, 2, 3), name="W"); Wt = tf.tile(W, [2, 1, 1, 1, 1])
    ut = tf.tile(tf.expand_dims(tf.expand_dims(u, -1), 2), [1, 1, 3, 1, 1]); up = tf.matmul(Wt, ut)
    b = tf.zeros([2, 4, 3, 1, 1], name="raw")
    for r in range(3):
        c = tf.nn.softmax(b, dim=2); s = tf.reduce_sum(tf.multiply(c, up), axis=1, keep_dims=True); v = squash(s, axis=-2)
        if r < 2: b = tf.add(b, tf.matmul(up, tf.tile(v, [1, 4, 1, 1, 1]), transpose_a=True))
    yp = tf.sqrt(tf.reduce_sum(tf.square(v), axis=-2) + 1e-7); am = tf.argmax(yp, axis=2)
    T = tf.one_hot(y, depth=3); n = tf.squeeze(yp, axis=[1, 3]); L = T * tf.square(tf.maximum(0., .9 - n)) + .5 * (1. - T) * tf.square(tf.maximum(0., n - .1))
    loss = tf.reduce_mean(tf.reduce_sum(L, axis=1), name="margin_loss"); train = tf.train.AdamOptimizer().minimize(loss, name="training_op")
    acc = tf.reduce_mean(tf.cast(tf.equal(y, tf.squeeze(am, axis=[1, 2])), tf.float32), name="accuracy")
    log(loss.name, train.name, acc.name, v.name, yp.shape.as_list(), n.shape.as_list())
    with tf.Session() as ss:
        ss.run(tf.global_variables_initializer())
        for _ in range(3): log(ss.run([loss, acc, train], {x: wave(2, 4, 3), y: [0, 2]}))
        log(W.eval())


@program
def tower_average(tf, log):
    def tower(scope, i):
        x = tf.constant(wave(4, 3, phase=i)); 
        w = tf.get_variable("w", initializer=tf.constant_initializer(wave(3, 2)), shape=[3, 2]); b = tf.get_variable("b", [2], initializer=tf.constant_initializer(0.1))
        l = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=tf.one_hot([0, 1, 1, 0], 2), logits=tf.matmul(x, w) + b), name="xent")
        tf.add_to_collection("losses", l); losses = tf.get_collection("losses", scope); return tf.add_n(losses, name="total_loss")
    gs = tf.get_variable("global_step", [], initializer=tf.constant_initializer(0), trainable=False)
    lr = tf.train.exponential_decay(.1, gs, 2, .5, staircase=True); opt = tf.train.GradientDescentOptimizer(lr)
    tg = []
    with tf.variable_scope(tf.get_variable_scope()):
        for i in range(2):
            with tf.device("/gpu:%d" % i):
                with tf.name_scope("%s_%d" % ("tower", i)) as scope:
                    loss = tower(scope, i); tf.get_variable_scope().reuse_variables(); summaries = tf.get_collection(tf.GraphKeys.SUMMARIES, scope); tg.append(opt.compute_gradients(loss))
    avg = []
    for gv in zip(*tg):
        gr = []
        for g, _ in gv: gr.append(tf.expand_dims(g, 0))
        g = tf.reduce_mean(tf.concat(axis=0, values=gr), 0); avg.append((g, gv[0][1]))
    for g, v in avg:
        if g is not None: summaries.append(tf.summary.histogram(v.op.name + "/gradients", g))
    app = opt.apply_gradients(avg, global_step=gs); ema = tf.train.ExponentialMovingAverage(.99, gs); vop = ema.apply(tf.trainable_variables()); train = tf.group(app, vop)
    log([[g.name for g, v in t] for t in tg], [g.name for g, v in avg], train.name, vop.name, app.name, [s.name for s in summaries], loss.name)
    sop = tf.summary.merge(summaries)
    with tf.Session(config=tf.ConfigProto(allow_soft_placement=True)) as s:
        s.run(tf.global_variables_initializer())
        for _ in range(3): log(s.run([loss, lr, train]))
        log(s.run(tf.trainable_variables())); log(len(s.run(sop)) > 10)


@program
def grad_names(tf, log):
    x = tf.placeholder(tf.float32, [None, 3], name="x"); y = tf.placeholder(tf.float32, [None, 2], name="y")
    w = tf.Variable(wave(3, 2), name="w"); b = tf.Variable(wave(2), name="b"); c = tf.Variable(2., name="c"); d = tf.Variable(wave(2), name="d"); e = tf.Variable(wave(5, 2), name="e"); k = tf.Variable(wave(2, 2, 1, 2), name="k"); f = tf.Variable(wave(2), name="f")
    h = tf.nn.bias_add(tf.matmul(x, w), b) * c - d
    h2 = tf.concat([h, h * f], 1)
    im = tf.reshape(h2, [-1, 2, 2, 1]); cv = tf.nn.conv2d(im, k, [1, 1, 1, 1], "SAME")
    z = tf.maximum(tf.reduce_mean(cv, [1, 2]), 0.1) / (1. + tf.exp(d)) + tf.nn.embedding_lookup(e, [1, 2])
    loss = tf.reduce_mean(tf.squared_difference(z, y)) + 0.1 * tf.nn.l2_loss(w) + tf.add_n([tf.reduce_sum(d), tf.reduce_sum(f)])
    opt = tf.train.GradientDescentOptimizer(.1)
    gv = opt.compute_gradients(loss); log([[getattr(g, "name", None), v.name] for g, v in gv])
    gv = opt.compute_gradients(loss, gate_gradients=opt.GATE_NONE); log([[getattr(g, "name", None), v.name] for g, v in gv])
    gv = opt.compute_gradients(loss, gate_gradients=opt.GATE_GRAPH); log([[getattr(g, "name", None), v.name] for g, v in gv])
    log([g.name for g in tf.gradients(loss, [w, b, c, d, e, k, f, h, z])])


@program
def gp_regression(tf, log):
    X = tf.constant(wave(6, 1)); y = tf.constant(wave(6, 1, phase=.3)); ls = tf.Variable(1.0, name="ls"); noise = tf.Variable(.5, name="noise"); amp = tf.Variable(1., name="amp")
    d = tf.reduce_sum(tf.square(tf.expand_dims(X, 1) - tf.expand_dims(X, 0)), 2); K = tf.square(amp) * tf.exp(-.5 * d / tf.square(ls)) + tf.square(noise) * tf.eye(6)
    L = tf.cholesky(K); nll = .5 * tf.squeeze(tf.matmul(y, tf.matmul(tf.matrix_inverse(K), y), transpose_a=True)) + tf.reduce_sum(tf.log(tf.matrix_diag_part(L))) + 3. * np.log(2 * np.pi)
    t = tf.train.AdamOptimizer(.05).minimize(nll); det = tf.log(tf.matrix_determinant(K)); tr = tf.trace(K)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(5): log(s.run([nll, det, tr, t])); 
        log(s.run(tf.trainable_variables()), s.run(tf.gradients(nll + det, [ls, noise, amp])))


@program
def mdn(tf, log):
    x = tf.placeholder(tf.float32, [None, 1]); y = tf.placeholder(tf.float32, [None, 1])
    W = tf.Variable(wave(1, 5)); b = tf.Variable(tf.zeros([5])); Wo = tf.Variable(wave(5, 9)); bo = tf.Variable(tf.zeros([9]))
    h = tf.nn.tanh(tf.matmul(x, W) + b); out = tf.matmul(h, Wo) + bo; pi, mu, sg = tf.split(out, 3, 1)
    mx = tf.reduce_max(pi, 1, keep_dims=True); pi = tf.exp(tf.subtract(pi, mx)); pi = tf.multiply(tf.reciprocal(tf.reduce_sum(pi, 1, keep_dims=True)), pi); sg = tf.exp(sg)
    r = tf.multiply(tf.subtract(y, mu), tf.reciprocal(sg)); n = tf.multiply(tf.exp(tf.negative(tf.square(r)) / 2), tf.reciprocal(sg)) * (1 / np.sqrt(2 * np.pi))
    loss = tf.reduce_mean(-tf.log(tf.reduce_sum(tf.multiply(n, pi), 1, keep_dims=True))); t = tf.train.RMSPropOptimizer(.01, decay=.8, centered=True, momentum=.5).minimize(loss)
    alt = -tf.reduce_mean(tf.reduce_logsumexp(tf.nn.log_softmax(tf.split(out, 3, 1)[0]) - .5 * tf.square(r) - tf.log(sg) - .5 * np.log(2 * np.pi), axis=1))
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); fd = {x: wave(6, 1), y: wave(6, 1, phase=1)}
        for _ in range(5): log(s.run([loss, alt, t], fd))
        log(s.run(tf.global_variables()))


@program
def realnvp(tf, log):
    x = tf.placeholder(tf.float32, [None, 4]); z = x; ld = 0.
    for i in range(3):
        with tf.variable_scope("c%d" % i):
            a, b = tf.split(z, 2, axis=1)
            if i % 2: a, b = b, a
            h = tf.layers.dense(a, 5, tf.nn.relu, kernel_initializer=tf.constant_initializer(wave(2, 5)), name="h"); s_ = tf.layers.dense(h, 2, tf.tanh, kernel_initializer=tf.constant_initializer(wave(5, 2)), name="s"); t_ = tf.layers.dense(h, 2, kernel_initializer=tf.constant_initializer(wave(5, 2)), name="t")
            b = b * tf.exp(s_) + t_; ld += tf.reduce_sum(s_, 1); z = tf.concat([a, b] if not i % 2 else [b, a], 1)
    loss = tf.reduce_mean(.5 * tf.reduce_sum(z ** 2, 1) - ld); lr = tf.train.polynomial_decay(.01, tf.train.get_or_create_global_step(), 4, .001)
    t = tf.train.AdamOptimizer(lr).minimize(loss, tf.train.get_global_step())
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(5): log(s.run([loss, lr, t], {x: wave(3, 4)}))
        log(s.run(tf.trainable_variables()), [v.name for v in tf.global_variables()])


@program
def unet_iou_dice(tf, log):
    x = tf.placeholder(tf.float32, [None, 8, 8, 1]); y = tf.placeholder(tf.float32, [None, 8, 8, 1]); ci = lambda *s: tf.constant_initializer(wave(*s, scale=.3))
    c1 = tf.layers.conv2d(x, 4, 3, padding="same", activation=tf.nn.relu, kernel_initializer=ci(3, 3, 1, 4)); p1 = tf.layers.max_pooling2d(c1, 2, 2)
    c2 = tf.layers.conv2d(p1, 6, (3, 3), padding="SAME", activation=tf.nn.elu, kernel_initializer=ci(3, 3, 4, 6)); u = tf.layers.conv2d_transpose(c2, 4, 2, strides=2, padding="same", kernel_initializer=ci(2, 2, 4, 6))
    m = tf.concat([u, c1], axis=3); o = tf.layers.conv2d(m, 1, (1, 1), kernel_initializer=ci(1, 1, 8, 1), name="out"); p = tf.nn.sigmoid(o)
    f1, f2 = (tf.layers.flatten(p), tf.layers.flatten(y)); inter = tf.reduce_sum(f1 * f2, 1); dice = 1 - tf.reduce_mean((2 * inter + 1) / (tf.reduce_sum(f1, 1) + tf.reduce_sum(f2, 1) + 1))
    focal = tf.reduce_mean(tf.where(tf.equal(y, 1), -.25 * tf.pow(1 - p, 2.) * tf.log(tf.clip_by_value(p, 1e-7, 1.)), -.75 * tf.pow(p, 2.) * tf.log(tf.clip_by_value(1 - p, 1e-7, 1.))))
    tv = tf.reduce_sum(tf.abs(p[:, 1:, :, :] - p[:, :-1, :, :])) + tf.reduce_sum(tf.abs(p[:, :, 1:, :] - p[:, :, :-1, :]))
    hub = tf.losses.huber_loss(y, p, delta=.3); sm = tf.losses.get_total_loss(add_regularization_losses=False)
    loss = dice + focal + .001 * tv + sm; opt = tf.train.AdadeltaOptimizer(1., .9); gv = opt.compute_gradients(loss); gv = [(tf.clip_by_norm(g, .5), v) for g, v in gv if g is not None]; t = opt.apply_gradients(gv)
    with tf.Session() as s:
        s.run([tf.global_variables_initializer(), tf.local_variables_initializer()]); fd = {x: wave(2, 8, 8, 1), y: (wave(2, 8, 8, 1) > 0).astype(np.float32)}
        for _ in range(3): log(s.run([loss, dice, focal, tv, t], fd))
        log(s.run(tf.trainable_variables()), [g.name for g, _ in gv], u.shape.as_list(), u.name, o.name)


@program
def center_loss_arcface(tf, log):
    f = tf.placeholder(tf.float32, [None, 3]); lab = tf.placeholder(tf.int32, [None])
    W = tf.get_variable("W", initializer=wave(3, 4)); e = tf.nn.l2_normalize(tf.matmul(f, W), 1, 1e-10, name="emb")
    with tf.variable_scope("center", reuse=tf.AUTO_REUSE): cen = tf.get_variable("centers", [5, 4], dtype=tf.float32, initializer=tf.constant_initializer(0), trainable=False)
    l = tf.reshape(lab, [-1]); cb = tf.gather(cen, l); diff = cb - e; un, ix, cnt = tf.unique_with_counts(l); ap = tf.gather(cnt, ix); ap = tf.reshape(ap, [-1, 1]); diff = diff / tf.cast((1 + ap), tf.float32); diff = .5 * diff; up = tf.scatter_sub(cen, l, diff); closs = tf.nn.l2_loss(e - cb)
    w = tf.get_variable("sw", initializer=wave(4, 5)); cos = tf.matmul(e, tf.nn.l2_normalize(w, 0)); sin = tf.sqrt(1 - tf.square(cos)); cosm = tf.subtract(cos * np.cos(.5).astype(np.float32), sin * np.sin(.5).astype(np.float32)); mask = tf.one_hot(lab, depth=5, name="one_hot_mask"); out = tf.add(16. * cos * (1. - mask), 16. * cosm * mask)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=lab, logits=out)) + .01 * closs
    with tf.control_dependencies([up]): t = tf.train.MomentumOptimizer(.1, .9).minimize(loss, var_list=[W, w])
    acc = tf.reduce_mean(tf.cast(tf.nn.in_top_k(out, lab, 1), tf.float32)); acc2 = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(out, 1, output_type=tf.int32), lab), tf.float32))
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); fd = {f: wave(4, 3), lab: [0, 2, 2, 4]}
        for _ in range(4): log(s.run([loss, acc, acc2], fd)); s.run(t, fd)
        log(s.run([W, w, cen]))


@program
def ddqn_prioritized(tf, log):
    s_ = tf.placeholder(tf.float32, [None, 3], "s"); s2 = tf.placeholder(tf.float32, [None, 3], "s2"); a = tf.placeholder(tf.int32, [None], "a"); r = tf.placeholder(tf.float32, [None]); done = tf.placeholder(tf.float32, [None]); isw = tf.placeholder(tf.float32, [None])
    def q(x, scope, tr=True, reuse=None):
        with tf.variable_scope(scope, reuse=reuse):
            h = tf.layers.dense(x, 6, tf.nn.relu, kernel_initializer=tf.constant_initializer(wave(3, 6)), trainable=tr, name="h"); v = tf.layers.dense(h, 1, kernel_initializer=tf.constant_initializer(wave(6, 1)), trainable=tr, name="v"); ad = tf.layers.dense(h, 4, kernel_initializer=tf.constant_initializer(wave(6, 4, phase=2.)), trainable=tr, name="a")
            return v + (ad - tf.reduce_mean(ad, axis=1, keepdims=True))
    qe = q(s_, "eval"); qn = q(s2, "eval", reuse=True); qt = q(s2, "target", False)
    best = tf.argmax(qn, axis=1, output_type=tf.int32); n = tf.shape(best)[0]; sel = tf.gather_nd(qt, tf.stack([tf.range(n), best], axis=1)); tgt = tf.stop_gradient(r + .9 * (1. - done) * sel); qa = tf.reduce_sum(qe * tf.one_hot(a, 4), axis=1)
    td = tf.abs(tgt - qa); hub = tf.where(td < 1., .5 * tf.square(td), td - .5); loss = tf.reduce_mean(isw * hub)
    ev = tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope="eval"); tv = tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope="target"); hard = [tf.assign(t, e) for t, e in zip(tv, ev)]; soft = tf.group(*[tf.assign(t, .9 * t + .1 * e) for t, e in zip(tv, ev)])
    opt = tf.train.RMSPropOptimizer(.01, .95, epsilon=.01); gv = opt.compute_gradients(loss, var_list=ev)
    for i, (g, v) in enumerate(gv):
        if g is not None: gv[i] = (tf.clip_by_norm(g, 10), v)
    t = opt.apply_gradients(gv)
    eps = tf.placeholder(tf.float32, ()); act = tf.where(tf.random_uniform([n], 0, 1) < eps, tf.random_uniform([n], 0, 4, dtype=tf.int32), best)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); s.run(hard); fd = {s_: wave(4, 3), s2: wave(4, 3, phase=1), a: [0, 1, 2, 3], r: [1., 0, -1, 5], done: [0, 0, 1, 0], isw: [1, .5, 1, 1]}
        for _ in range(4): log(s.run([loss, td, t], fd)); s.run(soft)
        log(s.run(tf.global_variables()), s.run(act, {s2: wave(4, 3), eps: 0.}), [v.name for v in tf.trainable_variables()])


@program
def sac_tanh(tf, log):
    x = tf.placeholder(tf.float32, [None, 3]); eps = tf.placeholder(tf.float32, [None, 2]); W = tf.Variable(wave(3, 4)); o = tf.matmul(x, W); mu, ls = o[:, :2], o[:, 2:]; ls = tf.tanh(ls); ls = -20 + .5 * (2 + 20) * (ls + 1); std = tf.exp(ls); pi = mu + eps * std
    lp = tf.reduce_sum(-.5 * (((pi - mu) / (tf.exp(ls) + 1e-8)) ** 2 + 2 * ls + np.log(2 * np.pi)), axis=1); a = tf.tanh(pi)
    def clip_pass(x, l=-1., u=1.): cu = tf.cast(x > u, tf.float32); cl = tf.cast(x < l, tf.float32); return x + tf.stop_gradient((u - x) * cu + (l - x) * cl)
    lp -= tf.reduce_sum(tf.log(clip_pass(1 - a ** 2, l=0, u=1) + 1e-6), axis=1); la = tf.get_variable("log_alpha", (), initializer=tf.zeros_initializer()); alpha = tf.exp(la)
    loss = tf.reduce_mean(tf.stop_gradient(alpha) * lp) + tf.reduce_mean(tf.reduce_sum(a ** 2, 1)); al = -tf.reduce_mean(la * tf.stop_gradient(lp + 2.)); t1 = tf.train.AdamOptimizer(.01).minimize(loss, var_list=[W])
    with tf.control_dependencies([t1]): t2 = tf.train.AdamOptimizer(.01).minimize(al, var_list=[la])
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run([loss, al, lp], {x: wave(3, 3, scale=.2), eps: wave(3, 2)})); s.run(t2, {x: wave(3, 3, scale=.2), eps: wave(3, 2)})
        log(s.run(tf.global_variables()), t2.name)


@program
def gumbel_vqvae(tf, log):
    z = tf.placeholder(tf.float32, [None, 4]); cb = tf.get_variable("codebook", initializer=wave(5, 4)); d = tf.reduce_sum(z ** 2, 1, keepdims=True) - 2 * tf.matmul(z, cb, transpose_b=True) + tf.reduce_sum(cb ** 2, 1); ix = tf.argmin(d, 1); q = tf.nn.embedding_lookup(cb, ix); e_ = tf.reduce_mean((tf.stop_gradient(q) - z) ** 2); ql = tf.reduce_mean((q - tf.stop_gradient(z)) ** 2)
    st = z + tf.stop_gradient(q - z); W = tf.get_variable("W", initializer=wave(4, 3)); lg = tf.matmul(st, W); u = tf.placeholder(tf.float32, [None, 3]); g = -tf.log(-tf.log(u + 1e-20) + 1e-20); y = tf.nn.softmax((lg + g) / .5); hard = tf.cast(tf.equal(y, tf.reduce_max(y, 1, keep_dims=True)), y.dtype); y = tf.stop_gradient(hard - y) + y
    loss = tf.reduce_sum(y * tf.constant([1., 2., 3.])) + ql + .25 * e_; avg = tf.reduce_mean(tf.one_hot(ix, 5), 0); perp = tf.exp(-tf.reduce_sum(avg * tf.log(avg + 1e-10)))
    t = tf.train.AdamOptimizer(.05).minimize(loss)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run([loss, perp, ix, t], {z: wave(3, 4), u: np.abs(wave(3, 3)) * .9 + .05}))
        log(s.run(tf.global_variables()))


@program
def weird_minimize(tf, log):
    v = tf.Variable([1., 2.], name="v"); w = tf.Variable(3., name="w"); gs = tf.Variable(0, name="gs", trainable=False); gs64 = tf.Variable(0, dtype=tf.int64, trainable=False); gf = tf.Variable(0., trainable=False)
    loss = tf.reduce_sum(v ** 2) * w
    o = tf.train.GradientDescentOptimizer(learning_rate=lambda: .1); t = o.minimize(loss, global_step=gs, name="mini"); t2 = o.minimize(loss, global_step=gs64); t3 = o.minimize(loss, global_step=gf); t4 = o.minimize(loss, var_list=(v, w), name="x/y")
    with tf.name_scope("ns"): t6 = tf.train.AdamOptimizer(use_locking=True).minimize(loss); 
    with tf.variable_scope("vs"): t7 = tf.train.AdamOptimizer(name="A").minimize(loss)
    o8 = tf.train.AdamOptimizer(); t8 = o8.minimize(loss); t9 = o8.minimize(loss * 2.)
    log([q.name for q in (t, t2, t3, t4, t6, t7, t8, t9)], [x.name for x in tf.global_variables()], [type(q).__name__ for q in (t, t4)], o8.get_slot_names(), o8.get_slot(v, "m").name, o8.get_slot(v, "nope"), [x.name for x in o8.variables()], o8.get_name())
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for q in (t, t2, t3, t4, t6, t7, t8, t9): s.run(q); log(s.run(tf.global_variables()))


@program
def two_graphs_one_optimizer(tf, log):
    o = tf.train.AdamOptimizer(.1); gs = [tf.Graph(), tf.Graph()]; r = []
    for g in gs:
        with g.as_default():
            v = tf.Variable([1., 2.], name="v"); t = o.minimize(tf.reduce_sum(v * v)); r.append((g, v, t, tf.global_variables_initializer())); log([q.name for q in o.variables()], o.get_slot(v, "m").name)
    for g, v, t, i in r:
        with tf.Session(graph=g) as s: s.run(i); s.run(t); log(s.run(v))


@program
def gamma_functions(tf, log):
    v = tf.Variable([.5, 1.5, 4., 25., .01, -.3, -2.7, 1e6], name="v")
    y = tf.lgamma(v); d = tf.digamma(v); dd = tf.gradients(tf.gradients(y, v), v)[0]
    log(d.name, d.op.type, tf.gradients(y, v)[0].name, tf.gradients(d, v)[0].name)
    with tf.Session() as s: s.run(v.initializer); log(s.run([y, d, tf.gradients(y, v)[0], dd, tf.gradients(d, v)[0]])); log(s.run(tf.digamma(tf.constant([0., -1., -2.]))), s.run(tf.math.digamma(tf.constant([3., 4.], tf.float64))))
    a = tf.Variable([1., 2., 3.]); t = tf.placeholder(tf.float32, [3]); ll = tf.lgamma(tf.reduce_sum(a)) - tf.reduce_sum(tf.lgamma(a)) + tf.reduce_sum((a - 1.) * tf.log(t)); tr = tf.train.AdamOptimizer(.1).minimize(-ll)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run([ll, tr], {t: [.2, .3, .5]}), s.run(a))
