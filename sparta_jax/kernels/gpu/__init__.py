"""What the block-sparse kernels of both GPU backends share: lists of live blocks, sizes, and what stands around a kernel."""
