"""Importing this package fills the rule tables."""

from . import branches as branches
from . import calls as calls
from . import contraction as contraction
from . import convolution as convolution
from . import elementwise as elementwise
from . import folding as folding
from . import indexing as indexing
from . import linalg as linalg
from . import loops as loops
from . import movement as movement
from . import pooling as pooling
from . import reduction as reduction
from . import solve as solve
from .opaque import DENSE_IS_EXACT as DENSE_IS_EXACT
