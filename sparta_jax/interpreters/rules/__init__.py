"""Importing this package fills the rule tables."""

from . import calls as calls
from . import contraction as contraction
from . import elementwise as elementwise
from . import indexing as indexing
from . import movement as movement
from . import reduction as reduction
