"""Compaction: the same program without the slices that are dead or constant everywhere."""

from . import rules as rules  # fills the table
from .compact import compact as compact
from .compact import live_sizes as live_sizes
from .compact import run_compact as run_compact
from .worth import pays as pays
from .worth import product_flops as product_flops
