"""The model card of a run, from its record."""

from __future__ import annotations

from stemma.hub import ModelCard
from stemma.lab.directory import Record


def write_card(record: Record) -> ModelCard:
    """What was trained, on what, with which numbers."""
    text, trained, found = record["text"], record["training"], record["evaluation"]
    tokenizer, ran_on = record["tokenizer"], record["environment"]
    results = {
        row["name"]: f"{row['bits_per_byte']:.3f} bits per byte" for row in record["ancestors"]
    }
    results["this model"] = f"{found['bits_per_byte']:.3f} bits per byte"
    return ModelCard(
        name=record["title"],
        description=(
            f"A decoder-only Transformer of {record['model']['parameters']:,} parameters, trained "
            "from random weights. It continues text in the manner of what it was trained on; it "
            "knows no facts and follows no instructions."
        ),
        trained_on=text["note"],
        results=results,
        settings={
            "tokenizer": f"{tokenizer['vocab_size']:,} tokens of "
            f"{tokenizer['bytes_per_token']:.2f} bytes",
            "training": f"{trained['steps']} steps, {trained['tokens']:,} tokens, "
            f"{trained['seconds']:.0f} seconds, {trained['precision']}",
            "hardware": f"{ran_on['processor']}, {ran_on['cores']} cores, {ran_on['device']}",
            "measured with": f"windows of {found['context_length']} tokens that advance by "
            f"{found['stride']}, on held-out text",
            "software": f"stemma {ran_on['stemma']}, torch {ran_on['torch']}",
        },
    )
