"""Two contestants answer the same prompts, and a judge compares their answers, blind to who wrote which."""
