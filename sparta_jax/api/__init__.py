"""The public functions: the one place where interpreters and kernels meet."""

from .propagation import Propagation as Propagation
from .propagation import VariableFact as VariableFact
from .sparsified import Sparsified as Sparsified
from .sparsified import propagate as propagate
from .sparsified import sparsify as sparsify
