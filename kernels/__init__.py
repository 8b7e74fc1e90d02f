"""Generated Numba kernels.  ``make regen`` writes them; ``moaproof check`` reads them back."""
