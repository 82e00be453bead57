"""More programs that save and restore, in the form of TensorFlow's own tests of savers, readers and warm starts."""

import os
import pathlib
from unittest import mock

import numpy as np

from tests.conformance.reference.tutorials.checkpoints import cut, folder, kept, state
from tests.conformance.reference.tutorials.values import program, wave


def names(path, tf):
    """Returns what is in a checkpoint."""
    return [[name, list(shape)] for name, shape in tf.train.list_variables(path)]


def err(function, *parts):
    """Returns the kind of an error and which parts its message has."""
    try: made = function()
    except Exception as error:
        kind = next((k.__name__ for k in type(error).__mro__ if k in (TypeError, ValueError, AssertionError, RuntimeError, NotImplementedError)), type(error).__name__)
        return [kind, *[part in str(error) for part in parts]]
    return made if isinstance(made, (str, int, bool, type(None))) else type(made).__name__


def create(tf, sess, d):
    prefix = os.path.join(d, "model"); v1 = tf.get_variable("var1", initializer=wave(1, 10)); v2 = tf.get_variable("var2", initializer=wave(10, 10)); v3 = tf.get_variable("var3", initializer=wave(100, 3))
    with tf.variable_scope("useful_scope"): v4 = tf.get_variable("var4", initializer=wave(9, 9))
    sess.run(tf.global_variables_initializer()); saver = tf.train.Saver(); saver.save(sess, prefix, global_step=0); saver.save(sess, prefix, global_step=1); return sess.run([v1, v2, v3, v4])


def write(tf, d, values):
    with tf.Graph().as_default(), tf.Session() as sess:
        for n, x in values.items(): tf.get_variable(n, initializer=x)
        sess.run(tf.global_variables_initializer()); return tf.train.Saver().save(sess, d + "/model-0")


@program
def saver_of_a_directory_that_is_moved(tf, log):
    with folder() as d:
        d1 = d + "/save_dir1"; d2 = d + "/save_dir2"; os.makedirs(d1); path1 = d1 + "/save_copy_restore"
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(10.0, name="v0"); v1 = tf.Variable(20.0, name="v1"); save = tf.train.Saver({"v0": v0, "v1": v1}, restore_sequentially=True, save_relative_paths=True)
            sess.run(tf.global_variables_initializer()); log(save.save(sess, path1) == path1); log(pathlib.Path(d1, "checkpoint").read_text())
        os.rename(d1, d2)
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(-1.0, name="v0"); v1 = tf.Variable(-1.0, name="v1"); save = tf.train.Saver({"v0": v0, "v1": v1})
            latest = tf.train.latest_checkpoint(d2); log(latest.replace(d, "DIR")); save.restore(sess, latest); log(*sess.run([v0, v1]))


@program
def saver_with_a_path_of_its_own(tf, log):
    with folder() as d:
        v0 = tf.Variable(0, name="v0"); filename = b"somerandomfilename"; save = tf.train.Saver({"v0": v0}, filename=filename.decode())
        with tf.Session() as sess:
            tensor = sess.graph.get_tensor_by_name(save.saver_def.filename_tensor_name); log(sess.run(tensor) == filename, tensor.dtype.name, tensor.op.type)


@program
def saver_without_a_checkpoint(tf, log):
    with folder() as d:
        v0 = tf.Variable(0, name="v0")
        with tf.Session() as sess:
            save = tf.train.Saver({"v0": v0}); log(err(lambda: save.restore(sess, "invalid path"), "The passed save_path is not a valid checkpoint: invalid path"))


@program
def saver_names(tf, log):
    v0 = tf.Variable([10.0], name="v0"); v2 = tf.Variable([20.0], name="v2"); ops = len(tf.get_default_graph().get_operations())
    log(err(lambda: tf.train.Saver({"v0": v0, "v2": v0})))
    save = tf.train.Saver({"v0": v0, "v2": v2}); log(save.as_saver_def().save_tensor_name, save.saver_def.restore_op_name)
    log([o.name for o in tf.get_default_graph().get_operations()[ops:] if not o.name.startswith("save_1")][:4])


@program
def saver_of_a_list(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(10.0, name="v0"); v1 = tf.Variable(20.0, name="v1"); save = tf.train.Saver([v0, v1]); sess.run(tf.global_variables_initializer()); path = save.save(sess, d + "/x"); log(names(path, tf))
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(-1.0, name="v0"); v1 = tf.Variable(-1.0, name="v1"); save = tf.train.Saver([v0, v1]); save.restore(sess, path); log(*sess.run([v0, v1]))
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(-1.0, name="v0_2"); v1 = tf.Variable(-1.0, name="v1"); save = tf.train.Saver([v0, v1]); sess.run(tf.global_variables_initializer()); log(err(lambda: save.restore(sess, path), "v0_2", "not found in checkpoint"))


@program
def saver_with_a_url(tf, log):
    with folder() as d:
        path = "file://" + d + "/uri"
        with tf.Session() as sess:
            v0 = tf.Variable(10.0, name="v0"); save = tf.train.Saver({"v0": v0}); sess.run(tf.global_variables_initializer())
            log(err(lambda: save.save(sess, path).replace(d, "DIR")), kept(d)); log(err(lambda: save.restore(sess, path)), err(lambda: names(path, tf) and "listed"), tf.train.checkpoint_exists(path), sess.run(v0))
            log(err(lambda: str(tf.train.latest_checkpoint("file://" + d)).replace(d, "DIR")), state(d))


@program
def saver_that_may_be_empty(tf, log):
    with folder() as d:
        with tf.Session() as sess:
            log(err(lambda: tf.train.Saver(), "No variables to save")); save = tf.train.Saver(allow_empty=True); val = save.save(sess, d + "/x"); log(val, kept(d))
            save.restore(sess, "whatever"); log(save.saver_def, save.last_checkpoints, save.as_saver_def())


@program
def saver_of_variables_without_names(tf, log):
    with folder() as d:
        path = d + "/variables"
        with tf.Graph().as_default(), tf.Session() as sess:
            one = tf.Variable(1.0); twos = tf.Variable([2.0, 2.0, 2.0]); init = tf.global_variables_initializer(); save = tf.train.Saver(); sess.run(init); save.save(sess, path); log(names(path, tf))
        with tf.Graph().as_default(), tf.Session() as sess:
            one = tf.Variable(0.0); twos = tf.Variable([0.0, 0.0, 0.0]); save = tf.train.Saver(); save.restore(sess, path); log(*sess.run([one, twos]))


@program
def saver_that_is_built_late(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable([3.2], name="v"); log(err(lambda: tf.train.Saver([v], defer_build=True), "cannot be deferred"))
        saver = tf.train.Saver(defer_build=True); sess.run(v.initializer); log(err(lambda: saver.save(sess, d + "/x"), "build"), err(lambda: saver.restore(sess, d + "/x")), saver.saver_def)
        w = tf.Variable([4.], name="w"); saver.build(); sess.run(w.initializer); log(saver.save(sess, d + "/x") == d + "/x", names(d + "/x", tf)); 
        log(err(lambda: tf.train.Saver(defer_build=True).to_proto()), err(lambda: tf.train.Saver(defer_build=True).as_saver_def()))


@program
def saver_in_shards(tf, log):
    with folder() as d:
        path = d + "/sharded"
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.device("/cpu:0"): v0 = tf.Variable(10, name="v0")
            with tf.device("/cpu:0"): v1 = tf.Variable(20, name="v1")
            save = tf.train.Saver({"v0": v0, "v1": v1}, sharded=True); sess.run(tf.global_variables_initializer()); val = save.save(sess, path); log(val == path, kept(d), tf.train.checkpoint_exists(path), len(tf.train.get_checkpoint_mtimes([path])))
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(111, name="v0"); v1 = tf.Variable(222, name="v1"); save = tf.train.Saver({"v0": v0, "v1": v1}, sharded=True); sess.run(tf.global_variables_initializer()); save.restore(sess, path); log(*sess.run([v0, v1]))
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(111, name="v0"); save = tf.train.Saver({"v0": v0}, sharded=True); save.restore(sess, path); log(sess.run(v0)); save.restore(sess, tf.train.latest_checkpoint(d)); log(save.saver_def.sharded, save.saver_def.save_tensor_name)
        log(tf.train.latest_checkpoint(d) == path, state(d))


@program
def saver_of_some_parts(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess:
            v = tf.get_variable("v", [6, 2], initializer=cut(wave(6, 2)), partitioner=tf.fixed_size_partitioner(3)); w = tf.get_variable("w", initializer=[5.])
            sess.run(tf.global_variables_initializer()); path = tf.train.Saver().save(sess, d + "/whole")
        with tf.Graph().as_default(), tf.Session() as sess:
            v = tf.get_variable("v", [6, 2], partitioner=tf.fixed_size_partitioner(3)); parts = list(v)
            tf.train.Saver([parts[1]]).restore(sess, path); log(sess.run(parts[1]), [sess.run(tf.is_variable_initialized(p)) for p in parts])
            tf.train.Saver({"v": parts[:2]}).restore(sess, path); log(sess.run(parts[0]))


@program
def saver_with_others_keeps_the_newest(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable(10.0, name="v"); save = tf.train.Saver({"v": v}, max_to_keep=2); sess.run(v.initializer); log(save.last_checkpoints)
        base = lambda l: [os.path.basename(x) for x in l]
        s1 = save.save(sess, d + "/s1"); log(base(save.last_checkpoints)); s2 = save.save(sess, d + "/s2"); log(base(save.last_checkpoints)); s3 = save.save(sess, d + "/s3"); log(base(save.last_checkpoints), tf.train.checkpoint_exists(s1), tf.train.checkpoint_exists(s2), tf.train.checkpoint_exists(s3), state(d))
        save2 = tf.train.Saver({"v": v}, max_to_keep=2); save2.set_last_checkpoints(save.last_checkpoints); log(base(save2.last_checkpoints)); save3 = tf.train.Saver({"v": v}, max_to_keep=2)
        s2 = save.save(sess, d + "/s2"); log(base(save.last_checkpoints), kept(d)); s1 = save.save(sess, d + "/s1"); log(base(save.last_checkpoints), kept(d), state(d))
        s2 = save2.save(sess, d + "/s2"); log(base(save2.last_checkpoints), kept(d)); s1 = save2.save(sess, d + "/s1"); log(base(save2.last_checkpoints), kept(d))
        s2 = save3.save(sess, d + "/s2"); log(base(save3.last_checkpoints)); s1 = save3.save(sess, d + "/s1"); log(base(save3.last_checkpoints), kept(d)); log(err(lambda: tf.train.Saver(max_to_keep=-1).save(sess, d + "/neg") and "saved"))


@program
def saver_in_shards_keeps_the_newest(tf, log):
    with folder() as d, tf.Session() as sess:
        v0 = tf.Variable(111, name="v0"); v1 = tf.Variable(222, name="v1"); save = tf.train.Saver({"v0": v0, "v1": v1}, sharded=True, max_to_keep=2); sess.run(tf.global_variables_initializer())
        for n in ("s1", "s2", "s3"): save.save(sess, d + "/" + n); log([os.path.basename(x) for x in save.last_checkpoints], kept(d))
        log(state(d))


@program
def saver_keeps_all(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable(10.0, name="v"); sess.run(v.initializer)
        for most in (None, 0):
            save = tf.train.Saver({"v": v}, max_to_keep=most); sub = d + "/%s" % most; os.makedirs(sub); log(save.last_checkpoints); s1 = save.save(sess, sub + "/s1"); log(save.last_checkpoints, tf.train.checkpoint_exists(s1)); s2 = save.save(sess, sub + "/s2"); log(save.last_checkpoints, tf.train.checkpoint_exists(s2), state(sub))


@program
def saver_without_a_graph(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable(10.0, name="v"); save = tf.train.Saver({"v": v}); sess.run(v.initializer); s1 = save.save(sess, d + "/s1", write_meta_graph=False); log(tf.train.checkpoint_exists(s1), sorted(os.listdir(d)), save.save(sess, d + "/s2", strip_default_attrs=True, write_meta_graph=False) == d + "/s2")
        save.save(sess, d + "/s3", meta_graph_suffix="mymeta", write_meta_graph=False); save.save(sess, d + "/s4", None, "state", "meta", False, True, False); log(kept(d), state(d, "state"))


@program
def saver_keeps_some_by_the_second(tf, log):
    with folder() as d, tf.Session() as sess, mock.patch("time.time") as clock:
        clock.return_value = 1000.; v = tf.Variable([10.0], name="v"); sess.run(v.initializer); save = tf.train.Saver({"v": v}, max_to_keep=2, keep_checkpoint_every_n_hours=0.7 / 3600)
        clock.return_value = 1000. + .1; s1 = save.save(sess, d + "/s1"); clock.return_value = 1000.2; s2 = save.save(sess, d + "/s2"); clock.return_value = 1000.8; s3 = save.save(sess, d + "/s3"); log([os.path.basename(x) for x in save.last_checkpoints], kept(d)); s4 = save.save(sess, d + "/s4"); log([os.path.basename(x) for x in save.last_checkpoints], kept(d)); clock.return_value = 1003.; save.save(sess, d + "/s5"); save.save(sess, d + "/s6"); save.save(sess, d + "/s7"); save.save(sess, d + "/s8"); log(kept(d))


@program
def saver_with_other_names(tf, log):
    with folder() as d:
        path = d + "/m"
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(10.0, name="v0"); v1 = tf.Variable(20.0, name="v1"); save = tf.train.Saver({"save_prefix/v0": v0, "save_prefix/v1": v1}); sess.run(tf.global_variables_initializer()); save.save(sess, path); log(names(path, tf))
            log(err(lambda: tf.train.Saver({"v0": v0, "v1": v1}).restore(sess, path), "not found in checkpoint"))
        for build in (lambda tf: (tf.Variable(-1.0, name="restore_prefix/v0"), tf.Variable(-1.0, name="restore_prefix/v1")), lambda tf: (tf.Variable(-1.0, name="v0"), tf.Variable(-1.0, name="v1"))):
            with tf.Graph().as_default(), tf.Session() as sess:
                v0, v1 = build(tf); save = tf.train.Saver({"save_prefix/v0": v0, "save_prefix/v1": v1}); save.restore(sess, path); log(*sess.run([v0, v1]), v0.name)
        with tf.Graph().as_default(), tf.Session() as sess:
            v0 = tf.Variable(-1.0, name="x"); v1 = tf.Variable(-2.0, name="y"); 
            log(err(lambda: tf.train.Saver({v0.name: v0})), err(lambda: tf.train.Saver({v0.op.name: v0, v1.name: v1})), err(lambda: tf.train.Saver({"save_prefix/v0": v1, "save_prefix/v1": v0}).restore(sess, path))); log(*sess.run([v0, v1]))


@program
def reader_of_all_kinds(tf, log):
    with folder() as d, tf.Session() as sess:
        vs = [tf.Variable(x, name=n) for n, x in (("scalar", 1.5), ("count", np.int64(3)), ("flag", True), ("text", b"ab\0"), ("texts", [b"a", b""]), ("none", np.zeros([0, 2], np.float32)), ("half", np.float16(2)), ("z", 1j * np.ones([2])))]
        sess.run(tf.global_variables_initializer()); path = tf.train.Saver().save(sess, d + "/k"); r = tf.train.load_checkpoint(path)
        for n in ("scalar", "count", "flag", "text", "texts", "none", "half", "z"): x = r.get_tensor(n); log(n, type(x).__name__, getattr(x, "dtype", None).__str__(), np.shape(x), repr(r.get_variable_to_dtype_map()[n]), r.get_variable_to_shape_map()[n])
        log(r.debug_string(), tf.train.list_variables(d), tf.train.load_variable(d, "text"))


@program
def saver_in_scopes(tf, log):
    v = tf.Variable(1., name="v"); save = tf.train.Saver(); tf.add_to_collection("savers", save); log(tf.get_collection("savers")[0] is save, tf.GraphKeys.SAVERS)
    sub = tf.train.Saver(name="sub"); log(sub.saver_def.save_tensor_name, tf.train.Saver(name="sub").saver_def.save_tensor_name, tf.train.Saver(name="a/b").saver_def.save_tensor_name)
    with tf.name_scope("outer"): log(tf.train.Saver().saver_def.save_tensor_name)
    with tf.variable_scope("vs"): log(tf.train.Saver().saver_def.restore_op_name)
    for n in ("sub", "sub_1", "outer"): log(tf.train.Saver(name="sub").to_proto(n) is None)
    log([tf.get_default_graph().get_operation_by_name(n).type for n in ("save/SaveV2", "save/restore_all", "save/RestoreV2", "save/Const", "save/filename/input")])


@program
def checkpoints_that_are_not_there(tf, log):
    with folder() as d:
        log(err(lambda: tf.train.load_variable(d + "/no", "var1"), "Failed to find any matching files"), err(lambda: tf.train.load_variable(d, "var1"), "Couldn't find 'checkpoint' file or checkpoints"), err(lambda: tf.train.list_variables(d), "Couldn't find"), err(lambda: tf.train.load_checkpoint(d + "/x.ckpt")))


@program
def checkpoints_are_listed(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess: v = create(tf, sess, d)
        log(err(lambda: tf.train.load_variable(d, "var5"), "not found in checkpoint"), tf.train.load_variable(d, "var1"), tf.train.load_variable(d, "useful_scope/var4"), tf.train.list_variables(d), tf.train.list_variables(pathlib.Path(d)), tf.train.load_variable(pathlib.Path(d), "var1:0").shape, tf.train.list_variables(d + "/model-0"), tf.train.list_variables(d) == [(a, b) for a, b in tf.train.list_variables(d)], type(tf.train.list_variables(d)[0]).__name__)


@program
def variables_from_scopes_of_a_checkpoint(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess: create(tf, sess, d)
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("some_scope"):
                my1 = tf.get_variable("my1", [1, 10]); 
                with tf.variable_scope("some_other_scope"):
                    my2 = tf.get_variable("my2", [10, 10])
                    with tf.variable_scope("other_useful_scope"): my4 = tf.get_variable("var4", [9, 9])
            my3 = tf.get_variable("my3", [100, 3])
            tf.train.init_from_checkpoint(d, {"var1": "some_scope/my1", "useful_scope/": "some_scope/some_other_scope/other_useful_scope/"})
            tf.train.init_from_checkpoint(d, [("var2", "some_scope/some_other_scope/my2"), ("var3", my3)])
            sess.run(tf.global_variables_initializer()); log(*[v.ravel()[:5] for v in sess.run([my1, my2, my3, my4])])
            log(my3.op.name, my4.device, my1.initializer.device, err(lambda: sess.run(my1.initial_value).ravel()[:2].tolist() and "read"))


@program
def initialized_values_from_a_checkpoint(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess: create(tf, sess, d)
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("some_scope", initializer=tf.zeros_initializer()): my1 = tf.get_variable("my1", [1, 10], use_resource=False)
            before = my1.initialized_value(); tf.train.init_from_checkpoint(d, {"var1": my1}); after = my1.initialized_value()
            log(sess.run(before), sess.run(after)); sess.run(tf.global_variables_initializer()); log(*sess.run([my1, before, after]))


@program
def scopes_that_begin_alike(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess: create(tf, sess, d)
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("useful_scope"): my4 = tf.get_variable("var4", [9, 9])
            with tf.variable_scope("useful_scope_1"): my5 = tf.get_variable("var5", [9, 9], initializer=tf.ones_initializer())
            tf.train.init_from_checkpoint(d, {"useful_scope/": "useful_scope/"}); sess.run(tf.global_variables_initializer()); log(*[v.ravel()[:4] for v in sess.run([my4, my5])])


@program
def variables_from_and_to_the_root(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess: create(tf, sess, d)
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("some_scope"): my1 = tf.get_variable("var1", [1, 10]); my2 = tf.get_variable("var2", [10, 10]); my3 = tf.get_variable("var3", [100, 3])
            with tf.variable_scope("some_scope/useful_scope"): my4 = tf.get_variable("var4", [9, 9])
            tf.train.init_from_checkpoint(d, {"/": "some_scope/"}); sess.run(tf.global_variables_initializer()); log(*[v.ravel()[:4] for v in sess.run([my1, my2, my3, my4])])
        with tf.Graph().as_default(), tf.Session() as sess:
            my1 = tf.get_variable("var1", [1, 10]); my2 = tf.get_variable("var2", [10, 10]); my3 = tf.get_variable("var3", [100, 3])
            with tf.variable_scope("useful_scope"): my4 = tf.get_variable("var4", [9, 9])
            tf.train.init_from_checkpoint(d, {"/": "/"}); sess.run(tf.global_variables_initializer()); log(*[v.ravel()[:4] for v in sess.run([my1, my2, my3, my4])])
        with tf.Graph().as_default(), tf.Session() as sess:
            my4 = tf.get_variable("var4", [9, 9]); tf.train.init_from_checkpoint(d, {"useful_scope/": "/"}); sess.run(tf.global_variables_initializer()); log(sess.run(my4).ravel()[:4])
        with tf.Graph().as_default(), tf.Session() as sess:
            with tf.variable_scope("a/b"): x = tf.get_variable("var4", [9, 9])
            y = tf.get_variable("var4", [9, 9], initializer=tf.ones_initializer())
            log(err(lambda: tf.train.init_from_checkpoint(d, {"useful_scope/": "a/b"})), err(lambda: tf.train.init_from_checkpoint(d, {"useful_scope/": "a/"})), err(lambda: tf.train.init_from_checkpoint(d, {"useful_scope": "a/b"}), "should map to scope only"), err(lambda: tf.train.init_from_checkpoint(d, {})), err(lambda: tf.train.init_from_checkpoint(d, [])), err(lambda: tf.train.init_from_checkpoint(d, {"useful_scope/": "nowhere/"})))


@program
def checkpoints_are_waited_for(tf, log):
    with folder() as d:
        with tf.Session() as sess:
            v = tf.get_variable("v", initializer=1.); sess.run(v.initializer); saver = tf.train.Saver(); log([os.path.basename(x) for x in tf.train.checkpoints_iterator(d, timeout=0)])
            saver.save(sess, d + "/model-1"); saver.save(sess, d + "/model-2"); log([os.path.basename(x) for x in tf.train.checkpoints_iterator(d, timeout=0)]); n = [0]
            def stop(): n[0] += 1; return n[0] > 3
            log([os.path.basename(x) for x in tf.train.checkpoints_iterator(d, timeout=.1, timeout_fn=stop)], n[0]); it = tf.train.checkpoints_iterator(d, min_interval_secs=0); log(os.path.basename(next(it))); saver.save(sess, d + "/model-3"); log(os.path.basename(next(it)), type(it).__name__)


@program
def warm_starts_of_some(tf, log):
    with folder() as d:
        write(tf, d, {"fruit_weights": np.array([[.5], [1.], [1.5], [2.]], np.float32)}); write(tf, d, {"a/b": wave(2, 3), "a/c": wave(3, phase=1.), "step": np.int64(5)})
        for setting in (".*", "a/b", ["a/b"], ["a/.*"], None, [], "", "nomatch", ["nomatch"]):
            with tf.Graph().as_default(), tf.Session() as sess:
                b = tf.get_variable("a/b", [2, 3], initializer=tf.zeros_initializer()); c = tf.get_variable("a/c", [3], initializer=tf.zeros_initializer(), trainable=False); log(str(setting), err(lambda: tf.train.warm_start(d, setting))); sess.run(tf.global_variables_initializer()); log(*sess.run([b, c]))


@program
def warm_starts_of_variables(tf, log):
    with folder() as d:
        path = write(tf, d, {"x": wave(4), "y": wave(4, phase=1.), "p": wave(6, 2)})
        with tf.Graph().as_default(), tf.Session() as sess:
            x = tf.get_variable("x", [4], initializer=tf.zeros_initializer()); y = tf.get_variable("y", [4], initializer=tf.zeros_initializer()); p = tf.get_variable("p", [6, 2], initializer=tf.zeros_initializer(), partitioner=tf.fixed_size_partitioner(3))
            tf.train.warm_start(path, [x]); tf.train.warm_start(path, list(p)); sess.run(tf.global_variables_initializer()); log(*sess.run([x, y, tf.convert_to_tensor(p)]))
            log(err(lambda: tf.train.warm_start(path, x)), err(lambda: tf.train.warm_start(path, [x, "y"])), err(lambda: tf.train.warm_start(path, {"x": x})), err(lambda: tf.train.warm_start(path, (x,))), err(lambda: tf.train.warm_start(d + "/none", [x])), err(lambda: tf.train.warm_start(path, [list(p)])))


@program
def state_file_and_a_checkpoint_of_its_name(tf, log):
    with folder() as d:
        for short, text in ((d + "/traindir", True),):
            trained = d + "/traindir"; os.mkdir(trained); path = trained + "/snapshot"
            with tf.Session() as sess:
                unused = tf.Variable([0.0]); sess.run(tf.global_variables_initializer()); saver = tf.train.Saver(); saver.save(sess, path)
                log(tf.train.latest_checkpoint(trained) == path, err(lambda: saver.save(sess, trained + "/checkpoint"), "collides with")); log(tf.train.latest_checkpoint(trained) == path)
                log(err(lambda: saver.save(sess, trained + "/mysnapshot", latest_filename="foobar") and "saved"), os.path.basename(tf.train.latest_checkpoint(trained, "foobar")), tf.train.latest_checkpoint(trained, "none"))


@program
def state_files_with_relative_paths(tf, log):
    with folder() as d:
        here = os.getcwd(); os.chdir(d)
        try:
            for sub, name in (("train", "snapshot"), ("./a", "b"), ("a/../c", "m"), (".", "x")):
                os.makedirs(sub, exist_ok=True)
                with tf.Graph().as_default(), tf.Session() as sess:
                    v0 = tf.Variable(0.0); saver = tf.train.Saver({"v0": v0}); inc = v0.assign_add(1.0); sess.run(v0.initializer); log(saver.save(sess, os.path.join(sub, name), global_step=1)); sess.run(inc); saver.save(sess, os.path.join(sub, name), global_step=2); log(state(sub), tf.train.latest_checkpoint(sub), tf.train.get_checkpoint_state(sub).model_checkpoint_path)
                with tf.Graph().as_default(), tf.Session() as sess: v0 = tf.Variable(-1.0, name="v0"); saver = tf.train.Saver({"v0": v0}); saver.restore(sess, tf.train.latest_checkpoint(sub)); log(sess.run(v0))
        finally: os.chdir(here)


@program
def saver_in_a_finished_graph(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable(1., name="v"); s = tf.train.Saver(); sess.run(v.initializer); tf.get_default_graph().finalize(); log(s.save(sess, d + "/m", write_meta_graph=False) == d + "/m"); s.restore(sess, d + "/m"); log(err(lambda: tf.train.Saver()), tf.train.latest_checkpoint(d) == d + "/m")


@program
def savers_of_one_directory(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable(1., name="v"); sess.run(v.initializer); a = tf.train.Saver(max_to_keep=2); b = tf.train.Saver(max_to_keep=1)
        for i in range(3): a.save(sess, d + "/a", i); b.save(sess, d + "/b", i, latest_filename="best")
        log(kept(d), state(d), state(d, "best"), os.path.basename(tf.train.latest_checkpoint(d, "best")), len(tf.train.get_checkpoint_state(d, latest_filename="best").all_model_checkpoint_paths))


@program
def saver_of_the_best(tf, log):
    class Best(tf.train.Saver):
        def save(self, sess, path, value, **kw):
            if value > getattr(self, "best", -1): self.best = value; return super().save(sess, path, **kw)
    with folder() as d, tf.Session() as sess:
        v = tf.Variable(1., name="v"); sess.run(v.initializer); s = Best(max_to_keep=1); log([(p or "").replace(d, "D") for p in (s.save(sess, d + "/m", 1, global_step=1), s.save(sess, d + "/m", 0, global_step=2), s.save(sess, d + "/m", 3, global_step=3))], kept(d))


@program
def saver_run_by_its_operations(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable([1., 2.], name="v"); s = tf.train.Saver(); sess.run(v.initializer); sd = s.saver_def; log(sess.run(sd.save_tensor_name, {sd.filename_tensor_name: d + "/x"}).decode().replace(d, "D"), kept(d)); sess.run(v.assign([0., 0.])); sess.run([sd.restore_op_name], {sd.filename_tensor_name: d + "/x"}); log(sess.run(v)); g = tf.get_default_graph(); log(g.get_operation_by_name(sd.restore_op_name).type, g.get_tensor_by_name(sd.save_tensor_name).op.type, g.get_tensor_by_name(sd.filename_tensor_name).op.inputs[0].op.type)


@program
def saver_of_large_variables(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable(tf.zeros([3000, 1000]), name="big"); w = tf.get_variable("p", [2000, 600], initializer=tf.ones_initializer(), partitioner=tf.variable_axis_size_partitioner(1 << 20)); sess.run(tf.global_variables_initializer()); sess.run(v.assign_add(tf.ones_like(v))); p = tf.train.Saver().save(sess, d + "/m"); log(names(p, tf), len(list(w)), float(tf.train.load_variable(p, "big").sum()), float(tf.train.load_variable(p, "p").sum())); sess.run(v.initializer); tf.train.Saver().restore(sess, p); log(float(sess.run(tf.reduce_sum(v))))


@program
def saver_of_many_variables(tf, log):
    with folder() as d, tf.Session() as sess:
        vs = [tf.get_variable("l%03d/w" % i, initializer=np.full([i % 5], i, np.float32)) for i in range(150)]; sess.run(tf.global_variables_initializer()); s = tf.train.Saver(); p = s.save(sess, d + "/m"); log(len(tf.train.list_variables(p)), names(p, tf)[:7]); sess.run([v.assign(v * 0) for v in vs]); s.restore(sess, p); log(all((x == i).all() for i, x in enumerate(sess.run(vs))))


@program
def saver_before_initializers(tf, log):
    with folder() as d:
        with tf.Graph().as_default(), tf.Session() as sess: v = tf.Variable([1., 2.], name="v"); sess.run(v.initializer); p = tf.train.Saver().save(sess, d + "/m")
        with tf.Graph().as_default(), tf.Session() as sess:
            v = tf.Variable([0., 0.], name="v"); w = tf.Variable([3., 3.], name="w"); tf.train.Saver([v]).restore(sess, p); un = sess.run(tf.report_uninitialized_variables()); log(un); sess.run(tf.variables_initializer([x for x in tf.global_variables() if x.op.name.encode() in set(un)])); log(*sess.run([v, w])); sess.run(tf.global_variables_initializer()); log(sess.run(v))


@program
def saver_of_texts(tf, log):
    with folder() as d, tf.Session() as sess:
        v = tf.Variable(1.5, name="v"); t = tf.Variable(b"x\0y\0", name="t"); u = tf.Variable(["ü", ""], name="u"); e = tf.Variable(tf.zeros([0, 2], tf.string), name="e"); sess.run(tf.global_variables_initializer()); p = tf.train.Saver().save(sess, d + "/m"); log([repr(tf.train.load_variable(p, n)) if n in "vt" else tf.train.load_variable(p, n).tolist().__repr__() for n in ("v", "t", "u", "e")]); sess.run([v.assign(0.), t.assign(b""), u.assign(["", ""])]); tf.train.Saver().restore(sess, p); log(*[x if n else float(x) for n, x in enumerate(sess.run([v, t, u, e]))])
