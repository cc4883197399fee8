"""What SentencePiece's families share, and its BPE."""
