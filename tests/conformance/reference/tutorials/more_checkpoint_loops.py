"""More loops and models that go on from checkpoints: hooks, sessions, supervisors, models that are trained further."""

import collections
import os
import re

import numpy as np

from tests.conformance.reference.tutorials.checkpoints import cut, folder, kept, state
from tests.conformance.reference.tutorials.more_checkpoints import err, names
from tests.conformance.reference.tutorials.values import program, wave


def model(tf):
    step = tf.train.get_or_create_global_step(); train = tf.assign_add(step, 1); return step, train


@program
def hook_finds_its_saver(tf, log):
    for kind in ("scaffold", "saver", "collection"):
        with folder() as d, tf.Graph().as_default():
            step, train = model(tf); scaffold = tf.train.Scaffold(); 
            if kind == "saver": scaffold = tf.train.Scaffold(saver=tf.train.Saver())
            hook = tf.train.CheckpointSaverHook(d, save_steps=2, scaffold=scaffold) if kind != "collection" else tf.train.CheckpointSaverHook(d, save_steps=2)
            hook.begin(); scaffold.finalize()
            with tf.Session() as sess:
                sess.run(scaffold.init_op); hook.after_create_session(sess, None); log(tf.train.load_variable(d, "global_step")); ctx = tf.train.SessionRunContext(None, sess)
                for _ in range(5):
                    args = hook.before_run(ctx); sess.run(train); hook.after_run(ctx, tf.train.SessionRunValues(results=sess.run(step), options=None, run_metadata=None)); log(tf.train.load_variable(d, "global_step"))
                hook.end(sess); log(tf.train.load_variable(d, "global_step"), kept(d))


@program
def hook_of_a_singular_session(tf, log):
    with folder() as d:
        step, train = model(tf); hook = tf.train.CheckpointSaverHook(d, save_steps=2)
        with tf.train.SingularMonitoredSession(hooks=[hook]) as sess:
            for _ in range(3): sess.run(train)
        log(kept(d), any("tfevents" in n for n in os.listdir(d)), tf.train.get_checkpoint_state(d).model_checkpoint_path == d + "/model.ckpt-3")


@program
def hook_counts_listeners(tf, log):
    class L(tf.train.CheckpointSaverListener):
        def __init__(self): self.c = {"begin": 0, "before_save": 0, "after_save": 0, "end": 0}
        def begin(self): self.c["begin"] += 1
        def before_save(self, session, global_step): self.c["before_save"] += 1
        def after_save(self, session, global_step): self.c["after_save"] += 1
        def end(self, session, global_step): self.c["end"] += 1
    for where in ("hook", "default"):
        with folder() as d, tf.Graph().as_default():
            step, train = model(tf); l = L(); l2 = L()
            hooks = [tf.train.CheckpointSaverHook(d, save_steps=1, listeners=[l, l2])] if where == "hook" else []
            with tf.train.MonitoredTrainingSession(checkpoint_dir=d if not hooks else None, chief_only_hooks=hooks, save_checkpoint_steps=1) as sess:
                for _ in range(3): sess.run(train)
            log(l.c, l2.c, kept(d))
    base = tf.train.CheckpointSaverListener(); log(base.begin(), base.before_save(None, 1), base.after_save(None, 1), base.end(None, 1))


@program
def hook_makes_directories(tf, log):
    with folder() as d:
        step, train = model(tf); saver = tf.train.Saver(max_to_keep=None)
        hook = tf.train.CheckpointSaverHook(d + "/deep/er", save_steps=1, saver=saver, checkpoint_basename="m")
        with tf.train.MonitoredSession(tf.train.ChiefSessionCreator(), hooks=[hook, tf.train.StopAtStepHook(num_steps=3)]) as sess:
            while not sess.should_stop(): sess.run(train)
        log(kept(d + "/deep/er"), state(d + "/deep/er"), err(lambda: tf.train.CheckpointSaverHook(None, save_steps=1).begin()), err(lambda: tf.train.CheckpointSaverHook(d, save_steps=0)), err(lambda: tf.train.CheckpointSaverHook(d, save_secs=-1)))
        log(isinstance(hook, tf.train.SessionRunHook), [n for n in dir(hook) if not n.startswith("_")])


@program
def session_saves_or_only_restores(tf, log):
    with folder() as d:
        with tf.Graph().as_default():
            v = tf.Variable([1], name="v"); step = tf.train.get_or_create_global_step(); do = tf.assign_add(step, 1); a0 = tf.constant(0.); path = d + "/model"
            with tf.train.MonitoredTrainingSession(is_chief=True, checkpoint_dir=d, save_checkpoint_steps=2, save_summaries_steps=0) as session:
                for _ in range(3): session.run(do)
                log(session.run(step))
        for cp in ({"checkpoint_dir": d}, {"checkpoint_dir": d, "save_checkpoint_secs": 0}, {"checkpoint_dir": d, "save_checkpoint_secs": None, "save_checkpoint_steps": None}):
            with tf.Graph().as_default():
                v = tf.Variable([1], name="v"); step = tf.train.get_or_create_global_step(); do = tf.assign_add(step, 1)
                with tf.train.MonitoredTrainingSession(**cp) as session: log(session.run(step)); session.run(do)
                log(kept(d))
        log(tf.train.latest_checkpoint(d).replace(d, "D"))


@program
def session_starts_from_a_model_then_from_itself(tf, log):
    with folder() as d, folder() as out:
        with tf.Graph().as_default(), tf.Session() as sess: v = tf.get_variable("net/v", initializer=[3., 4.]); sess.run(v.initializer); path = tf.train.Saver().save(sess, d + "/m")
        for _ in range(2):
            with tf.Graph().as_default():
                v = tf.get_variable("net/v", [2]); s = tf.train.get_or_create_global_step(); go = tf.group(v.assign_add([1., 1.]), s.assign_add(1)); tf.train.init_from_checkpoint(d, {"net/": "net/"})
                with tf.train.MonitoredTrainingSession(checkpoint_dir=out, save_checkpoint_steps=1) as m: log(m.run(v)); m.run(go)
        log(tf.train.load_variable(out, "net/v"))


@program
def session_with_a_hook_of_its_own(tf, log):
    with folder() as d:
        step = tf.train.get_or_create_global_step(); go = step.assign_add(1); log(err(lambda: tf.train.MonitoredTrainingSession(is_chief=True, checkpoint_dir=d, chief_only_hooks=5)), err(lambda: tf.train.CheckpointSaverHook(checkpoint_dir=d, save_steps=5, save_secs=5)))
        with tf.train.MonitoredTrainingSession(checkpoint_dir=d, hooks=[tf.train.CheckpointSaverHook(d, save_steps=1, checkpoint_basename="extra")], save_checkpoint_secs=None, save_checkpoint_steps=None) as sess: sess.run(go); sess.run(go)
        log(kept(d), state(d))


@program
def supervisor_restores_or_says_what_is_missing(tf, log):
    with folder() as d:
        for value in (1., 2.):
            with tf.Graph().as_default():
                v = tf.Variable([value], name="v"); s = tf.train.get_or_create_global_step(); go = tf.group(v.assign_add([10.]), s.assign_add(4)); sv = tf.train.Supervisor(logdir=d, save_model_secs=0); sess = sv.prepare_or_wait_for_session("", start_standard_services=False); log(*sess.run([v, s])); sess.run(go); log(sv.saver.save(sess, sv.save_path).replace(d, "D"), sv.saver.save(sess, sv.save_path, global_step=sv.global_step).replace(d, "D")); sv.stop(); sess.close()
        log(kept(d), state(d))
        with tf.Graph().as_default():
            v = tf.Variable([1.], name="v"); w = tf.Variable([2.], name="w"); s = tf.train.get_or_create_global_step(); sv = tf.train.Supervisor(logdir=d); log(err(lambda: sv.prepare_or_wait_for_session(""), "w", "not found in checkpoint"))
        with tf.Graph().as_default():
            v = tf.Variable([1.], name="v"); w = tf.Variable([2.], name="w"); sv = tf.train.Supervisor(logdir=d, saver=tf.train.Saver([v]), ready_op=None, local_init_op=w.initializer); sess = sv.prepare_or_wait_for_session(""); log(*sess.run([v, w])); sv.stop(); sess.close()


@program
def supervisor_starts_from_a_model(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess: v = tf.Variable([7.], name="v"); sess.run(v.initializer); path = tf.train.Saver().save(sess, d + "/pre")
        with tf.Graph().as_default():
            v = tf.Variable([0.], name="v"); pre = tf.train.Saver([v]); sv = tf.train.Supervisor(logdir=d + "/log", init_op=None, init_fn=lambda sess: pre.restore(sess, path))
            with sv.managed_session() as sess: log(sess.run(v)); log(sv.saver.save(sess, sv.save_path, 3).replace(d, "D"))
        with tf.Graph().as_default():
            v = tf.Variable([0.], name="v"); sv = tf.train.Supervisor(logdir=d + "/log", init_op=None, init_fn=lambda sess: log("no"))
            with sv.managed_session() as sess: log(sess.run(v))
        with tf.Graph().as_default():
            v = tf.Variable([0.], name="v"); sv = tf.train.Supervisor(logdir=d + "/log2", init_op=None); log(err(lambda: sv.prepare_or_wait_for_session(""), "Variables not initialized: v" ))


@program
def supervisor_stops_itself(tf, log):
    with folder() as d:
        step = tf.train.get_or_create_global_step(); v = tf.Variable([1.], name="v"); go = step.assign_add(1); sv = tf.train.Supervisor(logdir=d, global_step=step, save_model_secs=0, recovery_wait_secs=1, checkpoint_basename="m.ckpt", saver=tf.train.Saver(max_to_keep=2))
        with sv.managed_session("") as sess:
            while not sv.should_stop():
                n = sess.run(go); sv.saver.save(sess, sv.save_path, global_step=sv.global_step)
                if n >= 4: sv.request_stop()
        log(kept(d), state(d), sv.save_path.replace(d, "D"), [os.path.basename(x) for x in sv.saver.last_checkpoints])


@program
def transfer_of_layers(tf, log):
    def net(tf, scope, classes):
        with tf.variable_scope(scope):
            x = tf.get_variable("conv1/weights", initializer=wave(3, 3, 1, 2)); b = tf.get_variable("conv1/biases", initializer=tf.zeros([2]))
        with tf.variable_scope("logits"): l = tf.get_variable("weights", [2, classes], initializer=tf.constant_initializer(.5))
        return x, b, l
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess:
            x, b, l = net(tf, "vgg", 5); loss = tf.reduce_sum(x * x) + tf.reduce_sum(b) + tf.reduce_sum(l * l); step = tf.Variable(0, name="global_step", trainable=False); train = tf.train.MomentumOptimizer(.1, .9).minimize(loss, global_step=step); sess.run(tf.global_variables_initializer()); [sess.run(train) for _ in range(2)]; path = tf.train.Saver(tf.trainable_variables()).save(sess, d + "/vgg.ckpt"); full = tf.train.Saver(max_to_keep=None).save(sess, d + "/full.ckpt", global_step=step); log(names(path, tf), names(full, tf))
        with tf.Graph().as_default(), tf.Session() as sess:
            x, b, l = net(tf, "vgg", 3); restore = [v for v in tf.global_variables() if not v.name.startswith("logits")]; saver = tf.train.Saver(restore); sess.run(tf.global_variables_initializer()); saver.restore(sess, path); log(*sess.run([x, b, l]))
        with tf.Graph().as_default(), tf.Session() as sess:
            x, b, l = net(tf, "student", 5); saver = tf.train.Saver({v.op.name.replace("student/", "vgg/"): v for v in tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope="student")}); saver.restore(sess, full); log(*sess.run([x, b])); reader = tf.train.NewCheckpointReader(full); shapes = reader.get_variable_to_shape_map(); log(sorted((k, v) for k, v in shapes.items())); todo = {v.op.name: v for v in tf.global_variables() if v.op.name in shapes and shapes[v.op.name] == v.shape.as_list()}; log(sorted(todo)); tf.train.Saver(todo).restore(sess, full); log(sess.run(l))


@program
def loop_that_goes_on(tf, log):
    with folder() as d:
        for run in range(3):
            with tf.Graph().as_default(), tf.Session() as sess:
                w = tf.get_variable("w", initializer=wave(4)); step = tf.Variable(0, dtype=tf.int32, trainable=False, name="global_step"); train = tf.train.AdamOptimizer(.1).minimize(tf.reduce_sum(tf.square(w - 2.)), global_step=step); saver = tf.train.Saver(max_to_keep=3); ckpt = tf.train.get_checkpoint_state(os.path.dirname(d + "/checkpoints/checkpoint")); sess.run(tf.global_variables_initializer())
                if ckpt and ckpt.model_checkpoint_path: saver.restore(sess, ckpt.model_checkpoint_path); log("restored", int(ckpt.model_checkpoint_path.split("-")[-1]), len(ckpt.all_model_checkpoint_paths))
                for _ in range(4): _, now = sess.run([train, step]); saver.save(sess, d + "/checkpoints/model.ckpt", global_step=step)
                log(sess.run(w), tf.train.global_step(sess, step), kept(d + "/checkpoints"))


@program
def averages_are_evaluated(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess:
            w = tf.get_variable("w", initializer=wave(3)); b = tf.get_variable("b", initializer=[1.]); step = tf.train.get_or_create_global_step(); ema = tf.train.ExponentialMovingAverage(.9, step); train = tf.train.GradientDescentOptimizer(.1).minimize(tf.reduce_sum(w * w) + tf.reduce_sum(b), step)
            with tf.control_dependencies([train]): op = ema.apply(tf.trainable_variables())
            sess.run(tf.global_variables_initializer()); [sess.run(op) for _ in range(3)]; path = tf.train.Saver(tf.global_variables()).save(sess, d + "/m", step); log(names(path, tf))
        with tf.Graph().as_default(), tf.Session() as sess:
            w = tf.get_variable("w", initializer=wave(3)); b = tf.get_variable("b", initializer=[1.]); ema = tf.train.ExponentialMovingAverage(.9); restore = ema.variables_to_restore(); log(sorted(restore)); tf.train.Saver(restore).restore(sess, path); log(*sess.run([w, b]))


@program
def slots_of_all_optimizers(tf, log):
    with folder() as d:
        for maker in (lambda: tf.train.AdamOptimizer(.1), lambda: tf.train.MomentumOptimizer(.1, .9), lambda: tf.train.AdagradOptimizer(.1), lambda: tf.train.RMSPropOptimizer(.1, momentum=.5, centered=True), lambda: tf.train.FtrlOptimizer(.1), lambda: tf.train.AdadeltaOptimizer(.1), lambda: tf.train.ProximalAdagradOptimizer(.1)):
            for parts in (None, 3):
                def build():
                    with tf.variable_scope("m", partitioner=None if parts is None else tf.fixed_size_partitioner(parts)): w = tf.get_variable("w", [6, 2], initializer=cut(wave(6, 2)))
                    opt = maker(); return w, opt, opt.minimize(tf.reduce_sum(tf.square(tf.convert_to_tensor(w) - 1.)))
                with tf.Graph().as_default(), tf.Session() as sess:
                    w, opt, train = build(); saver = tf.train.Saver(); sess.run(tf.global_variables_initializer()); [sess.run(train) for _ in range(2)]; path = saver.save(sess, d + "/" + type(opt).__name__ + str(parts)); [sess.run(train) for _ in range(2)]; end = sess.run(tf.convert_to_tensor(w)); log(type(opt).__name__, parts, names(path, tf), end)
                with tf.Graph().as_default(), tf.Session() as sess: w, opt, train = build(); tf.train.Saver().restore(sess, path); [sess.run(train) for _ in range(2)]; log(bool(np.allclose(sess.run(tf.convert_to_tensor(w)), end)))


@program
def saver_of_collections(tf, log):
    with folder() as d, tf.Session() as sess:
        a = tf.Variable(1., name="a"); l = tf.Variable(2., name="l", collections=[tf.GraphKeys.LOCAL_VARIABLES]); t = tf.Variable(3, name="t", trainable=False); sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()]); log(names(tf.train.Saver().save(sess, d + "/g"), tf), names(tf.train.Saver(tf.trainable_variables()).save(sess, d + "/t"), tf), names(tf.train.Saver(tf.local_variables() + [a]).save(sess, d + "/l"), tf), names(tf.train.Saver({v.op.name: v for v in tf.global_variables()}).save(sess, d + "/d"), tf), names(tf.train.Saver(tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES, scope="a")).save(sess, d + "/s"), tf))
        saver = tf.train.Saver(); b = tf.Variable(9., name="b"); log(names(saver.save(sess, d + "/late"), tf), err(lambda: tf.train.Saver().save(sess, d + "/unready"), "b"))


@program
def variables_are_loaded(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess: w = tf.get_variable("w", initializer=wave(2, 2)); e = tf.get_variable("emb", initializer=wave(5, 2)); sess.run(tf.global_variables_initializer()); path = tf.train.Saver().save(sess, d + "/m")
        with tf.Graph().as_default(), tf.Session() as sess:
            w = tf.get_variable("w", initializer=tf.train.load_variable(path, "w")); e = tf.get_variable("emb", [7, 2], initializer=tf.zeros_initializer()); old = tf.train.load_variable(path, "emb"); sess.run(tf.global_variables_initializer()); e.load(np.concatenate([old, np.ones([2, 2], np.float32)]), sess); log(*sess.run([w, e])); sess.run(tf.assign(w, tf.train.load_checkpoint(path).get_tensor("w") * 2)); log(sess.run(w)); [v.load(tf.train.load_variable(path, v.op.name), sess) for v in [w]]; log(sess.run(w))


@program
def variables_that_fit_a_checkpoint(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess:
            a = tf.get_variable("enc/w", initializer=wave(2)); b = tf.get_variable("dec/w", initializer=wave(3)); sess.run(tf.global_variables_initializer()); p = tf.train.Saver().save(sess, d + "/m")
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("model"): a = tf.get_variable("enc/w", [2]); c = tf.get_variable("head", initializer=[7.])
            saved = dict(tf.train.list_variables(p)); fits = {}
            for v in tf.global_variables():
                n = v.op.name.split("model/", 1)[1]
                if n in saved and saved[n] == v.shape.as_list(): fits[n] = v
            log(sorted(fits)); tf.train.init_from_checkpoint(p, fits); sess.run(tf.global_variables_initializer()); log(*sess.run([a, c])); log(err(lambda: tf.train.init_from_checkpoint(p, {"enc/w": c}), "Shape of variable"), err(lambda: tf.train.init_from_checkpoint(p, {v.op.name: v for v in tf.global_variables()}), "not found in"))
            tf.train.init_from_checkpoint(p, {"enc/": "model/enc/"}); sess.run(a.initializer); log(sess.run(a), err(lambda: tf.train.init_from_checkpoint(p, {"/": "model/"}), "head"))


@program
def assignment_map_of_bert(tf, log):
    def assignment_map(tvars, ckpt):
        names = collections.OrderedDict((re.match("^(.*):\\d+$", v.name).group(1), v) for v in tvars); out = collections.OrderedDict(); done = {}
        for x in tf.train.list_variables(ckpt):
            if x[0] not in names: continue
            out[x[0]] = x[0]; done[x[0]] = 1; done[x[0] + ":0"] = 1
        return out, done
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("bert"): e = tf.get_variable("embeddings/word_embeddings", initializer=wave(5, 2)); k = tf.get_variable("encoder/layer_0/kernel", initializer=wave(2, 2)); g = tf.get_variable("ln/gamma", initializer=[1., 2.])
            tr = tf.train.AdamOptimizer(.1).minimize(tf.reduce_sum(tf.nn.embedding_lookup(e, [1, 3]) @ k) + tf.reduce_sum(g)); sess.run(tf.global_variables_initializer()); sess.run(tr); p = tf.train.Saver().save(sess, d + "/bert_model.ckpt"); log(names(p, tf))
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("bert"): e = tf.get_variable("embeddings/word_embeddings", [5, 2]); k = tf.get_variable("encoder/layer_0/kernel", [2, 2]); g = tf.get_variable("ln/gamma", [2])
            o = tf.get_variable("output_weights", initializer=[9.]); m, done = assignment_map(tf.trainable_variables(), p); log(list(m), sorted(done)); tf.train.init_from_checkpoint(p, m); sess.run(tf.global_variables_initializer()); log(*sess.run([e, k, g, o])); log([v.name for v in tf.trainable_variables() if v.name in done])
