"""Reading a Hugging Face ``config.json`` so that nothing in it is passed over in silence."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from stemma.errors import ModelError
from stemma.models.transformer_config import MOST_LAYERS
from stemma.nn import ActivationName

ACTIVATIONS: dict[ActivationName, str] = {
    "gelu": "gelu",
    "gelu_tanh": "gelu_new",
    "silu": "silu",
    "relu": "relu",
    "relu2": "relu2",
    "sigmoid": "sigmoid",
    "identity": "linear",
}
_READ_ACTIVATIONS: dict[str, ActivationName] = {
    **{theirs: ours for ours, theirs in ACTIVATIONS.items()},
    "gelu_pytorch_tanh": "gelu_tanh",
    "swish": "silu",
}

# Bookkeeping, training, and habits of generation: none of these changes what the model computes.
_HARMLESS = frozenset(
    [
        "architectures",
        "model_type",
        "transformers_version",
        "dtype",
        "torch_dtype",
        "_name_or_path",
        "name_or_path",
        "use_cache",
        "initializer_range",
        "pad_token_id",
        "bos_token_id",
        "eos_token_id",
        "sep_token_id",
        "task_specific_params",
        "id2label",
        "label2id",
        "num_labels",
        "_num_labels",
        "problem_type",
        "finetuning_task",
        "output_attentions",
        "output_hidden_states",
        "output_scores",
        "return_dict",
        "return_dict_in_generate",
        "chunk_size_feed_forward",
        "tokenizer_class",
        "attn_implementation",
        "_attn_implementation_autoset",
        "max_length",
        "min_length",
        "do_sample",
        "early_stopping",
        "num_beams",
        "num_beam_groups",
        "diversity_penalty",
        "temperature",
        "top_k",
        "top_p",
        "typical_p",
        "repetition_penalty",
        "length_penalty",
        "no_repeat_ngram_size",
        "encoder_no_repeat_ngram_size",
        "num_return_sequences",
        "prefix",
        "suppress_tokens",
    ]
)
_LARGEST = 1 << 24
_OFF: tuple[Any, ...] = (None, False, 0, 0.0, [], {}, "")


class ConfigJson:
    """The values of a ``config.json``; each must be taken, known as harmless, or off.

    Args:
        values: as parsed.
        family: for the messages.
        prefix: of the names, for the messages.
    """

    def __init__(self, values: Mapping[str, Any], family: str, prefix: str = "") -> None:
        self._values = dict(values)
        self._family = family
        self._prefix = prefix
        self._taken: set[str] = set()

    def integer(self, name: str, default: int | None = None) -> int:
        """A whole number above zero, and no larger than models are; ``null`` counts as absent."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 1:
            raise self.refuse(name, value, "it must be a whole number above 0")
        if value > _LARGEST:
            raise self.refuse(name, value, f"no model has more than {_LARGEST:,} of anything")
        return value

    def layers(self, name: str, default: int | None = None) -> int:
        """A number of layers, which lists may be made of."""
        value = self.integer(name, default)
        if value > MOST_LAYERS:
            raise self.refuse(name, value, f"no model has more than {MOST_LAYERS:,} layers")
        return value

    def whole(self, name: str, default: int) -> int:
        """A whole number from zero up; ``null`` counts as absent."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise self.refuse(name, value, "it must be a whole number from 0 up")
        return value

    def words(self, name: str, default: list[str]) -> list[str]:
        """A list of words; ``null`` counts as absent."""
        value = self._take(name, default)
        if not isinstance(value, list) or not all(isinstance(word, str) for word in value):
            raise self.refuse(name, value, "it must be a list of words")
        return value

    def optional_integer(self, name: str) -> int | None:
        """A whole number above zero; None where it is absent or ``null``."""
        self._taken.add(name)
        return None if self._values.get(name) is None else self.integer(name)

    def number(self, name: str, default: float | None = None) -> float:
        """A number above zero; ``null`` counts as absent."""
        value = self._take(name, default)
        if isinstance(value, bool) or not isinstance(value, int | float) or not value > 0:
            raise self.refuse(name, value, "it must be a number above 0")
        if value > sys.float_info.max:
            raise self.refuse(name, value, "it must be finite")
        return float(value)

    def flag(self, name: str, default: bool) -> bool:
        """True or false."""
        value = self._take(name, default)
        if not isinstance(value, bool):
            raise self.refuse(name, value, "it must be true or false")
        return value

    def activation(self, name: str, default: str) -> ActivationName:
        """A nonlinearity by their name."""
        value = self._take(name, default)
        if not isinstance(value, str) or value not in _READ_ACTIVATIONS:
            raise self.refuse(name, value, f"there is {', '.join(_READ_ACTIVATIONS)}")
        return _READ_ACTIVATIONS[value]

    def must_be(self, name: str, only: Any) -> None:
        """The one value that can be done here, or absent."""
        value = self._take(name, only)
        if value != only:
            raise self.refuse(name, value, f"only {only!r} can be done here")

    def pass_over(self, *names: str) -> None:
        """Keys that change nothing in this family."""
        self._taken.update(names)

    def optional_number(self, name: str) -> float | None:
        """A number above zero; None where it is absent or ``null``."""
        self._taken.add(name)
        return None if self._values.get(name) is None else self.number(name)

    def one_of(self, name: str, known: Sequence[str], default: str) -> str:
        """One of some words."""
        value = self._take(name, default)
        if value not in known:
            raise self.refuse(name, value, f"there is {', '.join(known)}")
        return str(value)

    def table(self, name: str) -> ConfigJson | None:
        """The values of a table within; None where it is absent, ``null`` or empty."""
        values = self._take(name, {})
        if not isinstance(values, Mapping):
            raise self.refuse(name, values, "it must be a table")
        return ConfigJson(values, self._family, f"{self._prefix}{name}.") if values else None

    def states(self, name: str) -> bool:
        """Whether the key is there, be it ``null``: a class may have another default for none."""
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __contains__(self, name: str) -> bool:
        return self._values.get(name) is not None

    def finish(self, *architectures: str) -> None:
        """Refuse what is left.

        Args:
            architectures: the classes of `transformers` whose weights these may be.

        Raises:
            ModelError: naming the first key that might change the model.
        """
        named = self._values.get("architectures") or []
        if not isinstance(named, list):
            raise self.refuse("architectures", named, "it must be a list of names")
        for name in named:
            if name not in architectures:
                raise self.refuse("architectures", name, f"there is {', '.join(architectures)}")
        for name, value in self._values.items():
            if name not in self._taken | _HARMLESS and value not in _OFF:
                raise self.refuse(name, value, "what it does is not known here")

    def refuse(self, name: str, value: Any, why: str) -> ModelError:
        """The error that names a key."""
        return ModelError(
            f"{self._prefix}{name} = {value!r} in a {self._family} model: {why}",
            where="config.json",
            cure="Reading it all the same would give another model than the one that was trained.",
        )

    def _take(self, name: str, default: Any) -> Any:
        self._taken.add(name)
        value = self._values.get(name)
        if value is None and default is None:
            raise ModelError(
                f"{self._prefix + name!r} is missing",
                where="config.json",
                cure=f"A {self._family} model cannot be built without it.",
            )
        return default if value is None else value
