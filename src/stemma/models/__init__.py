"""The wholes: language models made of parts."""
