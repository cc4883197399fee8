"""Ids -> batches."""
