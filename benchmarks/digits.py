"""Trains sparse perceptrons from scratch on scikit-learn's digits: RigL and SET against static random masks, dense beside."""

from __future__ import annotations

import argparse
import functools
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import sparta_jax as sj
from sparta_jax import training

from .digits_results import METHODS, Digits, dump, table
from .machine import describe

WIDTHS = (64, 128, 64, 10)
TEST = 450
BATCH, RATE, EVERY, FRACTION = 128, 3e-3, 50, 0.3
FIRST_SEED = 10  # those before it served to choose width, rate and period

Params = list[dict[str, jax.Array]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--density", type=float, default=0.05)
    parser.add_argument("--json", type=Path, help="where the results go")
    args = parser.parse_args()
    start = time.perf_counter()
    accuracy = measure(args.seeds, args.steps, args.density)
    run = Digits(
        machine=describe(),
        command=shlex.join(["python", "-m", "benchmarks.digits", *sys.argv[1:]]),
        widths=WIDTHS,
        density=args.density,
        steps=args.steps,
        batch=BATCH,
        rate=RATE,
        every=EVERY,
        end=end_of(args.steps),
        fraction=FRACTION,
        test=TEST,
        seconds=time.perf_counter() - start,
        accuracy=accuracy,
    )
    print(table(run))
    if args.json:
        dump(run, args.json)


def measure(seeds: int, steps: int, density: float) -> dict[str, tuple[float, ...]]:
    """Per method the accuracy on the test images, seed by seed."""
    images, labels = digits()
    made = {name: functools.partial(optimizer, name, end_of(steps)) for name in METHODS}
    trains = {name: trainer(make(None)) for name, make in made.items()}
    found: dict[str, list[float]] = {name: [] for name in METHODS}
    for seed in range(FIRST_SEED, FIRST_SEED + seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(images))
        train, test = order[TEST:], order[:TEST]
        batches = jnp.asarray(train[rng.integers(len(train), size=(steps, BATCH))])
        params = weights(rng)
        tesa = sj.masks.random(params, density=density, scope="erk", seed=seed)
        for name, make in made.items():
            trained = trains[name](params, make(tesa).init(params), images, labels, batches)
            found[name].append(float(jnp.mean(jnp.argmax(predict(trained, images[test]), -1) == labels[test])))
    return {name: tuple(values) for name, values in found.items()}


def end_of(steps: int) -> int:
    """The last step at which masks may change: three quarters of the way."""
    return 3 * steps // 4


def digits() -> tuple[jax.Array, jax.Array]:
    """1,797 images of 8x8 pixels in [0, 1], and what they show."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    return jnp.asarray(images / 16, jnp.float32), jnp.asarray(labels, jnp.int32)


def weights(rng: np.random.Generator) -> Params:
    layers = zip(WIDTHS, WIDTHS[1:], strict=False)
    draw = lambda m, n: jnp.asarray(rng.normal(size=(m, n)) * np.sqrt(2 / m), jnp.float32)
    return [{"kernel": draw(m, n), "bias": jnp.zeros(n)} for m, n in layers]


def predict(params: Params, x: jax.Array) -> jax.Array:
    *hidden, last = params
    for layer in hidden:
        x = jax.nn.relu(x @ layer["kernel"] + layer["bias"])
    return x @ last["kernel"] + last["bias"]


def loss(params: Params, x: jax.Array, y: jax.Array) -> jax.Array:
    return optax.softmax_cross_entropy_with_integer_labels(predict(params, x), y).mean()


def optimizer(name: str, end: int, tesa: Any) -> optax.GradientTransformation:
    """The optimizer of a method, with its first masks."""
    adam, schedule = optax.adam(RATE), training.periodic(every=EVERY, end=end)
    made: dict[str, Callable[[], optax.GradientTransformation]] = {
        "dense": lambda: training.fixed(adam, None),
        "static": lambda: training.fixed(adam, tesa),
        "SET": lambda: training.evolutionary(adam, tesa, schedule, fraction=FRACTION),
        "RigL": lambda: training.rigl(adam, tesa, schedule, fraction=FRACTION),
    }
    return made[name]()


def trainer(optimizer: optax.GradientTransformation) -> Callable[..., Params]:
    """A compiled run over all batches; the masks are in the state, so all seeds share it."""

    @jax.jit
    def train(params, state, images, labels, batches):
        def step(carry, batch):
            params, state = carry
            grads = jax.grad(loss)(params, images[batch], labels[batch])
            updates, state = optimizer.update(grads, state, params)
            return (optax.apply_updates(params, updates), state), None

        start = training.masked(params, state), state
        return jax.lax.scan(step, start, batches)[0][0]

    return train


if __name__ == "__main__":
    main()
