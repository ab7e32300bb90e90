"""An Equinox model needs no wrapper: it is a tree, and a function of its arrays once it is parted from what is no array.

python examples/equinox_model.py
"""

import equinox as eqx
import jax
import jax.numpy as jnp

import sparta_jax as sj


def main() -> None:
    """Prunes half of the blocks of an MLP; prints how far it is from the masked model, and what is done where."""
    model = eqx.nn.MLP(256, 10, 512, 2, key=jax.random.key(0))
    params, static = eqx.partition(model, eqx.is_array)
    x = jax.random.normal(jax.random.key(1), (32, 256))
    tesa = sj.masks.magnitude(params, density=0.5, block=(32, 32), paths="layers/[01]/weight")

    def apply(params, x):
        return jax.vmap(eqx.combine(params, static))(x)

    fast = sj.sparsify(apply, tesa)
    packed = fast.pack(params, x)
    masked = jax.tree.map(lambda t, p: p if t is None else jnp.where(t.mask, p, 0), tesa, params, is_leaf=lambda t: t is None)
    print("largest difference", float(jnp.abs(fast(packed, x) - apply(masked, x)).max()))
    print(fast.report(packed, x))


if __name__ == "__main__":
    main()
