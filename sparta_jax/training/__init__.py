"""Sparse training: optax transforms that keep dead weights dead, prune gradually or move live ones, and a step around them."""

from .dynamic import evolutionary as evolutionary
from .dynamic import rigl as rigl
from .gradual import fixed as fixed
from .gradual import gradual as gradual
from .gradual import masked_updates as masked_updates
from .loop import Current as Current
from .loop import Step as Step
from .schedules import Densities as Densities
from .schedules import Schedule as Schedule
from .schedules import one_shot as one_shot
from .schedules import periodic as periodic
from .schedules import polynomial as polynomial
from .state import SparseState as SparseState
from .state import masked as masked
from .state import sparse_state as sparse_state
from .state import tesa_of as tesa_of
