"""The proof kernel: the only folder that may say that a step is proved.  Trusted for claim (b)."""
