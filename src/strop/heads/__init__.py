"""Mixture-of-head attention (MoH): each token uses only some query heads, and only those are computed."""
