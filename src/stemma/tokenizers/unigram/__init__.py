"""The unigram language model: training, and segmentations by their likelihood."""
