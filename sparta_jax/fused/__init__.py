"""Fused operations: what a program computes between its products, as primitives that the planner may hand to a kernel."""

from .attention import Attention as Attention
from .attention import Grouped as Grouped
from .attention import Written as Written
from .mlp import FeedForward as FeedForward
from .mlp import Layer as Layer
from .mlp import mlp_problem as mlp_problem
from .primitive import Operand as Operand
from .primitive import Operation as Operation
from .primitive import fused as fused
