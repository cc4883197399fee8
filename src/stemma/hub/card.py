"""The model card: what a model is, what it learned from, its numbers, how to load it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

_LOADING = """\
## How to load it

With `transformers`NEEDS:

```python
from transformers import CLASS, AutoTokenizer

model = CLASS.from_pretrained("PATH")
tokenizer = AutoTokenizer.from_pretrained("PATH")
USE
```

With stemma:

```python
import stemma

model, tokenizer = stemma.load("PATH")
```

"PATH" is this directory, or the repository's name on the Hub. `sha256sum -c SHA256SUMS`, run
inside the directory, tells whether it is intact; `stemma.load` compares the same checksums.
"""
_STEMMA = "import stemma\n\nmodel, tokenizer = stemma.load"
_ENCODED = 'ids = tokenizer("Once", return_tensors="pt")\n'
_GENERATED = "print(tokenizer.decode(model.generate(**ids, max_new_tokens=50, do_sample=True)[0]))"
_ASKED = """\
messages = [{"role": "user", "content": "What is the capital of France?"}]
ids = tokenizer.apply_chat_template(
    messages, add_generation_prompt=True, return_tensors="pt", return_dict=True
)
"""
_USES = {
    "text-generation": ("AutoModelForCausalLM", _ENCODED + _GENERATED),
    "text2text-generation": ("AutoModelForSeq2SeqLM", _ENCODED + _GENERATED),
    "fill-mask": ("AutoModelForMaskedLM", f"{_ENCODED}print(model(**ids).logits.shape)"),
    "feature-extraction": ("AutoModel", f"{_ENCODED}print(model(**ids).last_hidden_state.shape)"),
}
"""What the Hub calls a use of a model -> the class for it, and an example."""


@dataclass(frozen=True)
class ModelCard:
    """What the README of a model directory says, as plain values.

    Attributes:
        name: the title.
        description: what the model is, in a sentence or a paragraph.
        trained_on: the text it learned from, with its source.
        results: what was measured -> the number with its unit.
        settings: what determined the training -> its value.
        licence: of the weights, as the Hugging Face Hub spells it (``apache-2.0``).
        base: the repository of the model that this is a copy of.
        pipeline: what the Hub calls its use (``text-generation``).
        chats: whether it has a chat template.
        own_shape: whether `transformers` needs stemma to open it (`hub.auto_model`).
    """

    name: str
    description: str = ""
    trained_on: str = ""
    results: Mapping[str, str] = field(default_factory=dict)
    settings: Mapping[str, str] = field(default_factory=dict)
    licence: str | None = None
    base: str | None = None
    pipeline: str = "text-generation"
    chats: bool = False
    own_shape: bool = False

    def markdown(self) -> str:
        """The card as Markdown with the front matter that the Hugging Face Hub reads."""
        front = ["---", *([f"license: {self.licence}"] if self.licence else [])]
        front += [f"base_model: {self.base}"] if self.base else []
        front += ["library_name: transformers", f"pipeline_tag: {self.pipeline}"]
        sections = [
            "\n".join([*front, "tags: [stemma]", "---"]),
            f"# {self.name}",
            self.description,
            f"## What it was trained on\n\n{self.trained_on}" if self.trained_on else "",
            _table("Numbers", "measured", self.results),
            _table("How it was trained", "setting", self.settings),
            self._loading().rstrip(),
        ]
        return "\n\n".join(section for section in sections if section) + "\n"

    def _loading(self) -> str:
        class_, use = _USES[self.pipeline]
        if self.chats:
            use = _ASKED + _GENERATED
        loading = _LOADING.replace("CLASS", class_).replace("USE", use)
        if self.pipeline == "text2text-generation":
            loading = loading.replace(_STEMMA, "from stemma import hub\n\nmodel = hub.load_model")
        if not self.own_shape:
            return loading.replace("NEEDS", " (no code of stemma's is needed)")
        needs = ", which learns this shape by an import (`pip install stemma`)"
        first = "from transformers import"
        learns = f"import stemma.hub.auto_model  # noqa: F401\n{first}"
        return loading.replace("NEEDS", needs).replace(first, learns)


def _table(title: str, what: str, rows: Mapping[str, str]) -> str:
    if not rows:
        return ""
    lines = [f"| {_cell(name)} | {_cell(value)} |" for name, value in rows.items()]
    return "\n".join([f"## {title}\n", f"| {what} | value |", "|---|---|", *lines])


def _cell(text: str) -> str:
    return " ".join(str(text).replace("|", "\\|").split())
