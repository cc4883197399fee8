"""Recipes -> runs -> evidence."""
