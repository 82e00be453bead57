"""What TensorFlow 1's optimizers add to a graph: operations, slots and their order, and the errors of wrong use.

``recorded`` works with every module that has TensorFlow 1's names. Record again (needs tensorflow):

    python optimizer_graphs.py traces/optimizer_graphs.json
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

OPTIMIZERS = [
    "GradientDescentOptimizer(0.1)",
    "MomentumOptimizer(0.1, 0.9)",
    "MomentumOptimizer(0.1, 0.9, use_nesterov=True, name='mine')",
    "AdagradOptimizer(0.1)",
    "AdadeltaOptimizer(0.1)",
    "AdamOptimizer(0.1)",
    "AdamOptimizer(lambda: 0.1, name='mine')",
    "RMSPropOptimizer(0.1)",
    "RMSPropOptimizer(0.1, centered=True)",
    "FtrlOptimizer(0.1)",
    "FtrlOptimizer(0.1, l2_shrinkage_regularization_strength=0.5, accum_name='a', linear_name='b')",
    "ProximalGradientDescentOptimizer(0.1)",
    "ProximalAdagradOptimizer(0.1)",
    "AdagradDAOptimizer(0.1, step)",
]
USES = {
    "plain": "optimizer.minimize(loss)",
    "with a step": "optimizer.minimize(loss, global_step=step, name='train')",
    "some variables": "optimizer.minimize(loss, var_list=[b])",
    "in a scope": "in_scope(tf, lambda: optimizer.minimize(loss, global_step=step))",
    "twice": "[optimizer.minimize(loss), optimizer.minimize(loss)]",
    "rows": "optimizer.minimize(looked_up)",
}
MISUSES = [
    "GradientDescentOptimizer(0.1).minimize(tf.constant(1.0))",
    "GradientDescentOptimizer(0.1).minimize(loss, var_list=[])",
    "GradientDescentOptimizer(0.1).minimize(loss, gate_gradients=3)",
    "GradientDescentOptimizer(0.1).minimize(tf.constant(1), var_list=[b])",
    "GradientDescentOptimizer(0.1).apply_gradients([])",
    "GradientDescentOptimizer(0.1).apply_gradients([(None, b)])",
    "GradientDescentOptimizer(0.1).apply_gradients([('x', b)])",
    "GradientDescentOptimizer(0.1).apply_gradients([(tf.constant([1.0]), tf.constant([1.0]))])",
    "GradientDescentOptimizer(0.1, name='')",
    "AdagradOptimizer(0.1, initial_accumulator_value=0.0)",
    "AdagradDAOptimizer(0.1, step, initial_gradient_squared_accumulator_value=-1.0)",
    "FtrlOptimizer(0.1, learning_rate_power=1.0)",
    "FtrlOptimizer(0.1, initial_accumulator_value=-1.0)",
    "FtrlOptimizer(0.1, l1_regularization_strength=-1.0)",
    "FtrlOptimizer(0.1, l2_shrinkage_regularization_strength=-1.0)",
    "ProximalAdagradOptimizer(0.1, initial_accumulator_value=-1.0)",
    "Optimizer(False, 'mine').minimize(loss)",
    "MomentumOptimizer(0.1)",
]


def in_scope(tf: Any, build: Any) -> Any:
    with tf.variable_scope("outer"):
        return build()


def _built(tf: Any) -> dict[str, Any]:
    w = tf.get_variable("net/w", [4, 3], initializer=tf.ones_initializer())
    b = tf.get_variable("b", [3], initializer=tf.zeros_initializer())
    parts = tf.get_variable(
        "parts", [4, 2], initializer=tf.ones_initializer(), partitioner=tf.fixed_size_partitioner(2)
    )
    step = tf.train.get_or_create_global_step()
    loss = tf.reduce_sum(tf.square(w)) + tf.reduce_sum(b) + tf.reduce_sum(tf.square(parts))
    looked_up = tf.reduce_sum(tf.nn.embedding_lookup(w, [1, 1, 2])) + tf.reduce_sum(b)
    return {"tf": tf, "w": w, "b": b, "step": step, "loss": loss, "looked_up": looked_up, "in_scope": in_scope}


def recorded(tf: Any, optimizer: str, use: str) -> dict[str, Any]:
    """Returns what one use of one optimizer adds to a graph."""
    with tf.Graph().as_default() as graph:
        names = _built(tf)
        made = names["optimizer"] = eval(f"tf.train.{optimizer}", names)
        before = {op.name for op in graph.get_operations()}
        result = eval(USES[use], names)
        added = [op for op in graph.get_operations() if op.name not in before and "_grad/tuple/" not in op.name]
        trained = tf.trainable_variables()
        return {
            "optimizer": optimizer,
            "use": use,
            "result": [each.name for each in (result if isinstance(result, list) else [result])],
            "updates": [[op.name, op.type] for op in added if "Apply" in op.type or op.type in ("NoOp", "Assign")],
            "variables": [each.name for each in tf.global_variables()],
            "trainable": [each.name for each in trained],
            "own": [each.name for each in made.variables()],
            "name": made.get_name(),
            "slots": {
                slot: [getattr(made.get_slot(each, slot), "name", None) for each in trained]
                for slot in made.get_slot_names()
            },
            "places": {each.name: [group.decode() for group in each.op.colocation_groups()] for each in made.variables()},
            "train_op": [each.name for each in tf.get_collection(tf.GraphKeys.TRAIN_OP)],
        }


def refused(tf: Any, misuse: str) -> dict[str, Any]:
    """Returns the error of a wrong use."""
    with tf.Graph().as_default():
        names = _built(tf)
        try:
            eval(f"tf.train.{misuse}", names)
        except Exception as error:
            return {"misuse": misuse, "error": type(error).__name__, "message": str(error)}
        return {"misuse": misuse, "error": None, "message": ""}


def main(target: Path) -> None:
    import tensorflow.compat.v1 as tf  # noqa: PLC0415

    tf.disable_v2_behavior()
    tf.disable_resource_variables()
    lines = [json.dumps(recorded(tf, optimizer, use)) for optimizer in OPTIMIZERS for use in USES]
    lines += [json.dumps(refused(tf, misuse)) for misuse in MISUSES]
    target.write_text("[\n" + ",\n".join(lines) + "\n]\n", encoding="utf-8")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
