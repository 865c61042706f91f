"""strop: post-train language models when good labels are scarce, and make the result cheaper to serve."""

__version__ = "0.1.0"
