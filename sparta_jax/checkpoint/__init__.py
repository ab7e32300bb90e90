"""Files of packed and compressed params: data only, in the form of safetensors, with their meaning as JSON in the header."""

from .packed import load_leaves as load_leaves
from .packed import load_packed as load_packed
from .packed import save_packed as save_packed
