"""Block-sparse matrix products for NVIDIA Hopper GPUs, written in Pallas for Mosaic GPU."""
