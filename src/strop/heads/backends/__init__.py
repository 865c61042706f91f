"""The ways in which the chosen heads are computed; every one gives what the reference gives."""
