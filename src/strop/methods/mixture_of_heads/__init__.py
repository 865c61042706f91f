"""Mixture-of-head attention (MoH, arXiv 2410.11842): convert, continue training, compare with what it must beat."""
