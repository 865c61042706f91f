"""Benchmarks with closed answers: readers, prompts, parsers, scores beside every constant answer, paired comparisons."""
