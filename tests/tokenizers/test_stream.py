from __future__ import annotations

from stemma.tokenizers import ByteTokenizer, StreamDecoder, WordTokenizer, gpt2


def test_half_a_character_is_held_back() -> None:
    stream = StreamDecoder(ByteTokenizer())
    assert [stream.push(byte) for byte in "a€b".encode()] == ["a", "", "", "€", "b"]
    assert stream.finish() == ""


def test_an_unfinished_character_is_shown_at_the_end() -> None:
    stream = StreamDecoder(ByteTokenizer())
    assert [stream.push(byte) for byte in b"a\xf0\x9f\x99"] == ["a", "", "", ""]
    assert stream.finish() == "\ufffd"
    assert stream.push(ord("b")) == "b"


def test_an_emoji_of_several_gpt2_tokens_comes_whole() -> None:
    ids = gpt2().encode("so 🧩!").tolist()
    stream = StreamDecoder(gpt2())
    pieces = [stream.push(id_) for id_ in ids]
    assert len(ids) > 4
    assert [piece for piece in pieces if piece] == ["so", " ", "🧩", "!"]


def test_words_get_their_spaces() -> None:
    tokenizer = WordTokenizer.train(["Hello, world"])
    stream = StreamDecoder(tokenizer)
    assert [stream.push(i) for i in tokenizer.encode("Hello, world").tolist()] == (
        ["Hello", ",", " world"]
    )
