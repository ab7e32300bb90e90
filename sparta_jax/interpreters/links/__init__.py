"""Links: which slices of which params belong to one channel, found along the axes of a program's values.

Every axis of a variable may carry labels, one per position: a label names the channel that the position is a slice of. Params
start with a label of their own per position; an operation passes the labels of its operands on, and where positions of two
operands meet (in a sum, in a contraction, in a batch) their channels are one. What the data or the outputs fix is pinned: it
is no channel that may die.

Links choose masks, they prove nothing: whatever they say, a mask that is made of them is exact.
"""

from . import calls as calls  # these two fill the table
from . import rules as rules
from .members import members as members
from .members import numbers_of as numbers_of
from .sweep import channels_of as channels_of
