"""``tf.random``: what draws random numbers, which is at the top as well under longer names."""

from worker_client.ops.nn.candidate_samplers import (
    all_candidate_sampler,
    fixed_unigram_candidate_sampler,
    log_uniform_candidate_sampler,
    uniform_candidate_sampler,
)
from worker_client.ops.random_ops import (
    categorical,
    get_seed,
    multinomial,
    random_gamma,
    random_normal,
    random_poisson,
    random_shuffle,
    random_uniform,
    set_random_seed,
    truncated_normal,
)
from worker_client.values.left_out import getattr_of

__all__ = [
    "all_candidate_sampler",
    "categorical",
    "fixed_unigram_candidate_sampler",
    "gamma",
    "get_seed",
    "log_uniform_candidate_sampler",
    "multinomial",
    "normal",
    "poisson",
    "set_random_seed",
    "shuffle",
    "truncated_normal",
    "uniform",
    "uniform_candidate_sampler",
]

gamma = random_gamma
normal = random_normal
poisson = random_poisson
shuffle = random_shuffle
uniform = random_uniform

__getattr__ = getattr_of("random")
