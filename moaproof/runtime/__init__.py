"""Loading and launching certified kernels, and the PyTorch entry."""
