"""Head to head: two models answer the same prompts, and a judge that has shown its certificate compares them."""
