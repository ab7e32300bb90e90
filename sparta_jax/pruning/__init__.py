"""What to prune: scores that need the function, and channels that must die together."""

from .groups import Group as Group
from .groups import Slices as Slices
from .groups import groups as groups
from .scores import activation as activation
from .scores import saliency as saliency
from .structured import structured as structured
