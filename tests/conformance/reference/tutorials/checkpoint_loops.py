"""Training loops that save and go on from what was saved: hooks, scaffolds, session managers, supervisors.

Each is a function of ``tf`` and of what notes the values that are compared: see ``tutorials/__init__.py``.
"""

import os

from tests.conformance.reference.tutorials.checkpoints import fails, folder, kept, state
from tests.conformance.reference.tutorials.values import program, wave


def trained(tf):
    """Returns a small model: its variable, the global step and the operation that trains."""
    w = tf.get_variable("w", initializer=wave(3)); step = tf.train.get_or_create_global_step()
    return w, step, tf.train.AdamOptimizer(.1).minimize(tf.reduce_sum(tf.square(w - 1.)), global_step=step)


@program
def session_goes_on_from_its_checkpoint(tf, log):
    with folder() as d:
        for last in (5, 5, 8):
            with tf.Graph().as_default():
                w, step, train = trained(tf); seen = []
                hooks = [tf.train.StopAtStepHook(last_step=last)]
                with tf.train.MonitoredTrainingSession(checkpoint_dir=d, save_checkpoint_steps=2, save_summaries_steps=None, log_step_count_steps=None, hooks=hooks) as sess:
                    seen.append(sess.run(step))
                    while not sess.should_stop(): seen.append(sess.run([step, train])[0])
                log([int(each) for each in seen], kept(d), state(d)); log(tf.train.load_variable(d, "w"), len(tf.get_collection(tf.GraphKeys.SAVERS)), tf.get_collection(tf.GraphKeys.SAVERS)[0].saver_def.save_tensor_name)


@program
def session_saves_by_the_clock(tf, log):
    for options in ({}, {"save_checkpoint_secs": 100}, {"save_checkpoint_steps": 3}, {"save_checkpoint_secs": None}, {"save_checkpoint_steps": 0, "save_checkpoint_secs": None}, {"save_checkpoint_secs": 0}):
        with folder() as d, tf.Graph().as_default():
            step = tf.train.get_or_create_global_step(); add = step.assign_add(1)
            with tf.train.MonitoredTrainingSession(checkpoint_dir=d, hooks=[tf.train.StopAtStepHook(last_step=7)], **options) as sess:
                while not sess.should_stop(): sess.run(add)
            log(sorted(options), [name for name in kept(d) if name.endswith(".index")], any("tfevents" in name for name in os.listdir(d)))


@program
def session_with_errors(tf, log):
    w, step, train = trained(tf)
    with folder() as d:
        try:
            with tf.train.MonitoredTrainingSession(checkpoint_dir=d, save_checkpoint_steps=100) as sess:
                for _ in range(3): sess.run(train)
                raise KeyError("stop")
        except KeyError: log(kept(d))
        with tf.train.MonitoredTrainingSession(checkpoint_dir=d, save_checkpoint_steps=100) as sess:
            log(sess.run(step)); sess.run(train)
        log(kept(d))
        with tf.train.SingularMonitoredSession(checkpoint_dir=d) as sess: log(sess.run([w, step]), type(sess.raw_session()).__name__)
        with tf.train.SingularMonitoredSession(checkpoint_filename_with_path=d + "/model.ckpt-0") as sess: log(sess.run([w, step]))
        log(fails(lambda: tf.train.SingularMonitoredSession(checkpoint_filename_with_path=d + "/none")), fails(lambda: tf.train.SingularMonitoredSession(checkpoint_dir=d, checkpoint_filename_with_path=d + "/model.ckpt-0")))
        creator = tf.train.ChiefSessionCreator(checkpoint_dir=d, config=None); log(creator.create_session().run(step))
        creator = tf.train.ChiefSessionCreator(checkpoint_filename_with_path=d + "/model.ckpt-0"); log(creator.create_session().run(step))


@program
def hook_and_listeners(tf, log):
    class Listener(tf.train.CheckpointSaverListener):
        def __init__(self, name, stop_at=None): self.name, self.stop_at, self.seen = name, stop_at, seen
        def begin(self): self.seen.append([self.name, "begin"])
        def before_save(self, session, step): self.seen.append([self.name, "before", int(step)])
        def after_save(self, session, step): self.seen.append([self.name, "after", int(step)]); return step == self.stop_at
        def end(self, session, step): self.seen.append([self.name, "end", int(step)])
    with folder() as d:
        for stop_at, last in ((None, 5), (4, 9)):
            seen = []
            with tf.Graph().as_default():
                w, step, train = trained(tf); saver = tf.train.Saver([w], max_to_keep=2)
                hook = tf.train.CheckpointSaverHook(d, save_steps=2, saver=saver, checkpoint_basename="mine", listeners=[Listener("a"), Listener("b", stop_at)])
                with tf.train.MonitoredTrainingSession(chief_only_hooks=[hook], hooks=[tf.train.StopAtStepHook(last_step=last)]) as sess:
                    while not sess.should_stop(): sess.run(train)
            log(seen, kept(d), state(d))


@program
def hook_arguments(tf, log):
    with folder() as d:
        log(fails(lambda: tf.train.CheckpointSaverHook(d)), fails(lambda: tf.train.CheckpointSaverHook(d, 1, 1)), fails(lambda: tf.train.CheckpointSaverHook(d, save_steps=1).begin()))
        step = tf.train.get_or_create_global_step(); saver = tf.train.Saver(); scaffold = tf.train.Scaffold()
        log(fails(lambda: tf.train.CheckpointSaverHook(d, save_steps=1, saver=saver, scaffold=scaffold)), fails(lambda: tf.train.Scaffold(saver=saver).saver is saver))
        def used(hook):
            with tf.Session() as sess:
                sess.run(tf.global_variables_initializer()); hook.begin(); hook.after_create_session(sess, None)
            return "saved"
        log(fails(lambda: used(tf.train.CheckpointSaverHook(d, save_steps=1))))
        tf.add_to_collection(tf.GraphKeys.SAVERS, saver); log(fails(lambda: used(tf.train.CheckpointSaverHook(d, save_steps=1))), kept(d))
        tf.add_to_collection(tf.GraphKeys.SAVERS, tf.train.Saver(name="second")); log(fails(lambda: used(tf.train.CheckpointSaverHook(d, save_steps=1))))


@program
def scaffold_savers(tf, log):
    w = tf.get_variable("w", initializer=wave(3)); step = tf.train.get_or_create_global_step()
    with folder() as d:
        seen = []; scaffold = tf.train.Scaffold(saver=tf.train.Saver([w, step], name="own"), init_fn=lambda scaffold, sess: seen.append("init_fn"), init_op=tf.global_variables_initializer(), ready_op=tf.constant([], tf.string))
        for _ in range(2):
            with tf.train.MonitoredTrainingSession(checkpoint_dir=d, scaffold=scaffold, save_checkpoint_steps=1) as sess: sess.run(tf.train.get_global_step())
            log(seen, [name for name, _ in tf.train.list_variables(d)], scaffold.saver.saver_def.save_tensor_name, len(tf.get_collection(tf.GraphKeys.SAVERS)))
    with tf.Graph().as_default():
        v = tf.Variable(1.); late = tf.train.Saver(defer_build=True); tf.add_to_collection(tf.GraphKeys.SAVERS, late); after = tf.Variable(2.)
        scaffold = tf.train.Scaffold().finalize(); log(scaffold.saver is late, late.saver_def.restore_op_name, len(tf.get_collection(tf.GraphKeys.SAVERS)), tf.train.Scaffold(copy_from_scaffold=scaffold).saver is late)
    with tf.Graph().as_default():
        scaffold = tf.train.Scaffold().finalize(); log(type(scaffold.saver).__name__, len(tf.get_collection(tf.GraphKeys.SAVERS)))
    with tf.Graph().as_default():
        v = tf.Variable(1.); [tf.add_to_collection(tf.GraphKeys.SAVERS, tf.train.Saver()) for _ in range(2)]; log(fails(lambda: tf.train.Scaffold().finalize()))


@program
def managers_prepare_and_recover(tf, log):
    v = tf.get_variable("v", initializer=[1.]); u = tf.get_variable("u", initializer=[2.]); saver = tf.train.Saver(); part = tf.train.Saver([v], name="part"); init = tf.global_variables_initializer()
    ready = tf.report_uninitialized_variables(); local = tf.get_local_variable("l", initializer=[4.]); local_init = tf.local_variables_initializer()
    with folder() as d:
        manager = tf.train.SessionManager(ready_op=ready, local_init_op=local_init); tf.add_to_collection("x", 1)
        with manager.prepare_session("", init, saver=saver, checkpoint_dir=d) as sess: log(*sess.run([v, u, local])); sess.run([v.assign([7.]), u.assign([8.])]); path = saver.save(sess, d + "/m", 3); partial = part.save(sess, d + "/p", write_state=False)
        with manager.prepare_session("", init, saver=saver, checkpoint_dir=d, init_fn=lambda sess: log("never")) as sess: log(*sess.run([v, u, local]), saver.last_checkpoints == [path])
        with manager.prepare_session("", init, saver=saver, checkpoint_filename_with_path=path) as sess: log(*sess.run([v, u]))
        with manager.prepare_session("", init, saver=None, checkpoint_dir=d) as sess: log(*sess.run([v, u]))
        log(fails(lambda: manager.prepare_session("", init, saver=part, checkpoint_filename_with_path=partial)), fails(lambda: manager.prepare_session("", None, saver=saver, checkpoint_dir=d).run(v)[0].item() == 7.), fails(lambda: manager.prepare_session("", init, saver=saver, checkpoint_dir=d, checkpoint_filename_with_path=path)), fails(lambda: manager.prepare_session("", init, saver=saver, checkpoint_filename_with_path=d + "/none")))
        for given in ({}, {"saver": saver, "checkpoint_dir": d}, {"saver": part, "checkpoint_filename_with_path": partial}, {"saver": saver, "checkpoint_dir": d + "/none"}, {"saver": saver, "checkpoint_dir": d + "/none", "wait_for_checkpoint": True, "max_wait_secs": 0}):
            sess, is_ready = manager.recover_session("", **given); log(sorted(given), is_ready, sess.run(local)); sess.close()


@program
def supervisor_saves_and_goes_on(tf, log):
    with folder() as d:
        for _ in range(2):
            with tf.Graph().as_default():
                w, step, train = trained(tf); sv = tf.train.Supervisor(logdir=d + "/logs", save_model_secs=0, save_summaries_secs=0, checkpoint_basename="sv.ckpt", summary_op=None)
                with sv.managed_session() as sess:
                    log(sess.run([w, step]))
                    for _ in range(3): sess.run(train)
                    sv.saver.save(sess, sv.save_path, global_step=sv.global_step)
                log(kept(d + "/logs"), sv.save_path.replace(d, "DIR"), sv.save_model_secs, sv.saver.saver_def.save_tensor_name, len(tf.get_collection(tf.GraphKeys.SAVERS)))
        with tf.Graph().as_default():
            w, step, train = trained(tf); sv = tf.train.Supervisor(logdir=d + "/logs", saver=None, summary_op=None)
            with sv.managed_session() as sess: log(sess.run(step), sv.saver)
        with tf.Graph().as_default():
            w, step, train = trained(tf); mine = tf.train.Saver([w, step]); sv = tf.train.Supervisor(logdir=d + "/mine", saver=mine, save_model_secs=100, save_summaries_secs=0, summary_op=None)
            with sv.managed_session() as sess: log(sess.run(step), sv.saver is mine, sv.save_model_secs)
        with tf.Graph().as_default():
            w, step, train = trained(tf); sv = tf.train.Supervisor(is_chief=False, logdir=d + "/other"); log(sv.save_path, sv.save_model_secs, type(sv.saver).__name__)


@program
def supervisor_threads_save(tf, log):
    import threading
    w, step, train = trained(tf); saved = threading.Event()
    class Noted(tf.train.Saver):
        def save(self, *args, **kw): path = super().save(*args, **kw); saved.set(); return path
    with folder() as d:
        sv = tf.train.Supervisor(logdir=d, saver=Noted(), save_model_secs=1000, save_summaries_secs=0, summary_op=None)
        with sv.managed_session() as sess: log(saved.wait(60))
        log(kept(d))
