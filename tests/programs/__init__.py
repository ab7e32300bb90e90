"""Random JAX programs with random masks: drawn, checked against the masked program, shrunk where they fail."""
