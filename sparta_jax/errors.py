"""Every error that a user can cause: what, where (a key path), how to mend it; and the one warning."""


class SpartaError(Exception):
    """The base of all errors raised by `sparta_jax` itself."""


class SpartaValueError(SpartaError, ValueError):
    """An argument has the right type and a wrong value: a shape, a path, a density."""


class SpartaTypeError(SpartaError, TypeError):
    """An argument has the wrong type: a traced mask, an unhashable static argument."""


class PackedError(SpartaValueError):
    """A packed tree does not fit the function or the call it is given to."""


class SpartaKeyError(SpartaValueError, KeyError):
    """A name that a lookup does not know."""

    def __str__(self) -> str:
        return str(self.args[0])


class SpartaWarning(UserWarning):
    """What a user should know and need not mend at once: sparsity that leaves a result, or a whole param, without any effect; a
    file of the cache directory that is ignored."""


class CheckpointError(SpartaValueError):
    """A file is no packed tree of ours, is damaged, or was written by a newer version."""


class MissingExtra(SpartaError, ImportError):  # noqa: N818
    """A package that only an extra installs is not there."""
