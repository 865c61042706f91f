"""Rubrics, ratings and comparisons by judges, and how far a judge agrees with people before it is used."""
