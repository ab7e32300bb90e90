"""The native kernels beside other libraries on the same weights: what the project promises, and whether it holds."""
