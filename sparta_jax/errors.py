"""Every error that a user can cause: what, where (a key path), how to mend it."""


class SpartaError(Exception):
    """The base of all errors raised by `sparta_jax` itself."""


class SpartaValueError(SpartaError, ValueError):
    """An argument has the right type and a wrong value: a shape, a path, a density."""


class SpartaTypeError(SpartaError, TypeError):
    """An argument has the wrong type: a traced mask, an unhashable static argument."""


class PackedError(SpartaValueError):
    """A packed tree does not fit the function or the call it is given to."""
