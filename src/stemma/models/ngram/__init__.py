"""The n-gram: Shannon's language model of 1948, with the best smoothing its age found.

`counting` counts into `counts`, `kneser_ney` smooths, `model` predicts.
"""

from stemma.models.ngram.counting import count_ngrams
from stemma.models.ngram.counts import NGramCounts
from stemma.models.ngram.kneser_ney import modified_discounts
from stemma.models.ngram.model import NGram

__all__ = ["NGram", "NGramCounts", "count_ngrams", "modified_discounts"]
