"""Interleaved timings of sparse products against XLA's dense product of the masked weight."""
