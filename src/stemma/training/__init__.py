"""Batches x model -> weights."""
