"""Whether a server runs the model that it is said to run: prompt tokens and greedy text, compared."""
