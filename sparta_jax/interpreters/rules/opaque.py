"""Primitives for which "live everywhere, needed whole" is the exact answer, each with the reason: they need no rule."""

from __future__ import annotations

_KEY = "every bit depends on the whole key, and a key has no dead part"

DENSE_IS_EXACT: dict[str, str] = {
    "random_bits": _KEY,
    "random_split": _KEY,
    "random_fold_in": _KEY,
    "random_gamma": "drawn by rejection: a deviate depends on the whole key and is never zero",
    "rng_bit_generator": _KEY,
    "rng_uniform": "drawn from a state that the program does not hold",
    "threefry2x32": _KEY,
    "random_seed": "every bit of a key depends on the seed, and zero is a seed like any other",
    "random_wrap": "a key's words have no zeros that say anything",
    "random_unwrap": "a key's words have no zeros that say anything",
    "random_clone": "a key has no dead part",
    "iota_2x32_shape": "it has no operand whose facts could be lost",
    "select_and_scatter": "it chooses and adds by any functions, from any value; no public function of JAX makes it",
}
