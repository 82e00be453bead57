"""Programs that save and restore: savers, their files and errors, the state file, variables in parts, warm starts.

Each is a function of ``tf`` and of what notes the values that are compared: see ``tutorials/__init__.py``.
"""

import contextlib
import os
import tempfile
from pathlib import Path
from unittest import mock

import numpy as np

from tests.conformance.reference.tutorials.values import program, wave


@contextlib.contextmanager
def folder():
    with tempfile.TemporaryDirectory() as path: yield path


def kept(path):
    """Returns the files of checkpoints in a folder; graphs and events are no part of what is compared."""
    return sorted(name for name in os.listdir(path) if not name.endswith((".meta", ".pbtxt")) and "tfevents" not in name)


def state(path, name="checkpoint"):
    """Returns the text of the state file, with its folder called DIR."""
    file = Path(path, name)
    return file.read_text().replace(str(path), "DIR") if file.exists() else None


def cut(value):
    """Returns an initializer that gives each part of a variable what belongs to it."""
    def initial(shape, dtype=None, partition_info=None):
        start = [0] * len(shape) if partition_info is None else partition_info.var_offset
        return value[tuple(slice(first, first + size) for first, size in zip(start, shape))]
    return initial


def fails(function):
    """Returns what a function returns, or the kind of its error."""
    try: made = function()
    except Exception as error: return next((kind.__name__ for kind in type(error).__mro__ if kind in (TypeError, ValueError, AssertionError, RuntimeError)), type(error).__name__)
    return made if isinstance(made, (str, int, bool, type(None))) else type(made).__name__


@program
def saver_saves_and_restores(tf, log):
    w = tf.get_variable("w", initializer=wave(2, 3)); b = tf.Variable([1., 2.], name="b"); n = tf.Variable(np.int64(7), name="n", trainable=False)
    t = tf.Variable(["one", "three\x00"], name="t"); flag = tf.Variable([True, False], name="flag"); z = tf.Variable(np.array([1 + 2j, 3j], np.complex64), name="z"); none = tf.Variable(np.zeros([0, 3], np.float64), name="none")
    saver = tf.train.Saver()
    with folder() as d:
        path = os.path.join(d, "model.ckpt")
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer()); log(os.path.basename(saver.save(sess, path)), kept(d), state(d))
            sess.run([w.assign(w * 2), b.assign([5., 6.]), n.assign(9), t.assign(["x", "y"]), flag.assign([False, False])])
            log(saver.restore(sess, path), *sess.run([w, b, n, t, flag, z, none]))
        with tf.Session() as sess:
            log(sess.run(tf.report_uninitialized_variables())); saver.restore(sess, path); log(sess.run(tf.report_uninitialized_variables()), *sess.run([w, b, n, t, flag, z, none]))
        log(tf.train.latest_checkpoint(d) == path, tf.train.checkpoint_exists(path), [[name, list(shape)] for name, shape in tf.train.list_variables(path)], tf.train.load_variable(path, "w"))
    log(saver.saver_def.filename_tensor_name, saver.saver_def.save_tensor_name, saver.saver_def.restore_op_name, saver.saver_def.max_to_keep, saver.saver_def.keep_checkpoint_every_n_hours, saver.saver_def.sharded, saver.saver_def.version)


@program
def saver_of_lists_and_dicts(tf, log):
    with tf.variable_scope("net"): w = tf.get_variable("w", initializer=wave(3)); b = tf.get_variable("b", initializer=[4.])
    other = tf.Variable([8., 9., 10.], name="other"); local = tf.Variable([6.], name="local", collections=[tf.GraphKeys.LOCAL_VARIABLES])
    savers = [tf.train.Saver(), tf.train.Saver([w, b]), tf.train.Saver((other,)), tf.train.Saver({"old/w": w, "old/b": b}), tf.train.Saver({"w_as_other": other}, name="named"), tf.train.Saver([local])]
    read = tf.train.Saver({"old/w": other})
    log([saver.saver_def.save_tensor_name for saver in [*savers, read]])
    with folder() as d, tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        for i, saver in enumerate(savers):
            path = saver.save(sess, os.path.join(d, "part%d" % i)); log([[name, list(shape)] for name, shape in tf.train.list_variables(path)])
        read.restore(sess, os.path.join(d, "part3")); log(sess.run(other))
        sess.run([each.initializer for each in (w, b, other)]); sess.run(w.assign([0., 0., 0.])); savers[1].restore(sess, os.path.join(d, "part1")); log(sess.run([w, b, other]))
        log(saver.last_checkpoints == [os.path.join(d, "part5")], tf.train.get_checkpoint_state(d).model_checkpoint_path == os.path.join(d, "part5"))


@program
def saver_wrong_arguments(tf, log):
    log(fails(lambda: tf.train.Saver())); empty = tf.train.Saver(allow_empty=True)
    with tf.Session(graph=tf.Graph()) as sess:
        tf.no_op(); log(empty.save(sess, "nowhere/x", write_meta_graph=False), empty.restore(sess, None))
    a = tf.get_variable("a", initializer=[1.]); b = tf.get_variable("b", initializer=[2.]); c = tf.constant(3., name="c")
    with tf.variable_scope("p"): parts = tf.get_variable("v", [4, 2], initializer=cut(wave(4, 2)), partitioner=tf.fixed_size_partitioner(2))
    log(fails(lambda: tf.train.Saver([a, a])), fails(lambda: tf.train.Saver({"x": a, "y": a})), fails(lambda: tf.train.Saver({"x": c})), fails(lambda: tf.train.Saver([c])), fails(lambda: tf.train.Saver(5)), fails(lambda: tf.train.Saver("a")))
    log(fails(lambda: tf.train.Saver({5: a})), fails(lambda: tf.train.Saver({"x": [a, b]})), fails(lambda: tf.train.Saver([])), fails(lambda: tf.train.Saver({})), fails(lambda: tf.train.Saver([a], defer_build=True)))
    log(fails(lambda: tf.train.Saver({"v": parts})), fails(lambda: tf.train.Saver([parts])), fails(lambda: tf.train.Saver([list(parts)[0]])), fails(lambda: tf.train.Saver({"a": a, "x": list(parts)})), fails(lambda: tf.train.Saver([a, list(parts)])), fails(lambda: tf.train.Saver({a})))
    saver = tf.train.Saver([a, b]); late = tf.train.Saver(defer_build=True)
    with folder() as d, tf.Session() as sess:
        log(fails(lambda: saver.save(sess, d + "/x"))); sess.run(tf.global_variables_initializer())
        log(fails(lambda: late.save(sess, d + "/x")), fails(lambda: late.restore(sess, d + "/x")))
        log(fails(lambda: saver.save(sess, d + "/x", latest_filename="a/b")), fails(lambda: saver.save(sess, d + "/checkpoint")), fails(lambda: saver.save(sess, d + "/checkpoint", global_step=3).replace(d, "DIR")), fails(lambda: saver.save("no session", d + "/x")), fails(lambda: saver.save(sess, d + "/missing/x").replace(d, "DIR")), fails(lambda: saver.save(sess, d + "/x", latest_filename="x")))
        log(kept(d)); late.build(); late.build(); log(fails(lambda: late.save(sess, d + "/late").replace(d, "DIR")), kept(d))


@program
def saver_cannot_restore(tf, log):
    a = tf.get_variable("a", initializer=[1., 2.]); b = tf.get_variable("b", initializer=[3.]); c = tf.get_variable("c", initializer=5)
    with folder() as d, tf.Session() as sess:
        sess.run(tf.global_variables_initializer()); path = tf.train.Saver([a, c]).save(sess, d + "/m")
        log(fails(lambda: tf.train.Saver().restore(sess, None)), fails(lambda: tf.train.Saver().restore(sess, d + "/none")))
        sess.run(a.assign([9., 9.]))
        for names in ({"a": a, "b": b}, {"a": a, "c": b}, {"b": c, "a": a}):
            saver = tf.train.Saver(names)
            try: saver.restore(sess, path)
            except Exception as error: log(type(error).__name__, [part in str(error) for part in ("Restoring from checkpoint failed", "graph key that is missing", "a mismatch between the current graph", "b", "c")])
        log(sess.run([a, b, c]))
        Path(d, "m.index").write_bytes(b"no table")
        log(fails(lambda: tf.train.Saver([a]).restore(sess, path)))


@program
def saver_keeps_the_newest(tf, log):
    v = tf.Variable(0., name="v")
    with folder() as d, tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for most in (2, 1, 0, None):
            saver = tf.train.Saver(max_to_keep=most); sub = os.path.join(d, str(most)); os.mkdir(sub)
            for step in range(4):
                saver.save(sess, os.path.join(sub, "m"), global_step=step)
                log([os.path.basename(each) for each in saver.last_checkpoints], kept(sub))
            log(state(sub), saver.saver_def.max_to_keep)
        saver = tf.train.Saver(max_to_keep=2); sub = os.path.join(d, "again"); os.mkdir(sub)
        for step in (1, 2, 1, 3): saver.save(sess, os.path.join(sub, "m"), global_step=step)
        log([os.path.basename(each) for each in saver.last_checkpoints], kept(sub), state(sub))
        saver.save(sess, os.path.join(sub, "m"), 9, write_state=False); saver.save(sess, os.path.join(sub, "m"), 10, latest_filename="other"); log(kept(sub), state(sub), state(sub, "other"))
        log(os.path.basename(tf.train.latest_checkpoint(sub)), os.path.basename(tf.train.latest_checkpoint(sub, "other")), tf.train.latest_checkpoint(d))


@program
def saver_keeps_some_by_the_hour(tf, log):
    v = tf.Variable(0., name="v")
    with folder() as d, tf.Session() as sess, mock.patch("time.time") as clock:
        sess.run(tf.global_variables_initializer()); clock.return_value = 1e6
        saver = tf.train.Saver(max_to_keep=1, keep_checkpoint_every_n_hours=1.)
        for step in range(10):
            clock.return_value += 1500.
            saver.save(sess, d + "/m", global_step=step)
        log(kept(d), state(d), saver.saver_def.keep_checkpoint_every_n_hours)


@program
def saver_remembers_after_a_crash(tf, log):
    v = tf.Variable(0., name="v"); names = lambda saver: [os.path.basename(each) for each in saver.last_checkpoints]
    with folder() as d, tf.Session() as sess:
        sess.run(tf.global_variables_initializer()); first = tf.train.Saver(max_to_keep=3)
        for step in range(3): first.save(sess, d + "/m", step)
        second = tf.train.Saver(max_to_keep=3); log(names(second))
        second.recover_last_checkpoints(tf.train.get_checkpoint_state(d).all_model_checkpoint_paths); log(names(second))
        second.save(sess, d + "/m", 7); log(names(second), kept(d))
        third = tf.train.Saver(max_to_keep=2); third.recover_last_checkpoints([d + "/gone", d + "/m-7"]); log(names(third))
        third.set_last_checkpoints([d + "/m-1", d + "/m-2"]); log(names(third)); third.save(sess, d + "/n"); log(names(third), kept(d))
        third.set_last_checkpoints_with_time([(d + "/m-2", 5.), (d + "/n", 6.)]); third.save(sess, d + "/o"); log(names(third), kept(d))
        log(fails(lambda: third.set_last_checkpoints((d,))), fails(lambda: third.set_last_checkpoints_with_time("x")), len(tf.train.get_checkpoint_mtimes([d + "/n", d + "/gone", d + "/o"])))


@program
def saver_numbers_its_files(tf, log):
    v = tf.Variable(0., name="v"); step = tf.train.get_or_create_global_step(); other = tf.Variable(41, name="other", trainable=False)
    with folder() as d, tf.Session() as sess:
        sess.run(tf.global_variables_initializer()); sess.run(step.assign(12))
        saver, padded = tf.train.Saver(max_to_keep=0), tf.train.Saver(pad_step_number=True)
        for given in (3, np.int64(4), step, other, tf.constant(77)): log(os.path.basename(saver.save(sess, d + "/m", global_step=given)), os.path.basename(padded.save(sess, d + "/p", global_step=given)))
        log(os.path.basename(padded.save(sess, d + "/q")), os.path.basename(padded.save(sess, d + "/p", 123456789)), fails(lambda: saver.save(sess, d + "/m", "step")))
        log([list(shape) for name, shape in tf.train.list_variables(d + "/m-3")], tf.train.load_variable(d + "/m-3", "global_step"))


@program
def saver_with_relative_paths(tf, log):
    v = tf.Variable([3.], name="v")
    with folder() as d, tf.Session() as sess:
        sess.run(tf.global_variables_initializer()); here = os.getcwd()
        os.makedirs(d + "/one"); relative = tf.train.Saver(save_relative_paths=True, max_to_keep=2)
        for step in range(3): relative.save(sess, d + "/one/m", step)
        log(state(d + "/one")); os.rename(d + "/one", d + "/two"); found = tf.train.latest_checkpoint(d + "/two"); log(found.replace(d, "DIR")); relative.restore(sess, found)
        log([each.replace(d, "DIR") for each in tf.train.get_checkpoint_state(d + "/two").all_model_checkpoint_paths])
        os.chdir(d)
        try:
            os.mkdir("three"); saver = tf.train.Saver(); log(saver.save(sess, "three/m"), saver.save(sess, "three/m", 5), fails(lambda: saver.save(sess, "here")), fails(lambda: saver.save(sess, "./there")), state("three"), state("."), tf.train.latest_checkpoint("three"), saver.last_checkpoints)
            saver.restore(sess, tf.train.latest_checkpoint("three")); saver.restore(sess, "./three/m"); saver.restore(sess, "here")
        finally: os.chdir(here)
        os.rename(d + "/two", d + "/lost"); Path(d, "lost", "m-2.index").unlink(); log(tf.train.latest_checkpoint(d + "/lost"), tf.train.checkpoint_exists(d + "/lost/m-2"), tf.train.checkpoint_exists(d + "/lost/m-1"))


@program
def saver_of_variables_in_parts(tf, log):
    def net(parts, axis=0, name="v", value=None):
        with tf.variable_scope("net", partitioner=None if parts is None else tf.fixed_size_partitioner(parts, axis)):
            return tf.get_variable(name, [5, 4] if value is None else value.shape, initializer=tf.zeros_initializer() if value is None else cut(value))
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess:
            v = net(3, value=wave(5, 4)); whole = tf.get_variable("whole", initializer=wave(5, 4, phase=1.))
            saver = tf.train.Saver(); sess.run(tf.global_variables_initializer()); path = saver.save(sess, d + "/m")
            log([[name, list(shape)] for name, shape in tf.train.list_variables(path)], tf.train.load_variable(path, "net/v"), kept(d))
        for parts, axis in ((2, 0), (5, 0), (2, 1), (None, 0), (4, 1)):
            with tf.Graph().as_default(), tf.Session() as sess:
                v = net(parts, axis); tf.train.Saver().restore(sess, path); log(sess.run(tf.convert_to_tensor(v)))
                tf.train.Saver({"whole": v}).restore(sess, path); log(sess.run(tf.convert_to_tensor(v)))
                again = tf.train.Saver({"again": v}).save(sess, d + "/again%s%d" % (parts, axis)); log(tf.train.load_variable(again, "again"))
        with tf.Graph().as_default(), tf.Session() as sess:
            v = net(2, value=wave(6, 4)); log(fails(lambda: tf.train.Saver().restore(sess, path)))
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("net"): part = tf.get_variable("v/part_0", [2, 4])
            log(fails(lambda: tf.train.Saver().restore(sess, path)))


@program
def saver_of_slots_and_averages(tf, log):
    w = tf.get_variable("w", initializer=wave(3)); step = tf.train.get_or_create_global_step(); loss = tf.reduce_sum(tf.square(w - 1.))
    train = tf.train.AdamOptimizer(.1).minimize(loss, global_step=step); ema = tf.train.ExponentialMovingAverage(.5)
    with tf.control_dependencies([train]): train = ema.apply([w])
    saver = tf.train.Saver(); averages = tf.train.Saver(ema.variables_to_restore([w]))
    with folder() as d:
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            for _ in range(3): sess.run(train)
            path = saver.save(sess, d + "/m", step); log(os.path.basename(path), [[name, list(shape)] for name, shape in tf.train.list_variables(path)])
            for _ in range(3): sess.run(train)
            on = sess.run([w, loss, step])
        with tf.Session() as sess:
            saver.restore(sess, path); log(*sess.run(tf.global_variables()))
            for _ in range(3): sess.run(train)
            log(np.array_equal(on[0], sess.run(w)), *sess.run([loss, step])); averages.restore(sess, path); log(sess.run(w), tf.train.load_variable(path, "w/ExponentialMovingAverage"))


@program
def saver_of_other_shapes(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess:
            v = tf.get_variable("v", initializer=wave(2, 3)); sess.run(v.initializer); path = tf.train.Saver().save(sess, d + "/m")
        with tf.Graph().as_default(), tf.Session() as sess:
            v = tf.get_variable("v", [3, 2]); tf.train.Saver(reshape=True).restore(sess, path); log(sess.run(v))
        with tf.Graph().as_default(), tf.Session() as sess:
            v = tf.get_variable("v", initializer=wave(3, 2), use_resource=False); saver = tf.train.Saver(); sess.run(v.initializer)
            try: saver.restore(sess, path)
            except Exception as error: log(type(error).__name__, [part in str(error) for part in ("Restoring from checkpoint failed", "a mismatch between the current graph")], sess.run(v))
        with tf.Graph().as_default(), tf.Session() as sess:
            v = tf.get_variable("v", [4, 2]); log(fails(lambda: tf.train.Saver(reshape=True).restore(sess, path)))
        with tf.Graph().as_default(), tf.Session() as sess:
            v = tf.get_variable("v", [2, 3]); s = tf.train.Saver(sharded=True, restore_sequentially=True); s.restore(sess, path); log(s.saver_def.sharded, os.path.basename(s.save(sess, d + "/s")), kept(d)); s.restore(sess, d + "/s"); log(sess.run(v))


@program
def saver_from_a_definition(tf, log):
    v = tf.get_variable("v", initializer=[1., 2.]); saver = tf.train.Saver(max_to_keep=3, keep_checkpoint_every_n_hours=2., name="mine"); made = saver.as_saver_def()
    log(made.save_tensor_name, made.restore_op_name, made.filename_tensor_name, saver.to_proto().max_to_keep, saver.to_proto("mine").save_tensor_name, saver.to_proto("other"))
    again = tf.train.Saver(saver_def=made); third = tf.train.Saver.from_proto(saver.to_proto())
    with folder() as d, tf.Session() as sess:
        sess.run(v.initializer); path = again.save(sess, d + "/m"); sess.run(v.assign([7., 7.])); third.restore(sess, path); log(sess.run(v), again.last_checkpoints == [path], again.saver_def.max_to_keep, kept(d))
        sess.run(v.assign([7., 7.])); sess.run(made.restore_op_name, {made.filename_tensor_name: path}); log(sess.run(v))
        log(sess.run(made.save_tensor_name, {made.filename_tensor_name: d + "/n"}).decode().replace(d, "DIR"), kept(d))
        sess.run(v.assign([7., 7.])); sess.run("mine/%s" % [each.name.split("/")[1] for each in tf.get_default_graph().get_operations() if each.type.startswith("Assign") and each.name.startswith("mine/")][0], {made.filename_tensor_name: path}); log(sess.run(v))
    log(fails(lambda: tf.train.Saver(saver_def=tf.train.SaverDef())), fails(lambda: tf.train.Saver(saver_def="x")), tf.train.SaverDef.V2, tf.train.SaverDef.V1)


@program
def saver_while_the_graph_grows(tf, log):
    a = tf.get_variable("a", initializer=[1.]); saver = tf.train.Saver(); b = tf.get_variable("b", initializer=[2.])
    with folder() as d, tf.Session() as sess:
        sess.run(tf.global_variables_initializer()); path = saver.save(sess, d + "/m"); c = tf.get_variable("c", initializer=[3.])
        log([name for name, _ in tf.train.list_variables(path)]); saver.restore(sess, path); log(fails(lambda: tf.train.Saver().save(sess, d + "/n")), sess.run([a, b])); sess.run(c.initializer); log([name for name, _ in tf.train.list_variables(tf.train.Saver().save(sess, d + "/n"))])
    log(tf.get_collection(tf.GraphKeys.SAVERS), tf.get_collection(tf.GraphKeys.SAVEABLE_OBJECTS), tf.GraphKeys.SAVERS, tf.GraphKeys.SAVEABLE_OBJECTS)


@program
def state_files(tf, log):
    with folder() as d:
        made = tf.train.generate_checkpoint_state_proto(d, d + "/b", [d + "/a"]); log(made.model_checkpoint_path.replace(d, "DIR"), [each.replace(d, "DIR") for each in made.all_model_checkpoint_paths])
        made = tf.train.generate_checkpoint_state_proto("x", "x/b", ["x/a", "x/b"], [1., 2.], 3.); log(made.model_checkpoint_path, list(made.all_model_checkpoint_paths), list(made.all_model_checkpoint_timestamps), made.last_preserved_timestamp)
        log(fails(lambda: tf.train.generate_checkpoint_state_proto(d, "b", ["a", "b"], [1.])), tf.train.get_checkpoint_state(d), tf.train.latest_checkpoint(d), tf.train.get_checkpoint_mtimes([d + "/x"]))
        v = tf.Variable(1.); saver = tf.train.Saver()
        with tf.Session() as sess:
            sess.run(v.initializer); seen = []
            saver.save(sess, d + "/m", 0)
            for found in tf.train.checkpoints_iterator(d, timeout=0, timeout_fn=lambda: len(seen) == 3):
                seen.append(os.path.basename(found)); saver.save(sess, d + "/m", len(seen))
            log(seen, [os.path.basename(each) for each in tf.train.checkpoints_iterator(d, timeout=0)], list(tf.train.checkpoints_iterator(d + "/none", timeout=0)))


def old_model(tf, d):
    with tf.Graph().as_default(), tf.Session() as sess:
        with tf.variable_scope("old"): a = tf.get_variable("a", initializer=wave(2, 2)); b = tf.get_variable("b", initializer=[5., 6., 7., 8.])
        with tf.variable_scope("old/deep"): c = tf.get_variable("c", initializer=[9.])
        root = tf.get_variable("root", initializer=wave(5, 2, phase=2.)); sess.run(tf.global_variables_initializer()); return tf.train.Saver().save(sess, d + "/m")


@program
def variables_from_a_checkpoint(tf, log):
    with folder() as d:
        path = old_model(tf, d)
        for source in (path, d):
            with tf.Graph().as_default(), tf.Session() as sess:
                with tf.variable_scope("new"): a = tf.get_variable("a", [2, 2], initializer=tf.zeros_initializer()); b = tf.get_variable("b", [4])
                with tf.variable_scope("new/deep"): c = tf.get_variable("c", [1])
                e = tf.get_variable("e", initializer=[3.])
                log(tf.train.init_from_checkpoint(source, {"old/": "new/"})); sess.run(tf.global_variables_initializer()); log(*sess.run([a, b, c, e]), a.initializer.type[:6])
        with tf.Graph().as_default(), tf.Session() as sess:
            a = tf.get_variable("x", [2, 2]); b = tf.get_variable("y", [4]); p = tf.get_variable("p", [5, 2], partitioner=tf.fixed_size_partitioner(3)); q = tf.get_variable("q", [5, 2], partitioner=tf.fixed_size_partitioner(2)); two = tf.get_variable("two", [2, 2])
            tf.train.init_from_checkpoint(path, {"old/a": a, "old/b": "y", "root": "p"}); tf.train.init_from_checkpoint(path, [("root", list(q)), ("old/a", two)])
            sess.run(tf.global_variables_initializer()); log(*sess.run([a, b, tf.convert_to_tensor(p), tf.convert_to_tensor(q), two]))
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("some"): r = tf.get_variable("root", [5, 2])
            tf.train.init_from_checkpoint(path, {"/": "some/"}); sess.run(r.initializer); log(sess.run(r))
        with tf.Graph().as_default():
            with tf.variable_scope("new"): a = tf.get_variable("a", [2, 3]); u = tf.get_variable("u", [1])
            f = lambda *given: fails(lambda: tf.train.init_from_checkpoint(*given))
            log(f(path, {"old/a": a}), f(path, {"none": u}), f(path, {"old/a": "nothing"}), f(path, {"old/": "new/"}), f(path, {"old": "new"}), f(d + "/none", {"old/a": a}), f(path, {"old/b": "new/a"}))


@program
def warm_starts(tf, log):
    with folder() as d:
        path = old_model(tf, d)
        def values(build, *args, **kw):
            with tf.Graph().as_default(), tf.Session() as sess:
                made = build()
                try: tf.train.warm_start(path, *args, **kw)
                except Exception as error: return fails(lambda: tf.train.warm_start(path, *args, **kw))
                sess.run(tf.global_variables_initializer()); return sess.run([tf.convert_to_tensor(each) for each in made])
        def model(scope="old", partitioner=None):
            with tf.variable_scope(scope): a = tf.get_variable("a", [2, 2], initializer=tf.zeros_initializer()); b = tf.get_variable("b", [4], initializer=tf.zeros_initializer(), trainable=False)
            return [a, b, tf.get_variable("root", [5, 2], initializer=tf.zeros_initializer(), partitioner=partitioner)]
        log(*values(model)); log(*values(model, ".*root")); log(*values(model, ["old/b", "root"])); log(*values(lambda: model(partitioner=tf.fixed_size_partitioner(2)), None)); log(*values(lambda: model(partitioner=tf.fixed_size_partitioner(2))))
        log(*values(lambda: model("fresh"), var_name_to_prev_var_name={"fresh/a": "old/a"})); log(values(lambda: model("fresh"))); log(values(model, ".*", None, {"nothing": "old/a"})); log(values(model, 5)); log(values(model, [5]))
        with tf.Graph().as_default(), tf.Session() as sess:
            made = model("fresh"); tf.train.warm_start(d, [made[2]]); sess.run(tf.global_variables_initializer()); log(sess.run(made[2]))
