"""Compaction: the same program without the slices that are dead or constant everywhere."""

from . import rules as rules  # fills the table
from .compact import compact as compact
from .emission import SETTLED as SETTLED
