"""What to prune: scores that need the function, and channels that must die together."""

from .scores import activation as activation
from .scores import saliency as saliency
