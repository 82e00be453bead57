"""Records more of what TensorFlow's optimizers do: other settings, dtypes and seeds, more rows, AdagradDA.

    python record_optimizers.py SEED OUT_DIR     (needs tensorflow 2.21)

Writes ``more_optimizers.json``: cases as in ``optimizers.json``, with their dtype.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
import numpy as np  # noqa: E402
import tensorflow.compat.v1 as tf  # noqa: E402

tf.disable_eager_execution()
tf.logging.set_verbosity(tf.logging.FATAL)

SHAPE = (9, 4)
OPTIMIZERS = [
    ("GradientDescentOptimizer", {"learning_rate": 0.37}),
    ("MomentumOptimizer", {"learning_rate": 0.05, "momentum": 0.5}),
    ("MomentumOptimizer", {"learning_rate": 0.05, "momentum": 0.99, "use_nesterov": True}),
    ("AdagradOptimizer", {"learning_rate": 0.7, "initial_accumulator_value": 1.5}),
    ("AdagradDAOptimizer", {"learning_rate": 0.3}),
    ("AdagradDAOptimizer", {"learning_rate": 0.3, "l1_regularization_strength": 0.2,
                            "l2_regularization_strength": 0.1, "initial_gradient_squared_accumulator_value": 0.5}),
    ("AdadeltaOptimizer", {"learning_rate": 0.5, "rho": 0.8, "epsilon": 1e-3}),
    ("AdamOptimizer", {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-4}),
    ("AdamOptimizer", {"learning_rate": 0.002}),
    ("RMSPropOptimizer", {"learning_rate": 0.05, "decay": 0.5, "momentum": 0.9, "epsilon": 1e-3}),
    ("RMSPropOptimizer", {"learning_rate": 0.05, "decay": 0.7, "momentum": 0.2, "epsilon": 1e-2, "centered": True}),
    ("FtrlOptimizer", {"learning_rate": 0.3, "learning_rate_power": -0.7, "initial_accumulator_value": 0.5,
                       "l1_regularization_strength": 0.3, "l2_regularization_strength": 0.2}),
    ("FtrlOptimizer", {"learning_rate": 0.2, "l1_regularization_strength": 0.5,
                       "l2_shrinkage_regularization_strength": 0.3, "beta": 0.4}),
    ("FtrlOptimizer", {"learning_rate": 0.2, "learning_rate_power": 0.0}),
    ("ProximalGradientDescentOptimizer", {"learning_rate": 0.2, "l2_regularization_strength": 0.5}),
    ("ProximalGradientDescentOptimizer", {"learning_rate": 0.2, "l1_regularization_strength": 0.6}),
    ("ProximalAdagradOptimizer", {"learning_rate": 0.3, "l1_regularization_strength": 0.2,
                                  "l2_regularization_strength": 0.3}),
    ("ProximalAdagradOptimizer", {"learning_rate": 0.3, "initial_accumulator_value": 1.0}),
]


def run_case(rng, name, options, kind, dtype):
    # Multiples of 1/64 in small numbers: every dtype holds them.
    def draw(shape):
        return (rng.normal(size=shape) * 64).round() / 64

    initial, steps, recorded = draw(SHAPE).astype(dtype), 5, []
    with tf.Graph().as_default():
        variable = tf.get_variable("v", initializer=initial, use_resource=True)
        step = tf.train.get_or_create_global_step()
        extra = {"global_step": step} if name == "AdagradDAOptimizer" else {}
        optimizer = getattr(tf.train, name)(**options, **extra)
        values = tf.placeholder(dtype, [None, SHAPE[1]])
        indices = tf.placeholder(tf.int64, [None])
        gradient = values if kind == "dense" else tf.IndexedSlices(values, indices, SHAPE)
        apply = optimizer.apply_gradients([(gradient, variable)], global_step=step)
        slots = {s: optimizer.get_slot(variable, s) for s in optimizer.get_slot_names()}
        with tf.Session() as session:
            session.run(tf.global_variables_initializer())
            start = {s: session.run(v).astype(float).tolist() for s, v in slots.items()}
            for _ in range(steps):
                if kind == "dense":
                    g = draw(SHAPE).astype(dtype)
                    session.run(apply, {values: g})
                    one = {"gradient": g.astype(float).tolist()}
                else:
                    ids = rng.choice(7, size=5)
                    g = draw((5, SHAPE[1])).astype(dtype)
                    session.run(apply, {values: g, indices: ids})
                    one = {"gradient": g.astype(float).tolist(), "indices": ids.tolist()}
                one["value"] = session.run(variable).astype(float).tolist()
                one["slots"] = {s: session.run(v).astype(float).tolist() for s, v in slots.items()}
                recorded.append(one)
    return {"optimizer": name, "options": options, "kind": kind, "dtype": dtype, "initial": initial.astype(float).tolist(),
            "initial_slots": start, "steps": recorded}


def cases(rng):
    for name, options in OPTIMIZERS:
        for kind in ("dense", "sparse"):
            for dtype in ("float32", "float64", "float16"):
                try:
                    case = run_case(rng, name, options, kind, dtype)
                    if "NaN" not in json.dumps(case):  # epsilon 1e-8 is zero in float16
                        yield case
                except (TypeError, ValueError, tf.errors.OpError) as error:
                    print(f"TensorFlow has no {name} {kind} {dtype}: {type(error).__name__} {str(error)[:100]}")


if __name__ == "__main__":
    rng = np.random.default_rng(int(sys.argv[1]))
    with open(os.path.join(sys.argv[2], "more_optimizers.json"), "w") as out:
        json.dump(list(cases(rng)), out, indent=None)
        out.write("\n")
