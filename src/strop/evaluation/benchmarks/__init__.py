"""Benchmarks with closed answers: readers, prompts, parsers, scores beside constant answers, paired comparisons."""
