"""Models behind a URL: requests in flight, their pace, their repeats, what they cost."""
