"""ONF to Numba source.  Untrusted: the reader reads the text back."""
