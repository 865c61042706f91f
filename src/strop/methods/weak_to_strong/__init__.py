"""Weak-to-Strong Reasoning (Yang, Ma and Liu, 2024, arXiv 2407.13647)."""
