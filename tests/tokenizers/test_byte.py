from __future__ import annotations

from stemma.tokenizers import ByteTokenizer


def test_ids_are_the_values_of_the_bytes() -> None:
    tokenizer = ByteTokenizer()
    assert tokenizer.encode("hé").tolist() == [104, 0xC3, 0xA9]
    assert tokenizer.vocab_size == 257
    assert tokenizer.end_of_text == 256


def test_it_can_do_without_special_tokens() -> None:
    tokenizer = ByteTokenizer(())
    assert (tokenizer.vocab_size, tokenizer.end_of_text) == (256, None)
