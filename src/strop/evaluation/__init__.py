"""Grading of reasoning answers, and the statistics that go with every number."""
