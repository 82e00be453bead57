"""Programs about training itself: learning rates, averages, clipping, metrics, summaries, hooks, rows.

Each is a function of ``tf`` and of what notes the values that are compared: see ``tutorials/__init__.py``.
"""

import glob
import tempfile

import numpy as np

from tests.conformance.reference.tutorials.values import onehot, program, wave


@program
def exponential_decay(tf, log):
    global_step = tf.Variable(0, trainable=False)
    starter_learning_rate = 0.1
    lr = tf.train.exponential_decay(starter_learning_rate, global_step, 3, 0.96, staircase=True)
    x = tf.Variable([1., 2.]); loss = tf.reduce_sum(tf.square(x - 3.))
    learning_step = tf.train.GradientDescentOptimizer(lr).minimize(loss, global_step=global_step)
    others = [tf.train.inverse_time_decay(.1, global_step, 2, .5), tf.train.natural_exp_decay(.1, global_step, 2, .5), tf.train.polynomial_decay(.1, global_step, 5, .01, power=.5, cycle=True),
              tf.train.piecewise_constant(global_step, [2, 5], [1.0, .5, .1]), tf.train.cosine_decay(.1, global_step, 6, alpha=.1), tf.train.cosine_decay_restarts(.1, global_step, 3),
              tf.train.linear_cosine_decay(.1, global_step, 6), tf.train.noisy_linear_cosine_decay(.1, global_step, 6, initial_variance=0.0)]
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(8):
            sess.run(learning_step); log(sess.run([x, loss, lr, global_step]), sess.run(others))
    log(lr.name, [o.name for o in others])


@program
def ema_in_graph(tf, log):
    # TF docs of ExponentialMovingAverage, and cifar10's train
    var0 = tf.get_variable("var0", initializer=[1., 2.]); var1 = tf.get_variable("var1", initializer=wave(2, 2))
    x = tf.placeholder(tf.float32, [])
    loss = tf.reduce_sum(tf.square(var0)) * x + tf.reduce_mean(var1 ** 2)
    global_step = tf.train.get_or_create_global_step()
    opt_op = tf.train.GradientDescentOptimizer(.1).minimize(loss, global_step=global_step)
    ema = tf.train.ExponentialMovingAverage(decay=0.9)
    log(ema.average(var0), ema.name, ema.average_name(var0))
    with tf.control_dependencies([opt_op]):
        training_op = ema.apply([var0, var1])
    log(training_op.name, training_op.type, ema.average(var0).name, ema.average(var1).op.name, [v.name for v in tf.moving_average_variables()])
    log(sorted((k, v.op.name) for k, v in ema.variables_to_restore().items()))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(4):
            sess.run(training_op, {x: 1.0}); log(sess.run([var0, var1, ema.average(var0), ema.average(var1), global_step]))
    log([v.name for v in tf.global_variables()], [v.name for v in tf.trainable_variables()], [v.name for v in tf.local_variables()])


@program
def ema_num_updates(tf, log):
    w = tf.Variable(0., name="w"); step = tf.Variable(0, trainable=False, name="step")
    ema = tf.train.ExponentialMovingAverage(0.99, step)
    maintain = ema.apply([w])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        log(sess.run([w, ema.average(w)]))
        sess.run(tf.assign(w, 5)); sess.run(maintain); log(sess.run([w, ema.average(w)]))
        sess.run(tf.assign(step, 10000)); sess.run(tf.assign(w, 10)); sess.run(maintain); log(sess.run([w, ema.average(w)]))
        sess.run(maintain); log(sess.run([w, ema.average(w)]))
    log([v.name for v in tf.global_variables()], maintain.name)


@program
def ema_zero_debias(tf, log):
    w = tf.get_variable("w", initializer=wave(3)); t = tf.placeholder(tf.float32, [2], name="t"); u = tf.identity(t * 2., name="u")
    ema = tf.train.ExponentialMovingAverage(0.9, zero_debias=True, name="avg")
    op = ema.apply([w, u])
    bump = w.assign_add([1., 2., 3.])
    log([v.name for v in tf.global_variables()], [v.name for v in tf.trainable_variables()], ema.average(u).name, ema.average_name(u), sorted(k for k in ema.variables_to_restore()))
    log([v.name for v in tf.moving_average_variables()])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(4):
            sess.run(op, {t: [1. + i, -2.]}); log(sess.run([ema.average(w), ema.average(u)])); sess.run(bump)
        log(sess.run(tf.global_variables()))


@program
def ema_scopes_getter(tf, log):
    # the getter idiom: a copy of the network that reads averages
    ema = tf.train.ExponentialMovingAverage(0.5)
    def net(x, reuse=None, getter=None):
        with tf.variable_scope('net', reuse=reuse, custom_getter=getter):
            return tf.layers.dense(x, 2, kernel_initializer=tf.constant_initializer(wave(3, 2)), name="l")
    def ema_getter(getter, name, *args, **kwargs): return ema.average(getter(name, *args, **kwargs))
    x = tf.placeholder(tf.float32, [None, 3])
    out = net(x)
    params = tf.get_collection(tf.GraphKeys.TRAINABLE_VARIABLES, scope='net')
    target_update = ema.apply(params)
    target = net(x, reuse=True, getter=ema_getter)
    loss = tf.reduce_mean(tf.square(out - 1.))
    with tf.control_dependencies([target_update]):
        train = tf.train.AdamOptimizer(.1).minimize(loss, var_list=params)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for i in range(4):
            sess.run(train, {x: wave(2, 3)}); log(*sess.run([out, target], {x: wave(2, 3)}))
    log([v.name for v in tf.global_variables()], target_update.name)


@program
def ema_errors(tf, log):
    def t(f):
        try: r = f(); return getattr(r, "name", str(r))
        except Exception as e: return type(e).__name__
    v = tf.Variable(1., name="v"); i = tf.Variable(1, name="i"); c = tf.constant(2.)
    ema = tf.train.ExponentialMovingAverage(.9)
    log(t(lambda: ema.apply([i])), t(lambda: ema.apply([v])), t(lambda: ema.apply([v])), t(lambda: ema.average(i)), t(lambda: ema.average_name(i)), t(lambda: ema.average_name(c)))
    log(t(lambda: tf.train.ExponentialMovingAverage("x").apply([v])), t(lambda: tf.train.ExponentialMovingAverage(1.5, name="big").apply([v])))
    log(t(lambda: tf.train.ExponentialMovingAverage(.9, name="all").apply()), [v.name for v in tf.global_variables()])
    with tf.variable_scope("sc"), tf.name_scope("ns"):
        e2 = tf.train.ExponentialMovingAverage(tf.constant(.5), name="e2"); w = tf.get_variable("w", initializer=[3.])
        op = e2.apply([w, c * w]); log(op.name, e2.average(w).name, [v.name for v in tf.global_variables()])
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); s.run(op); log(s.run(tf.global_variables()))


@program
def regularization_losses(tf, log):
    reg = (lambda w: 0.01 * tf.nn.l2_loss(w))
    x = tf.placeholder(tf.float32, [None, 4])
    with tf.variable_scope("a", regularizer=reg):
        w = tf.get_variable("w", initializer=wave(4, 3)); b = tf.get_variable("b", [3], initializer=tf.zeros_initializer(), regularizer=None)
        h = tf.nn.relu(tf.matmul(x, w) + b)
    o = tf.layers.dense(h, 2, kernel_initializer=tf.constant_initializer(wave(3, 2)), kernel_regularizer=reg, activity_regularizer=lambda t: 0.1 * tf.reduce_mean(t ** 2))
    data = tf.losses.mean_squared_error(tf.ones_like(o), o)
    regs = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    log([r.name for r in regs], [r.name for r in tf.losses.get_regularization_losses()])
    tf.add_to_collection('losses', tf.multiply(tf.nn.l2_loss(w), 0.004, name='weight_loss'))
    total = tf.add_n(tf.get_collection('losses') + regs, name='total_loss')
    total2 = tf.losses.get_total_loss()
    opt = tf.train.AdagradOptimizer(.1); train = opt.minimize(total)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run([total, total2, data], {x: wave(5, 4)})); s.run(train, {x: wave(5, 4)})
        log(s.run(tf.global_variables()), tf.losses.get_regularization_loss().eval({x: wave(5, 4)}))


@program
def multi_optimizer(tf, log):
    x = tf.placeholder(tf.float32, [None, 3])
    w1 = tf.get_variable("w1", initializer=wave(3, 4)); w2 = tf.get_variable("w2", initializer=wave(4, 2))
    loss = tf.reduce_mean(tf.square(tf.matmul(tf.nn.selu(tf.matmul(x, w1)), w2) - 1.))
    opt1, opt2 = tf.train.AdamOptimizer(0.01), tf.train.GradientDescentOptimizer(0.1)
    grads = tf.gradients(loss, [w1] + [w2])
    train_op1 = opt1.apply_gradients(zip(grads[:1], [w1])); train_op2 = opt2.apply_gradients(zip(grads[1:], [w2]))
    train_op = tf.group(train_op1, train_op2)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(5): s.run(train_op1, {x: wave(4, 3)}); s.run(train_op2, {x: wave(4, 3)}); log(s.run([loss, w1, w2], {x: wave(4, 3)}))
    log([g.name for g in grads], train_op.name)


@program
def second_order(tf, log):
    x = tf.Variable([1., 2., 3.], name="x")
    y = tf.reduce_sum(x ** 3 * tf.sin(x))
    g = tf.gradients(y, x)[0]; gg = tf.gradients(g, x)[0]
    hv = tf.gradients(tf.reduce_sum(g * tf.stop_gradient([1., 0., -1.])), x)[0]
    H = tf.stack([tf.gradients(g[i], x)[0] for i in range(3)])
    newton = x.assign_sub(tf.squeeze(tf.matmul(tf.matrix_inverse(H + 10. * tf.eye(3)), tf.expand_dims(g, 1)), 1))
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); log(s.run([g, gg, hv, H])); log(s.run(newton)); log(s.run([g, gg]))
    log(g.name)


@program
def maml(tf, log):
    x = tf.placeholder(tf.float32, [5, 1]); y = tf.placeholder(tf.float32, [5, 1])
    weights = {"w1": tf.Variable(wave(1, 6), name="w1"), "b1": tf.Variable(tf.zeros([6]), name="b1"), "w2": tf.Variable(wave(6, 1), name="w2")}
    def forward(x, w): return tf.matmul(tf.nn.relu(tf.matmul(x, w["w1"]) + w["b1"]), w["w2"])
    def mse(p, l): return tf.reduce_mean(tf.square(tf.reshape(p, [-1]) - tf.reshape(l, [-1])))
    for stop in (False, True):
        lossa = mse(forward(x, weights), y)
        grads = tf.gradients(lossa, list(weights.values()))
        if stop: grads = [tf.stop_gradient(g) for g in grads]
        fast = dict(zip(weights.keys(), [weights[k] - 0.1 * g for k, g in zip(weights, grads)]))
        lossb = mse(forward(x + 1., fast), y)
        opt = tf.train.AdamOptimizer(0.01)
        gvs = [(tf.clip_by_value(g, -10, 10), v) for g, v in opt.compute_gradients(lossb)]
        train = opt.apply_gradients(gvs)
        with tf.Session() as s:
            s.run(tf.global_variables_initializer())
            for _ in range(3): log(s.run([lossa, lossb], {x: wave(5, 1), y: wave(5, 1, phase=2)})); s.run(train, {x: wave(5, 1), y: wave(5, 1, phase=2)})
            log(s.run(weights))


@program
def stop_gradient_straight_through(tf, log):
    x = tf.placeholder(tf.float32, [None, 4]); w = tf.get_variable("w", initializer=wave(4, 3)); cb = tf.get_variable("codebook", initializer=wave(5, 3, phase=1))
    z = tf.matmul(x, w)
    d = tf.reduce_sum(z ** 2, 1, keepdims=True) - 2 * tf.matmul(z, cb, transpose_b=True) + tf.reduce_sum(cb ** 2, 1)
    idx = tf.argmin(d, 1); q = tf.gather(cb, idx)
    st = z + tf.stop_gradient(q - z)
    loss = tf.reduce_mean(tf.square(st - 1.)) + tf.reduce_mean(tf.square(tf.stop_gradient(z) - q)) + .25 * tf.reduce_mean((z - tf.stop_gradient(q)) ** 2)
    hard = z + tf.stop_gradient(tf.round(z) - z) + tf.sign(z) * 0. + tf.cast(z > 0, tf.float32)
    opt = tf.train.AdamOptimizer(.05); train = opt.minimize(loss + tf.reduce_sum(hard) * .01)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(5): log(s.run([loss, idx], {x: wave(6, 4)})); s.run(train, {x: wave(6, 4)})
        log(s.run([w, cb, opt.get_slot(cb, "v")]))


@program
def colocate(tf, log):
    with tf.device("/job:ps/task:1"): v = tf.get_variable("v", initializer=wave(4))
    with tf.device("/job:ps/task:0"): w = tf.Variable(wave(4, phase=1), name="w")
    with tf.colocate_with(v): s = tf.Variable(tf.zeros_like(v.initial_value), trainable=False, name="s"); c = tf.constant(1., name="c")
    with tf.colocate_with(w.op, ignore_existing=True): d = tf.identity(w) * 2.
    opt = tf.train.MomentumOptimizer(.1, .9)
    grads = opt.compute_gradients(tf.reduce_sum(v * w), colocate_gradients_with_ops=True)
    train = opt.apply_gradients(grads)
    log(s.device, c.device, d.device, s.op.colocation_groups(), d.op.colocation_groups(), [g.device for g, _ in grads], [opt.get_slot(x, "momentum").device for x in (v, w)], train.device)


@program
def dropout_keep_prob(tf, log):
    x = tf.placeholder(tf.float32, [None, 6]); keep_prob = tf.placeholder(tf.float32, name="keep_prob"); y_ = tf.placeholder(tf.float32, [None, 2])
    W = tf.Variable(wave(6, 5)); b = tf.Variable(tf.constant(0.1, shape=[5])); W2 = tf.Variable(wave(5, 2)); b2 = tf.Variable(tf.constant(.1, shape=[2]))
    h = tf.nn.relu(tf.matmul(x, W) + b); h_drop = tf.nn.dropout(h, keep_prob); y = tf.matmul(h_drop, W2) + b2
    l2 = tf.nn.dropout(h, rate=1 - keep_prob, noise_shape=[1, 5], seed=3)
    cross_entropy = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=y_, logits=y))
    train_step = tf.train.AdamOptimizer(1e-2).minimize(cross_entropy)
    acc = tf.reduce_mean(tf.cast(tf.equal(tf.argmax(y, 1), tf.argmax(y_, 1)), tf.float32))
    sess = tf.InteractiveSession()
    tf.global_variables_initializer().run()
    for i in range(5):
        train_step.run(feed_dict={x: wave(8, 6), y_: onehot(8, 2), keep_prob: 1.0})
        log(acc.eval(feed_dict={x: wave(8, 6), y_: onehot(8, 2), keep_prob: 1.0}), cross_entropy.eval({x: wave(8, 6), y_: onehot(8, 2), keep_prob: 1.0}))
    d = sess.run([h, h_drop, l2], {x: np.ones((40, 6), np.float32), keep_prob: .5})
    kept = d[1] != 0; log(bool(np.allclose(d[1][kept], (d[0] * 2)[kept])), bool(0.2 < kept[:, d[0][0] > 0].mean() < .8))
    log(sess.run(W)); sess.close()
    log(h_drop.name, l2.name)


@program
def metrics_local(tf, log):
    labels = tf.placeholder(tf.int64, [None]); logits = tf.placeholder(tf.float32, [None, 2])
    pred = tf.argmax(logits, 1); prob = tf.nn.softmax(logits)[:, 1]
    with tf.name_scope("metrics"):
        m = {"acc": tf.metrics.accuracy(labels, pred), "auc": tf.metrics.auc(labels, prob, num_thresholds=20), "mean": tf.metrics.mean(logits), "prec": tf.metrics.precision(labels, pred), "rec": tf.metrics.recall(labels, pred),
             "mse": tf.metrics.mean_squared_error(tf.cast(labels, tf.float32), prob), "rmse": tf.metrics.root_mean_squared_error(tf.cast(labels, tf.float32), prob), "mae": tf.metrics.mean_absolute_error(tf.cast(labels, tf.float32), prob)}
    running_vars = tf.get_collection(tf.GraphKeys.LOCAL_VARIABLES, scope="metrics")
    init = tf.variables_initializer(var_list=running_vars)
    values = {k: v[0] for k, v in m.items()}; ups = {k: v[1] for k, v in m.items()}
    log([v.name for v in running_vars], sorted((k, v.name) for k, v in values.items()), sorted((k, v.name) for k, v in ups.items()))
    with tf.Session() as s:
        for e in range(2):
            s.run(init)
            for i in range(3):
                s.run(ups, {labels: [0, 1, 1, 0, 1], logits: wave(5, 2, phase=i + e)})
            log(sorted(s.run(values).items()))


@program
def metrics_more(tf, log):
    labels = tf.placeholder(tf.int64, [None]); x = tf.placeholder(tf.float32, [None, 4])
    ms = [tf.metrics.true_positives(labels > 1, x[:, 0] > 0), tf.metrics.false_negatives(labels > 1, x[:, 0] > 0), tf.metrics.true_negatives(labels > 1, x[:, 0] > 0), tf.metrics.false_positives(labels > 1, x[:, 0] > 0, weights=[.5, 1., 2.])]
    with tf.Session() as s:
        s.run(tf.local_variables_initializer())
        for i in range(3): s.run([m[1] for m in ms], {labels: [0, 3, 1], x: wave(3, 4, phase=i)}); log(s.run([m[0] for m in ms]))


@program
def summaries(tf, log):
    def variable_summaries(var):
        with tf.name_scope('summaries'):
            mean = tf.reduce_mean(var); tf.summary.scalar('mean', mean)
            with tf.name_scope('stddev'): stddev = tf.sqrt(tf.reduce_mean(tf.square(var - mean)))
            tf.summary.scalar('stddev', stddev); tf.summary.scalar('max', tf.reduce_max(var)); tf.summary.histogram('histogram', var)
    x = tf.placeholder(tf.float32, [None, 4], name='x-input')
    with tf.name_scope('layer1'):
        with tf.name_scope('weights'): W = tf.Variable(wave(4, 2)); variable_summaries(W)
        with tf.name_scope('Wx_plus_b'): pre = tf.matmul(x, W); tf.summary.histogram('pre_activations', pre)
    loss = tf.reduce_mean(pre ** 2); tf.summary.scalar('loss', loss); step = tf.train.get_or_create_global_step()
    tf.summary.image('input', tf.reshape(x, [-1, 2, 2, 1]), 3)
    train = tf.train.GradientDescentOptimizer(.1).minimize(loss, global_step=step)
    for g, v in [(tf.gradients(loss, W)[0], W)]: tf.summary.histogram(v.op.name + '/gradient', g)
    merged = tf.summary.merge_all(); some = tf.summary.merge([loss.graph.get_collection(tf.GraphKeys.SUMMARIES)[0]])
    d = tempfile.mkdtemp()
    with tf.Session() as sess:
        train_writer = tf.summary.FileWriter(d + '/train', sess.graph)
        tf.global_variables_initializer().run()
        for i in range(3):
            summary = sess.run(merged, {x: wave(3, 4)}); sess.run(train, {x: wave(3, 4)}); train_writer.add_summary(summary, i)
            train_writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="own", simple_value=.5 * i)]), global_step=i)
        train_writer.flush(); train_writer.close()
        s = tf.Summary.FromString(summary) if hasattr(tf.Summary, "FromString") else tf.Summary(); 
        if not hasattr(tf.Summary, "FromString"): s.ParseFromString(summary)
        log([v.tag for v in s.value], [v.simple_value for v in s.value if v.HasField("simple_value")], [v.histo.num for v in s.value if v.HasField("histo")], [(v.image.height, v.image.colorspace) for v in s.value if v.HasField("image")])
    log([t.name for t in tf.get_collection(tf.GraphKeys.SUMMARIES)], merged.name, some.name, len(glob.glob(d + "/train/events*")))


@program
def hooks(tf, log):
    seen = []
    class Recorder(tf.train.SessionRunHook):
        def begin(self): self._gs = tf.train.get_global_step(); seen.append("begin")
        def after_create_session(self, session, coord): seen.append("created")
        def before_run(self, run_context): return tf.train.SessionRunArgs({"loss": loss, "gs": self._gs}) if True else None
        def after_run(self, run_context, run_values):
            seen.append(["after", float(run_values.results["loss"])])
            if run_values.results["gs"] >= 5: run_context.request_stop()
        def end(self, session): seen.append(["end", int(session.run(self._gs))])
    w = tf.get_variable("w", initializer=wave(3)); x = tf.placeholder(tf.float32, [3])
    loss = tf.reduce_sum(tf.square(w - x)); gs = tf.train.get_or_create_global_step()
    train = tf.train.AdamOptimizer(.1).minimize(loss, global_step=gs)
    final = tf.train.FinalOpsHook({"w": w}) if hasattr(tf.train, "FinalOpsHook") else None
    with tf.train.MonitoredTrainingSession(hooks=[Recorder(), tf.train.StopAtStepHook(last_step=4), tf.train.NanTensorHook(loss), final]) as sess:
        while not sess.should_stop():
            sess.run(train, {x: [1., 2., 3.]})
    log(seen, final.final_ops_values)


@program
def nan_hook_stops(tf, log):
    w = tf.get_variable("w", initializer=[1.]); gs = tf.train.get_or_create_global_step(); loss = tf.reduce_sum(tf.log(w))
    train = tf.train.GradientDescentOptimizer(1.5).minimize(loss, global_step=gs)
    for fail in (True, False):
        try:
            with tf.train.MonitoredTrainingSession(hooks=[tf.train.NanTensorHook(loss, fail_on_nan_loss=fail), tf.train.StopAtStepHook(num_steps=6)]) as s:
                n = 0
                while not s.should_stop(): s.run(train); n += 1
            log("ended", n)
        except tf.train.NanLossDuringTrainingError as e: log("nan", str(e)[:60])


@program
def supervisor_loop(tf, log):
    x = tf.placeholder(tf.float32, [None, 2]); w = tf.Variable(wave(2, 1)); gs = tf.Variable(0, name="global_step", trainable=False)
    loss = tf.reduce_mean(tf.square(tf.matmul(x, w) - 1.)); train = tf.train.RMSPropOptimizer(.05, momentum=.9, centered=True).minimize(loss, global_step=gs)
    init_op = tf.global_variables_initializer()
    sv = tf.train.Supervisor(is_chief=True, logdir=None, init_op=init_op, summary_op=None, saver=None, global_step=gs, save_model_secs=0)
    with sv.managed_session() as sess:
        while not sv.should_stop():
            _, step, l = sess.run([train, gs, loss], {x: wave(4, 2)})
            if sess.run(gs) >= 5: break
        log(sess.run([w, gs, loss], {x: wave(4, 2)}))
    sv.stop()


@program
def coordinator_threads(tf, log):
    import threading
    v = tf.Variable(0.); add = v.assign_add(1., use_locking=True)
    coord = tf.train.Coordinator()
    with tf.Session() as s:
        s.run(v.initializer)
        def loop():
            for _ in range(20):
                if coord.should_stop(): return
                s.run(add)
        ts = [threading.Thread(target=loop) for _ in range(3)]
        for t in ts: t.start()
        coord.join(ts); log(s.run(v), coord.should_stop())
        try:
            with coord.stop_on_exception(): raise ValueError("x")
            coord.join([])
        except ValueError as e: log("raised", str(e))


@program
def grad_loss_and_grad_ys(tf, log):
    w = tf.get_variable("w", initializer=wave(3, 2)); x = tf.constant(wave(4, 3)); y = tf.matmul(x, w)
    opt = tf.train.GradientDescentOptimizer(.1)
    gv = opt.compute_gradients(y, grad_loss=tf.ones_like(y) * .5); train = opt.apply_gradients(gv)
    g2 = tf.gradients([y, tf.reduce_sum(w)], [w, x], grad_ys=[tf.constant(wave(4, 2)), 2.], stop_gradients=[x])
    g3 = tf.gradients(y, w, gate_gradients=True, aggregation_method=tf.AggregationMethod.ADD_N)
    g4 = tf.gradients(y, [tf.constant(1.), w], unconnected_gradients=tf.UnconnectedGradients.ZERO)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); log(s.run([gv[0][0], g2, g3, g4])); s.run(train); log(s.run(w))


@program
def l1_clip_norms(tf, log):
    w = tf.get_variable("w", initializer=wave(3, 2, scale=2)); b = tf.get_variable("b", initializer=wave(2))
    loss = tf.reduce_sum(tf.abs(w)) + tf.norm(w) + tf.norm(b, ord=1) + tf.reduce_logsumexp(w) + tf.reduce_prod(b) + tf.reduce_max(w) + tf.reduce_sum(tf.cumsum(b))
    opt = tf.train.ProximalAdagradOptimizer(.1, l1_regularization_strength=.01, l2_regularization_strength=.01)
    gv = opt.compute_gradients(loss)
    by = [(tf.clip_by_norm(g, .3), v) for g, v in gv]; gn = tf.global_norm([g for g, _ in gv]); avg = [tf.clip_by_average_norm(g, .1) for g, _ in gv]
    train = opt.apply_gradients(by)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(4): log(s.run([loss, gn, by[0][0], avg])); s.run(train)
        log(s.run([w, b]))


@program
def sequence_padding_mask(tf, log):
    # seq loss with masks
    logits = tf.get_variable("logits", initializer=wave(2, 4, 5)); targets = tf.constant([[1, 2, 0, 0], [3, 1, 4, 0]]); lengths = tf.placeholder(tf.int32, [2])
    mask = tf.sequence_mask(lengths, 4, dtype=tf.float32)
    ce = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=targets, logits=logits)
    loss = tf.reduce_sum(ce * mask) / tf.reduce_sum(mask)
    w = tf.losses.sparse_softmax_cross_entropy(targets, logits, weights=mask)
    sm = tf.losses.softmax_cross_entropy(tf.one_hot(targets, 5), logits, label_smoothing=.1, reduction=tf.losses.Reduction.NONE)
    hub = tf.losses.huber_loss(tf.zeros([2, 4, 5]), logits, delta=.5); cos = tf.losses.cosine_distance(tf.nn.l2_normalize(tf.one_hot(targets, 5), -1), tf.nn.l2_normalize(logits, -1), axis=-1)
    mpse = tf.losses.mean_pairwise_squared_error(tf.one_hot(targets, 5), logits); ad = tf.losses.absolute_difference(tf.one_hot(targets, 5), logits, weights=.5); sig = tf.losses.sigmoid_cross_entropy(tf.one_hot(targets, 5), logits, label_smoothing=.2)
    everything = loss + w + tf.reduce_mean(sm) + hub + cos + mpse + ad + sig
    g = tf.gradients(everything, logits)[0]
    with tf.Session() as s:
        s.run(tf.global_variables_initializer()); log(s.run([loss, w, sm, hub, cos, mpse, ad, sig, g], {lengths: [2, 3]}))
    log([l.name for l in tf.losses.get_losses()])


@program
def app_flags(tf, log):
    flags = tf.app.flags
    F = flags.FLAGS
    if "lr_k7" not in F: flags.DEFINE_float("lr_k7", .5, "lr"); flags.DEFINE_integer("steps_k7", 3, "n"); flags.DEFINE_string("job_k7", "w", "j"); flags.DEFINE_boolean("flag_k7", True, "b")
    if not F.is_parsed(): F(["prog", "--lr_k7=0.25", "--noflag_k7"], known_only=True)
    log(F.lr_k7, F.steps_k7, F.job_k7, F.flag_k7)


@program
def sparse_gradients_scopes(tf, log):
    emb = tf.get_variable("emb", initializer=wave(8, 2)); ids = tf.placeholder(tf.int32, [None, 3])
    e = tf.reduce_mean(tf.nn.embedding_lookup(emb, ids), 1); loss = tf.reduce_mean(tf.square(e - 1.)) + .1 * tf.reduce_sum(tf.gather(emb, [0, 0]))
    for o in (tf.train.RMSPropOptimizer(.1, momentum=.5), tf.train.RMSPropOptimizer(.1, centered=True), tf.train.AdadeltaOptimizer(1.), tf.train.ProximalGradientDescentOptimizer(.1, .01, .01), tf.train.AdagradDAOptimizer(.1, tf.train.get_or_create_global_step(), l1_regularization_strength=.01)):
        gs = tf.train.get_or_create_global_step()
        t = o.minimize(loss, global_step=gs)
        with tf.Session() as s:
            s.run(tf.global_variables_initializer())
            for i in range(4): s.run(t, {ids: [[1, 2, 2], [i, 0, 7]]}); log(s.run([loss, emb], {ids: [[1, 2, 2], [1, 0, 7]]}))
            log({n: s.run(o.get_slot(emb, n)) for n in o.get_slot_names()})


@program
def partitioned_embedding(tf, log):
    emb = tf.get_variable("emb", [7, 3], initializer=tf.constant_initializer(wave(7, 3)) if False else tf.constant_initializer(.5), partitioner=tf.fixed_size_partitioner(3))
    w = tf.get_variable("w", initializer=wave(3, 1))
    for strat in ("div", "mod"):
        e = tf.nn.embedding_lookup(emb, tf.constant([0, 3, 6, 6]), partition_strategy=strat)
        loss = tf.reduce_mean((tf.matmul(e, w) - 1.) ** 2)
        opt = tf.train.AdagradOptimizer(.5, name="A" + strat); train = opt.minimize(loss)
        with tf.Session() as s:
            s.run(tf.global_variables_initializer())
            for _ in range(3): s.run(train); log(s.run([loss, tf.convert_to_tensor(emb), w]))
            log([opt.get_slot(v, "accumulator").name for v in tf.trainable_variables()], opt.get_slot_names())


@program
def sparse_lookup_wide_deep(tf, log):
    sp = tf.SparseTensor(indices=[[0, 0], [0, 2], [1, 1], [3, 0]], values=tf.constant([1, 4, 4, 2], tf.int64), dense_shape=[4, 3])
    wt = tf.SparseTensor(indices=[[0, 0], [0, 2], [1, 1], [3, 0]], values=[.5, 1., 2., 1.], dense_shape=[4, 3])
    emb = tf.get_variable("emb", initializer=wave(6, 2))
    outs = [tf.nn.embedding_lookup_sparse(emb, sp, w, combiner=c) for w in (None, wt) for c in ("mean", "sum", "sqrtn")]
    loss = tf.add_n([tf.reduce_sum(o ** 2) for o in outs])
    opt = tf.train.FtrlOptimizer(.1, l1_regularization_strength=.05, l2_regularization_strength=.1); train = opt.minimize(loss)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        for _ in range(3): log(s.run([loss] + outs)); s.run(train)
        log(s.run(emb), s.run([opt.get_slot(emb, "linear"), opt.get_slot(emb, "accum")]))
