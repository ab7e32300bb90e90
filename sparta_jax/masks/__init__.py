"""Makers of TeSA trees: which elements of which params are live, by score, at random, or as given."""

from .given import from_masks as from_masks
from .given import from_zeros as from_zeros
from .makers import by_score as by_score
from .makers import channels as channels
from .makers import heads as heads
from .makers import layers as layers
from .makers import magnitude as magnitude
from .makers import nm as nm
from .makers import random as random
