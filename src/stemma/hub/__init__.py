"""Names <-> files: the catalog, model directories in Hugging Face's layout, the Hub."""

from stemma.hub.card import ModelCard
from stemma.hub.catalog import resolve
from stemma.hub.load import load, load_tokenizer
from stemma.hub.model_directory import load_model, save_model

__all__ = ["ModelCard", "load", "load_model", "load_tokenizer", "resolve", "save_model"]
