from __future__ import annotations

import pytest

from stemma.data.corpus import shipped_corpora, shipped_corpus
from stemma.data.sources import read_documents
from stemma.errors import DataError


def test_the_shipped_shakespeare() -> None:
    documents = list(read_documents(shipped_corpus()))
    assert len(documents) == 42
    assert documents[0].text.startswith("ALL'S WELL THAT ENDS WELL\n")
    assert sum(document.n_bytes for document in documents) == 5_057_203


def test_every_corpus_has_its_source_and_licence_stated() -> None:
    readme = shipped_corpus().with_name("README.md").read_text()
    for name in shipped_corpora():
        assert f"`{shipped_corpus(name).name}`" in readme


def test_an_unknown_name() -> None:
    with pytest.raises(DataError, match="no corpus 'milton' is shipped\nThere is: shakespeare"):
        shipped_corpus("milton")
