"""Frozen typed rows shared by all methods, and the tables (JSONL, JSON, Parquet) that hold them."""

from strop.records.rows import (
    Answer,
    Identifier,
    Message,
    PreferencePair,
    Prompt,
    Question,
    SampledAnswers,
    SupervisedExample,
)
from strop.records.tables import align, read_table, write_table

__all__ = [
    "Answer",
    "Identifier",
    "Message",
    "PreferencePair",
    "Prompt",
    "Question",
    "SampledAnswers",
    "SupervisedExample",
    "align",
    "read_table",
    "write_table",
]
