"""Whatever stands in a file, loading it gives a tokenizer that works, or a clear error."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stemma.errors import TokenizerError
from stemma.tokenizers import BasicBPE, ByteLevelBPE, Tokenizer, WordTokenizer, load_tokenizer

TEXT = "ab abc abcd " * 3
DOCUMENTS = [
    ByteLevelBPE.train([TEXT], 261).to_json(),
    BasicBPE.train([TEXT], 261).to_json(),
    WordTokenizer.train([TEXT]).to_json(),
]
scalars = (
    st.none()
    | st.booleans()
    | st.integers(-3, 300)
    | st.integers()
    | st.floats()
    | st.text(st.characters() | st.sampled_from("abĠ \ud800"), max_size=4)
)
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=4), inner, max_size=3)
    ),
    max_leaves=5,
)


def places(document: Any) -> list[tuple[Any, Any]]:
    """Every container in the document with each of its keys."""
    keys = document.keys() if isinstance(document, dict) else range(len(document))
    here = [(document, key) for key in keys]
    inner = [document[key] for key in keys if isinstance(document[key], dict | list)]
    return here + [place for value in inner for place in places(value)]


@settings(max_examples=300)
@given(data=st.data())
def test_a_file_with_anything_anywhere_loads_or_is_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = copy.deepcopy(data.draw(st.sampled_from(DOCUMENTS)))
    for _ in range(data.draw(st.integers(1, 3))):
        found = places(document)
        # The vocabulary has hundreds of places and the rest a dozen: both must be reached.
        few = [place for place in found if len(place[0]) < 20]
        container, key = data.draw(st.sampled_from(few or found) | st.sampled_from(found))
        if data.draw(st.booleans()):
            container[key] = data.draw(values)
        else:
            del container[key]
    path: Path = tmp_path_factory.mktemp("fuzz") / "t.json"
    path.write_text(json.dumps(document), "ascii")
    try:
        tokenizer: Tokenizer = load_tokenizer(path)
    except TokenizerError:
        return
    ids = tokenizer.encode("ab abcd")
    assert all(tokenizer.token_bytes(i) for i in range(tokenizer.vocab_size))
    assert tokenizer.decode(ids) == "ab abcd" or isinstance(tokenizer, WordTokenizer)
