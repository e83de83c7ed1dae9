"""What a CUDA device likes: few kernels."""
