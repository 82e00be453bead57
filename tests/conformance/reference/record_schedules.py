"""Records the learning rates of TensorFlow's decays and of torch's schedulers, at the edges of their arguments too.

    python record_schedules.py tensorflow OUT_DIR     (needs TensorFlow 2.21)
    python record_schedules.py torch OUT_DIR          (needs torch 2.13)

Writes ``tensorflow_schedules.json``: names of functions of ``tf.compat.v1.train`` with their arguments, and their rates
by steps; rates of float32, as the functions make them of Python's numbers, and of float64, of tensors of that type.
Writes ``torch_schedules.json``: the same for ``torch.optim.lr_scheduler``, which computes in Python's floats, with the
schedule of the ps and its settings.
"""

import itertools
import json
import math
import os
import sys

RESTARTS = [121, 555, 605]  # of those that take more and more steps, where logarithms are rounded
STEPS = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 14, 19, 20, 21, 25, 29, 30, 31, 40, 70, 100, 1000]


def tensorflow_calls():
    for name in ("exponential_decay", "natural_exp_decay", "inverse_time_decay"):
        for steps, rate, staircase in itertools.product((4, 2.5, 10), (0.7, 0.0, 1.0, 1.5), (False, True)):
            yield name, (0.5,), {"decay_steps": steps, "decay_rate": rate, "staircase": staircase}
    for steps, end, power, cycle in itertools.product((10, 2.5), (0.1, 0.0, 0.7), (1.0, 2.0, 0.5, 0.0), (False, True)):
        yield "polynomial_decay", (0.5,), {
            "decay_steps": steps, "end_learning_rate": end, "power": power, "cycle": cycle}
    for steps, alpha in itertools.product((10, 2.5, 1), (0.0, 0.2, 1.0)):
        yield "cosine_decay", (0.5,), {"decay_steps": steps, "alpha": alpha}
    for steps, t_mul, m_mul, alpha in itertools.product((10, 7, 2.5), (1.0, 1.5, 2.0, 3.0), (1.0, 0.8), (0.0, 0.1)):
        yield "cosine_decay_restarts", (0.5,), {
            "first_decay_steps": steps, "t_mul": t_mul, "m_mul": m_mul, "alpha": alpha}
    for boundaries, values in (([3, 10], [0.5, 0.2, 0.1]), ([0], [0.5, 0.2]), ([5, 5], [0.5, 0.2, 0.1])):
        yield "piecewise_constant", (), {"boundaries": boundaries, "values": values}


def tensorflow_cases():
    import tensorflow.compat.v1 as tf

    def rates(name, positional, options, dtype):
        wide = (lambda each: tf.constant(each, tf.float64)) if dtype == "float64" else (lambda each: each)
        with tf.Graph().as_default(), tf.Session() as session:
            step = tf.placeholder(tf.int64, [])
            if name == "piecewise_constant":
                limits = [tf.constant(each, tf.int64) for each in options["boundaries"]]
                rate = tf.train.piecewise_constant(step, limits, [wide(each) for each in options["values"]])
            else:
                converted = {key: wide(each) if type(each) is not bool and dtype == "float64" and key != "alpha" else each
                             for key, each in options.items()}
                rate = getattr(tf.train, name)(wide(*positional), step, **converted)
            rate = rate() if callable(rate) else rate
            return [float(session.run(rate, {step: each})) for each in STEPS]

    for name, positional, options in tensorflow_calls():
        kinds = ["float32", "float64"]
        # TensorFlow has none of these for float64 tensors: it mixes them with constants of float32.
        if name in ("natural_exp_decay", "cosine_decay", "cosine_decay_restarts") or options.get("cycle"):
            kinds.pop()
        yield {"function": name, "arguments": list(positional), "options": options,
               "rates": {kind: rates(name, positional, options, kind) for kind in kinds}}


def torch_calls(optim):
    schedulers = optim.lr_scheduler
    for factor in (0.9, 1.0, 0.0):
        yield (lambda one, f=factor: schedulers.ExponentialLR(one, f), "exponential",
               {"decay_steps": 1, "decay_rate": factor})
        yield (lambda one, f=factor: schedulers.StepLR(one, 4, f), "exponential",
               {"decay_steps": 4, "decay_rate": factor, "staircase": 1})
    for power in (1.0, 2.0, 0.5):
        yield (lambda one, p=power: schedulers.PolynomialLR(one, 10, p), "polynomial",
               {"decay_steps": 10, "end_learning_rate": 0.0, "power": power})
    for first, longer, least in (
            (10, 1, 0.0), (7, 2, 0.05), (3, 3, 0.0), (1, 2, 0.1), (10, 1, 0.5), (1, 3, 0.0), (5, 3, 0.0), (5, 10, 0.05)):
        yield (lambda one, f=first, t=longer, e=least: schedulers.CosineAnnealingWarmRestarts(one, f, t, e),
               "cosine_restarts", {"first_decay_steps": first, "t_mul": longer, "alpha": least / 0.5})
    for first, steps in ((0.25, 5), (1.0, 4), (0.5, 1)):
        yield (lambda one, f=first, n=steps: schedulers.LinearLR(one, f, 1.0, n), "linear_warmup",
               {"warmup_steps": steps, "start_learning_rate": first * 0.5})
    yield (lambda one: schedulers.MultiStepLR(one, [3, 10], 0.5), "piecewise", [2, 9, 0.5, 0.25, 0.125])
    for total, rising, division, last in ((1001, 0.3, 25.0, 1e4), (1001, 0.0, 4.0, 10.0), (1001, 1.0, 4.0, 10.0),
                                          (1001, 0.5, 1.0, 1.0), (1001, 0.001, 10.0, 2.0)):
        yield (lambda one, n=total, p=rising, d=division, f=last: schedulers.OneCycleLR(
                   one, 0.5, total_steps=n, pct_start=p, div_factor=d, final_div_factor=f, cycle_momentum=False),
               "one_cycle", {"max_learning_rate": 0.5, "total_steps": total, "pct_start": rising, "div_factor": division,
                             "final_div_factor": last})
    for total in (2, 3, 10, 11):
        for rising in (0.3, 0.5, 0.99):
            if rising * total == 1.0:  # torch divides by zero
                continue
            yield (lambda one, n=total, p=rising: schedulers.OneCycleLR(one, 0.5, total_steps=n, pct_start=p), "one_cycle",
                   {"max_learning_rate": 0.5, "total_steps": total, "pct_start": rising})


def torch_cases():
    import torch

    for make, name, settings in torch_calls(torch.optim):
        one = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=0.5, momentum=0.9)
        scheduler, rates = make(one), []
        last = settings.get("total_steps", 1001) if isinstance(settings, dict) else 1001
        for step in range(last):
            if step in STEPS or step in RESTARTS:
                rates.append([step, one.param_groups[0]["lr"]])
            one.step()
            if step + 1 < last:
                scheduler.step()
        yield {"schedule": name, "settings": settings, "rates": rates}


if __name__ == "__main__":
    library = sys.argv[1]
    cases = list({"tensorflow": tensorflow_cases, "torch": torch_cases}[library]())
    with open(os.path.join(sys.argv[2], f"{library}_schedules.json"), "w") as out:
        json.dump({"steps": STEPS, "cases": cases} if library == "tensorflow" else cases, out, indent=None)
        out.write("\n")
