"""The model card of a run: what was trained, on what, with which numbers."""

from __future__ import annotations

from stemma.lab.directory import Record


def write_card(record: Record) -> str:
    """The body of a model card, in Markdown."""
    text, trained, found = record["text"], record["training"], record["evaluation"]
    tokenizer, ran_on = record["tokenizer"], record["environment"]
    ancestors = "".join(
        f"| {row['name']} | {row['bits_per_byte']:.3f} |\n" for row in record["ancestors"]
    )
    training = (
        f"{trained['steps']} steps, {trained['tokens']:,} tokens, "
        f"{trained['seconds']:.0f} seconds, {trained['precision']}"
    )
    return f"""# {record["title"]}

A decoder-only Transformer of {record["model"]["parameters"]:,} parameters, trained from random
weights with stemma {ran_on["stemma"]}.

- Text: {text["note"]}
- Tokenizer: {tokenizer["vocab_size"]:,} tokens, {tokenizer["bytes_per_token"]:.2f} bytes each
- Training: {training}
- Hardware: {ran_on["processor"]}, {ran_on["cores"]} cores, {ran_on["device"]}

| model | bits per byte of held-out text |
|---|---|
{ancestors}| this model | {found["bits_per_byte"]:.3f} |

Windows of {found["context_length"]} tokens advancing by {found["stride"]}.

It continues text in the manner of what it was trained on. It knows no facts and follows no
instructions.

```python
import stemma

model, tokenizer = stemma.load("path/to/this/directory")
```

```python
from transformers import AutoModelForCausalLM, AutoTokenizer

model = AutoModelForCausalLM.from_pretrained("path/to/this/directory")
tokenizer = AutoTokenizer.from_pretrained("path/to/this/directory")
```
"""
