"""Sparsity in JAX: a function in, the same function without the work that its zeros make unnecessary out."""

from . import masks as masks
from . import pruning as pruning
from .api import Propagation as Propagation
from .api import Sparsified as Sparsified
from .api import propagate as propagate
from .api import sparsify as sparsify
from .checkpoint import load_packed as load_packed
from .checkpoint import save_packed as save_packed
from .errors import SpartaError as SpartaError
from .errors import SpartaWarning as SpartaWarning
from .sources import from_sparse as from_sparse
from .specialize import calibrate as calibrate
from .tesa import TeSA as TeSA
