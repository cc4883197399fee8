"""What is done before and after a model cuts words: normalise, pre-tokenise, decode, frame."""
