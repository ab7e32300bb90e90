"""A Haiku model needs no wrapper: its `apply` is a function of its params.

python examples/haiku_model.py
"""

import haiku as hk
import jax
import jax.numpy as jnp

import sparta_jax as sj


def main() -> None:
    """Prunes half of the blocks of an MLP; prints how far it is from the masked model, and what is done where."""
    model = hk.without_apply_rng(hk.transform(lambda x: hk.nets.MLP([512, 512, 10])(x)))
    x = jax.random.normal(jax.random.key(1), (32, 256))
    params = model.init(jax.random.key(0), x)
    tesa = sj.masks.magnitude(params, density=0.5, block=(32, 32), paths="linear_[01]/w")

    fast = sj.sparsify(model.apply, tesa)
    packed = fast.pack(params, x)
    masked = jax.tree.map(lambda t, p: p if t is None else jnp.where(t.mask, p, 0), tesa, params, is_leaf=lambda t: t is None)
    print("largest difference", float(jnp.abs(fast(packed, x) - model.apply(masked, x)).max()))
    print(fast.report(packed, x))


if __name__ == "__main__":
    main()
