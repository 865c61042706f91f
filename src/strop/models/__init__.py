"""Text generation and scoring behind one protocol: local transformers, endpoints, scripts."""
