"""A small judge from a few hundred labelled pairs, and what labels buy."""
