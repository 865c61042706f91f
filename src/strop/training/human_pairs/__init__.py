"""Reward models on human pairs: tuned and frozen ones beside what needs no model, out of fold, by group."""
