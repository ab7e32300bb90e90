"""Compressed params: the live elements alone, one array per param, to be trained."""

from .storage import Channels as Channels
from .storage import Flat as Flat
from .storage import Matrices as Matrices
from .storage import Steps as Steps
from .storage import Storage as Storage
from .storage import Whole as Whole
from .storage import matrices as matrices
from .storage import rearranged as rearranged
from .tree import Compressed as Compressed
from .tree import Form as Form
from .tree import Kept as Kept
