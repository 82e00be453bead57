"""Records TensorFlow's optimizers with settings at the edges of what they take, as ``record_numerics`` records others.

    python record_odd_optimizers.py traces/odd_optimizers.json     (needs tensorflow 2.21)
"""

import json
import sys

import numpy as np
import record_numerics

SETTINGS = {
    "GradientDescentOptimizer": [{"learning_rate": 0.0}, {"learning_rate": -0.5, "use_locking": True}],
    "MomentumOptimizer": [
        {"learning_rate": 0.1, "momentum": 0.0},
        {"learning_rate": 0.1, "momentum": 0.0, "use_nesterov": True},
        {"learning_rate": 0.3, "momentum": 1.0},
        {"learning_rate": 0.1, "momentum": 0.99, "use_nesterov": True, "use_locking": True},
    ],
    "AdagradOptimizer": [
        {"learning_rate": 0.1, "initial_accumulator_value": 1e-10},
        {"learning_rate": 2.0, "initial_accumulator_value": 10.0},
    ],
    "AdadeltaOptimizer": [
        {"learning_rate": 0.001},
        {"learning_rate": 1.0, "rho": 0.0, "epsilon": 0.01},
        {"learning_rate": 1.0, "rho": 0.999, "epsilon": 1e-8},
        {"learning_rate": 1.0, "rho": 1.0, "epsilon": 0.001},
    ],
    "AdamOptimizer": [
        {"learning_rate": 0.1, "beta1": 0.0, "beta2": 0.5},
        {"learning_rate": 0.1, "beta1": 0.9, "beta2": 0.0},
        {"learning_rate": 0.1, "beta1": 0.999, "beta2": 0.9999, "epsilon": 1.0},
        {"learning_rate": 0.01, "beta1": 0.5, "beta2": 0.9, "epsilon": 1e-3, "use_locking": True},
    ],
    "RMSPropOptimizer": [
        {"learning_rate": 0.1, "decay": 0.0},
        {"learning_rate": 0.1, "decay": 0.99, "momentum": 0.9, "epsilon": 0.001},
        {"learning_rate": 0.1, "decay": 0.5, "epsilon": 1.0, "centered": True},
        {"learning_rate": 0.1, "decay": 0.9, "momentum": 0.9, "epsilon": 0.1, "centered": True},
    ],
    "FtrlOptimizer": [
        {"learning_rate": 0.1, "learning_rate_power": 0.0, "l1_regularization_strength": 0.1},
        {"learning_rate": 0.1, "learning_rate_power": -1.0},
        {"learning_rate": 0.1, "initial_accumulator_value": 0.0, "l1_regularization_strength": 2.0},
        {"learning_rate": 0.1, "beta": 0.5},
        {"learning_rate": 0.1, "l2_shrinkage_regularization_strength": 0.01, "l2_regularization_strength": 0.2, "beta": 0.3},
    ],
    "ProximalGradientDescentOptimizer": [
        {"learning_rate": 0.1},
        {"learning_rate": 0.5, "l1_regularization_strength": 1.0, "l2_regularization_strength": 0.5},
    ],
    "ProximalAdagradOptimizer": [
        {"learning_rate": 0.1, "initial_accumulator_value": 1.0, "l2_regularization_strength": 0.3},
        {"learning_rate": 0.5, "l1_regularization_strength": 0.5, "l2_regularization_strength": 0.1},
    ],
}

if __name__ == "__main__":
    record_numerics.OPTIMIZERS = [(name, options) for name, each in SETTINGS.items() for options in each]
    cases = record_numerics.optimizer_cases(np.random.default_rng(7))
    with open(sys.argv[1], "w") as out:
        out.write("[\n" + ",\n".join(map(json.dumps, cases)) + "\n]\n")
