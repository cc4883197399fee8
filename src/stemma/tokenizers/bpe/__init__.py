"""Byte-pair encoding: from data compression to byte-level BPE, dropout and grapheme clusters."""
