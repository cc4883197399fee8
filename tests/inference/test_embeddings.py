"""Vectors of texts: batches change nothing, and MiniLM's are those of transformers."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import stemma
from stemma.errors import ModelError
from stemma.inference import embed_texts
from stemma.models import Transformer, TransformerConfig
from stemma.nn import AttentionConfig, NoHeadConfig
from stemma.tokenizers import ByteTokenizer

TEXTS = ["a", "some words", "more words than the other texts have", "and a last one"]


def model(*, causal: bool = False, context_length: int = 40) -> Transformer:
    config = TransformerConfig(
        vocab_size=257,
        context_length=context_length,
        d_model=16,
        n_layers=2,
        attention=AttentionConfig(n_heads=2),
        causal=causal,
        head=NoHeadConfig(),
        tie_embeddings=False,
    )
    built = config.build(seed=3)
    for parameter in built.parameters():
        parameter.data.mul_(5)
    return built


@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
@pytest.mark.parametrize("causal", [False, True])
def test_a_batch_gives_what_each_text_gives_alone(pooling: str, causal: bool) -> None:
    encoder, tokenizer = model(causal=causal), ByteTokenizer()
    together = embed_texts(encoder, tokenizer, TEXTS, pooling=pooling, batch_size=3)
    for text, found in zip(TEXTS, together, strict=True):
        ids = torch.tensor(tokenizer.encode(text).tolist())[None]
        hidden = encoder.hidden_states(ids)[0]
        alone = {"mean": hidden.mean(0), "first": hidden[0], "last": hidden[-1]}[pooling]
        torch.testing.assert_close(found, alone / alone.norm(), atol=1e-5, rtol=1e-4)


@settings(max_examples=20)
@given(st.lists(st.text("abc ", min_size=1, max_size=50), min_size=1, max_size=7), st.randoms())
def test_the_order_of_texts_is_that_of_vectors(texts: list[str], random: object) -> None:
    encoder, tokenizer = model(), ByteTokenizer()
    vectors = embed_texts(encoder, tokenizer, texts, batch_size=2)
    order = sorted(range(len(texts)), key=lambda _: random.random())  # type: ignore[attr-defined]
    shuffled = embed_texts(encoder, tokenizer, [texts[i] for i in order], batch_size=3)
    torch.testing.assert_close(shuffled, vectors[order], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(vectors.norm(dim=-1), torch.ones(len(texts)))


def test_a_long_text_is_cut_at_its_end() -> None:
    encoder, tokenizer = model(context_length=8), ByteTokenizer()
    short, long = embed_texts(encoder, tokenizer, ["12345678", "12345678 and more"])
    torch.testing.assert_close(short, long)


def test_vectors_may_keep_their_length() -> None:
    encoder, tokenizer = model(), ByteTokenizer()
    raw = embed_texts(encoder, tokenizer, TEXTS, normalise=False)
    unit = embed_texts(encoder, tokenizer, TEXTS)
    torch.testing.assert_close(raw / raw.norm(dim=-1, keepdim=True), unit)
    assert (raw.norm(dim=-1) - 1).abs().min() > 1e-3


def test_bad_input_is_named() -> None:
    encoder, tokenizer = model(), ByteTokenizer()
    with pytest.raises(ModelError, match=r"texts is one text(.|\n)*Put it in a list: \[texts\]"):
        embed_texts(model(), ByteTokenizer(), "a string")
    with pytest.raises(ModelError, match="text 1 is empty"):
        embed_texts(encoder, tokenizer, ["a", ""])
    with pytest.raises(ModelError, match="pooling='max'"):
        embed_texts(encoder, tokenizer, ["a"], pooling="max")  # type: ignore[arg-type]
    assert embed_texts(encoder, tokenizer, []).shape == (0, 16)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:the file asks for")
def test_minilm_is_that_of_transformers_and_ranks_sanely(minilm: Path) -> None:
    import transformers

    encoder, tokenizer = stemma.load(minilm)
    texts = [
        "A man is eating food.",
        "Someone is having a meal.",
        "The stock market fell sharply today.",
        "Shares lost much of their value this afternoon.",
        "A cheetah is running behind its prey.",
        "The girl is carrying a baby. " * 100,
    ]
    ours = embed_texts(encoder, tokenizer, texts)
    their_tokenizer = transformers.AutoTokenizer.from_pretrained(minilm)
    theirs = transformers.AutoModel.from_pretrained(minilm).eval()
    batch = their_tokenizer(
        texts, padding=True, truncation=True, max_length=512, return_tensors="pt"
    )
    with torch.no_grad():
        hidden = theirs(**batch).last_hidden_state
    mask = batch["attention_mask"].unsqueeze(-1)
    expected = torch.nn.functional.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    torch.testing.assert_close(ours, expected, atol=1e-5, rtol=0)
    cosines = ours @ ours.T
    assert cosines.fill_diagonal_(0)[:4].argmax(-1).tolist() == [1, 0, 3, 2]
    assert float(cosines[0, 1]) > 0.5
    assert float(cosines[0, 2]) < 0.2
