"""Batches, updates, evaluation, stopping; `engine` trains many runs at once, `plain` one. No files."""
