"""A sentence encoder in Flax, its pretrained weights, and a measure of what pruning does to it."""
