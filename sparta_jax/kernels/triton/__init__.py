"""Block-sparse matrix products for NVIDIA GPUs since Ampere, written in Pallas for Triton."""
