"""Worlds: score many files by processes that claim one after another, here or as elements of job arrays."""
