"""Records what torch's optimizers do that TensorFlow 1 does not have, with settings at the edges of what they take too.

    python record_torch_optimizers.py SEED OUT_DIR     (needs torch 2.13)

Writes ``torch_optimizers.json``: cases with the values after each step; by gradients for some rows, ``SparseAdam`` and
``Adagrad``, where rows come twice.
"""

import json
import os
import sys

import torch

ADAMW, ADAM, SGD = torch.optim.AdamW, torch.optim.Adam, torch.optim.SGD

OPTIMIZERS = [
    ("adamw", ADAMW, {"lr": 0.01}, {"learning_rate": 0.01}),
    ("adamw", ADAMW, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-4, "weight_decay": 0.3},
     {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-4, "weight_decay": 0.3}),
    ("adamw", ADAMW, {"lr": 0.05, "betas": (0.8, 0.5), "weight_decay": 0.1, "amsgrad": True},
     {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.5, "weight_decay": 0.1, "amsgrad": 1.0}),
    ("adamw", ADAMW, {"lr": 0.05, "betas": (0.0, 0.9), "weight_decay": 0.0},
     {"learning_rate": 0.05, "beta1": 0.0, "beta2": 0.9, "weight_decay": 0.0}),
    ("adamw", ADAMW, {"lr": 0.05, "betas": (0.9, 0.0), "eps": 0.0}, {
        "learning_rate": 0.05, "beta1": 0.9, "beta2": 0.0, "epsilon": 0.0}),
    ("adamw", ADAMW, {"lr": 0.05, "betas": (0.0, 0.0), "eps": 10.0, "weight_decay": 1.0},
     {"learning_rate": 0.05, "beta1": 0.0, "beta2": 0.0, "epsilon": 10.0, "weight_decay": 1.0}),
    ("adamw", ADAMW, {"lr": 0.5, "betas": (0.999, 0.9999), "weight_decay": 30.0, "amsgrad": True},
     {"learning_rate": 0.5, "beta1": 0.999, "beta2": 0.9999, "weight_decay": 30.0, "amsgrad": 1.0}),
    ("adamw", ADAMW, {"lr": 0.0, "weight_decay": 0.5}, {"learning_rate": 0.0, "weight_decay": 0.5}),
    ("adam", ADAM, {"lr": 0.05, "betas": (0.8, 0.5), "eps": 0.0, "amsgrad": True},
     {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.5, "epsilon": 0.0, "amsgrad": 1.0}),
    ("adam", ADAM, {"lr": 0.05, "betas": (0.0, 0.0), "eps": 0.0, "amsgrad": True},
     {"learning_rate": 0.05, "beta1": 0.0, "beta2": 0.0, "epsilon": 0.0, "amsgrad": 1.0}),
    ("adam", ADAM, {"lr": 0.05, "betas": (0.0, 0.99), "eps": 0.0, "amsgrad": True},
     {"learning_rate": 0.05, "beta1": 0.0, "beta2": 0.99, "epsilon": 0.0, "amsgrad": 1.0}),
    ("adam", ADAM, {"lr": 0.05, "betas": (0.99, 0.999), "eps": 0.0},
     {"learning_rate": 0.05, "beta1": 0.99, "beta2": 0.999, "epsilon": 0.0}),
    ("momentum", SGD, {"lr": 0.1, "momentum": 0.9, "nesterov": True},
     {"learning_rate": 0.1, "momentum": 0.9, "use_nesterov": 1.0}),
    ("momentum", SGD, {"lr": 0.1, "momentum": 1.0}, {"learning_rate": 0.1, "momentum": 1.0}),
    ("momentum", SGD, {"lr": 0.1, "momentum": 0.0}, {"learning_rate": 0.1, "momentum": 0.0}),
    ("gradient_descent", SGD, {"lr": 2.0}, {"learning_rate": 2.0}),
    ("adadelta", torch.optim.Adadelta, {"lr": 0.5, "rho": 0.8, "eps": 1e-3},
     {"learning_rate": 0.5, "rho": 0.8, "epsilon": 1e-3}),
    ("adadelta", torch.optim.Adadelta, {"lr": 0.5, "rho": 0.0, "eps": 1.0},
     {"learning_rate": 0.5, "rho": 0.0, "epsilon": 1.0}),
    ("adagrad", torch.optim.Adagrad, {"lr": 0.5, "initial_accumulator_value": 1e-6, "eps": 0.0},
     {"learning_rate": 0.5, "initial_accumulator_value": 1e-6}),
]

OF_ROWS = [
    ("adam", torch.optim.SparseAdam, {"lr": 0.05, "betas": (0.8, 0.95), "eps": 1e-3},
     {"learning_rate": 0.05, "beta1": 0.8, "beta2": 0.95, "epsilon": 1e-3}),
    ("adam", torch.optim.SparseAdam, {"lr": 0.05, "betas": (0.0, 0.5), "eps": 1.0},
     {"learning_rate": 0.05, "beta1": 0.0, "beta2": 0.5, "epsilon": 1.0}),
    ("adagrad", torch.optim.Adagrad, {"lr": 0.5, "initial_accumulator_value": 0.1, "eps": 0.0},
     {"learning_rate": 0.5, "initial_accumulator_value": 0.1}),
]
SHAPE, NUM_STEPS = (6, 5), 8


def recorded(rule, optimizer, options, settings, dtype, by_rows):
    value = torch.nn.Parameter(torch.randn(SHAPE, dtype=dtype))
    one, initial, steps = optimizer([value], **options), value.tolist(), []
    for _ in range(NUM_STEPS):
        step = {}
        if by_rows:
            step["indices"] = torch.randint(0, SHAPE[0], (4,)).tolist()
            gradient = torch.randn(4, SHAPE[1], dtype=dtype)
            value.grad = torch.sparse_coo_tensor([step["indices"]], gradient, SHAPE)
        else:
            gradient = value.grad = torch.randn(SHAPE, dtype=dtype)
        one.step()
        steps.append({**step, "gradient": gradient.tolist(), "value": value.tolist()})
    return {"rule": rule, "settings": settings, "dtype": str(dtype).removeprefix("torch."), "initial": initial,
            "steps": steps}


def cases():
    for each in OPTIMIZERS:
        yield recorded(*each, torch.float64, by_rows=False)
    for each in (OPTIMIZERS[1], OPTIMIZERS[2], OPTIMIZERS[8]):
        yield recorded(*each, torch.float32, by_rows=False)
    for each in OF_ROWS:
        yield recorded(*each, torch.float64, by_rows=True)
    yield recorded(*OF_ROWS[0], torch.float32, by_rows=True)


if __name__ == "__main__":
    torch.manual_seed(int(sys.argv[1]))
    with open(os.path.join(sys.argv[2], "torch_optimizers.json"), "w") as out:
        json.dump(list(cases()), out, indent=None)
        out.write("\n")
