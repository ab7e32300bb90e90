"""The compaction rules, by family; importing them fills the table."""

from . import bodies as bodies
from . import calls as calls
from . import contraction as contraction
from . import convolution as convolution
from . import indexing as indexing
from . import movement as movement
from . import reduction as reduction
