"""WordPiece, the tokenizer of BERT."""
