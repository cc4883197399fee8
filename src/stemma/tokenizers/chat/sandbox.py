"""Where chat templates run: a sandbox that keeps track of who wrote what, and ends what runs away.

A template comes with a model, from anyone. It sees only plain data and can change none of it
(Jinja's immutable sandbox); its work is counted, so that it cannot run forever or fill the memory;
and all text that it handles is `AuthoredText`. For this every call, filter and operator of a
template passes through the environment. What cannot be followed there is marked as unclear, never
as the template's own.
"""

from __future__ import annotations

import json
import re
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import datetime
from functools import wraps
from typing import Any, NoReturn

from jinja2 import TemplateError, Undefined, nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context, LoopContext, Macro
from jinja2.sandbox import ImmutableSandboxedEnvironment

from stemma.errors import TokenizerError
from stemma.tokenizers.chat.text import (
    GENERATED,
    AuthoredText,
    attributed,
    authors_of,
    is_authored,
    joined,
)

MOST_STEPS = 1_000_000
"""Calls, filters and passes through loops in one rendering."""
MOST_CHARACTERS = 1_000_000_000
"""Characters (or items of lists) that one rendering may produce on its way."""
MOST_AT_ONCE = 50_000_000
"""Characters of one text, places of one list, thousandths of a bit of one number."""

# Filters whose result holds the very texts they were given, or none.
_PASSING = frozenset(
    (
        *("abs", "attr", "batch", "count", "d", "default", "dictsort", "first", "float", "groupby"),
        *("int", "items", "last", "length", "list", "map", "max", "min", "reject", "rejectattr"),
        *("reverse", "round", "select", "selectattr", "slice", "sort", "sum", "unique"),
    )
)
# Filters that go through methods of `AuthoredText`.
_FOLLOWED = frozenset(["capitalize", "lower", "string", "trim", "upper"])
# Functions that make a text as wide as a number says.
_PADDING = frozenset(["center", "expandtabs", "indent", "ljust", "rjust", "tojson", "zfill"])
_UNWANTED = ("lipsum", "random")
_WIDE = re.compile(r"\d{8}|\*|\{[^}]*\{")

_work: ContextVar[list[int] | None] = ContextVar("chat template work", default=None)


class ChatTemplateError(TemplateError):
    """A template refuses a conversation (``raise_exception``)."""


class _CodeGenerator(CodeGenerator):
    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802
        """``~`` through the environment, which knows authors."""
        self.write("environment.concat((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")

    def visit_For(self, node: nodes.For, frame: Frame) -> None:  # noqa: N802
        """Every pass through a loop is counted."""
        tick = nodes.Call(nodes.EnvironmentAttribute("tick"), [], [], None, None)
        tick.set_environment(self.environment)
        if node.test is not None:
            node.test = nodes.And(tick, node.test)
        node.body.insert(0, nodes.ExprStmt(tick))
        super().visit_For(node, frame)


class ChatEnvironment(ImmutableSandboxedEnvironment):
    """Jinja as `transformers` sets it up for chat templates, with authors and limits.

    Args:
        now: the clock behind ``strftime_now``.
    """

    intercepted_binops = frozenset(("+", "*", "**", "%"))
    code_generator_class = _CodeGenerator

    def __init__(self, now: Callable[[], datetime]) -> None:
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            extensions=[GenerationExtension, LoopControlExtension],
            finalize=_as_text,
        )
        self.filters = {
            name: self._watched(name, function)
            for name, function in (self.filters | {"tojson": _to_json}).items()
            if name not in _UNWANTED
        }
        self.filters |= {"join": self._join, "replace": self._replace}
        for name in _UNWANTED:
            self.globals.pop(name, None)
        self.globals["raise_exception"] = _raise_exception
        self.globals["strftime_now"] = lambda form: now().strftime(form)

    @contextmanager
    def counting(self) -> Iterator[None]:
        """The work of one rendering is counted from here on."""
        token = _work.set([0, 0])
        try:
            yield
        finally:
            _work.reset(token)

    def tick(self, size: int = 0) -> bool:
        """Count one step that makes ``size`` characters.

        Raises:
            ChatTemplateError: if it is one too many.
        """
        # What is constant in a template is worked out when it is compiled, before any rendering.
        work = _work.get() or [0, 0]
        work[0] += 1
        work[1] += size
        if work[0] > MOST_STEPS or work[1] > MOST_CHARACTERS or size > MOST_AT_ONCE:
            raise ChatTemplateError("the template does not come to an end")
        return True

    def concat(self, parts: Iterable[Any]) -> str:
        """Output joined: plain if the template wrote all of it."""
        rows = [_as_text(part) for part in parts]
        self.tick(sum(map(len, rows)))
        return joined(rows) if any(isinstance(row, AuthoredText) for row in rows) else "".join(rows)

    def call(
        __self,  # noqa: N805 - a template may name its arguments as it likes
        __context: Context,
        __function: Any,
        *args: Any,
        **kwargs: Any,
    ) -> Any:
        """Call what the template calls, and mark the text that comes back."""
        receiver = getattr(getattr(__function, "__wrapped__", __function), "__self__", None)
        name = getattr(__function, "__name__", "")
        sources = (receiver, *args, *kwargs.values())
        __self.tick(_width(name, sources))
        if isinstance(receiver, str) and name == "join" and len(args) == 1:
            return joined(map(_as_text, args[0]), receiver)
        result = super().call(__context, __function, *args, **kwargs)
        if isinstance(result, bytes):
            raise ChatTemplateError("the template turns text into bytes, which is not supported")
        known = isinstance(__function, Macro | LoopContext) or isinstance(
            receiver, dict | list | tuple
        )
        if known or isinstance(result, AuthoredText):
            return result
        return _attributed_if_text(result, sources)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Count what an operator makes before it is made; follow it on texts."""
        self.tick(_size_of(operator, left, right))
        if operator == "+" and isinstance(left, str) and isinstance(right, str):
            return joined((left, right))
        result = super().call_binop(context, operator, left, right)
        return _attributed_if_text(result, (left, right)) if operator == "%" else result

    def _watched(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """A filter that is counted, and whose text is marked unless it is followed exactly."""

        @wraps(function)
        def watched(*args: Any, **kwargs: Any) -> Any:
            sources = (*args, *kwargs.values())
            self.tick(_width(name, sources))
            result = function(*args, **kwargs)
            followed = name in _FOLLOWED and isinstance(result, AuthoredText)
            if name in _PASSING or followed:
                return result
            return _attributed_if_text(result, sources)

        return watched

    def _join(self, value: Iterable[Any], d: str = "", attribute: str | int | None = None) -> str:
        if attribute is not None:
            value = [self.getitem(item, attribute) for item in value]
        return self.concat(_between(value, d))

    def _replace(self, s: Any, old: Any, new: Any, count: int | None = None) -> str:
        text = AuthoredText(_as_text(s), authors_of(_as_text(s)))
        self.tick(len(text))
        return text.replace(_as_text(old), _as_text(new), -1 if count is None else count)


class GenerationExtension(Extension):
    """``{% generation %}``: what stands inside was written by the assistant."""

    tags = {"generation"}  # noqa: RUF012 - as Jinja declares it

    def parse(self, parser: Parser) -> nodes.Node:
        """A call block around the body."""
        line = next(parser.stream).lineno
        body = parser.parse_statements(("name:endgeneration",), drop_needle=True)
        return nodes.CallBlock(self.call_method("_mark"), [], [], body).set_lineno(line)

    def _mark(self, caller: Callable[[], str]) -> str:
        text = caller()
        return AuthoredText(text, "".join(chr(ord(c) | GENERATED) for c in authors_of(text)))


def refuse(error: Exception) -> NoReturn:
    """Turn a failure of a template into an error that names its line.

    Raises:
        TokenizerError: always.
    """
    lines = [
        f.lineno for f in traceback.extract_tb(error.__traceback__) if f.filename == "<template>"
    ]
    where = f"chat template, line {lines[-1]}" if lines else "chat template"
    if isinstance(error, ChatTemplateError):
        raise TokenizerError(str(error), where=where) from None
    if isinstance(error, RecursionError):
        raise TokenizerError("the template does not come to an end", where=where) from None
    raise TokenizerError(
        f"the template fails: {type(error).__name__}: {error}",
        where=where,
        cure="Check that the messages have the fields that this template reads.",
    ) from None


def _as_text(value: Any) -> str:
    """``str(value)``; the text of lists and other objects is not the template's."""
    if isinstance(value, str):
        return value
    text = str(value)
    if value is None or isinstance(value, int | float | Undefined):
        return text
    if isinstance(value, list | tuple | dict):
        return _attributed_if_text(text, [value])  # type: ignore[no-any-return]
    return AuthoredText(text)


def _attributed_if_text(result: Any, sources: Sequence[Any]) -> Any:
    """A text made of ``sources``, marked if there is authored text in them; other values as is."""
    if isinstance(result, str) and is_authored(sources):
        return attributed(result, sources)
    return result


def _between(parts: Iterable[Any], separator: Any) -> Iterator[Any]:
    for i, part in enumerate(parts):
        if i:
            yield separator
        yield part


def _width(name: str, sources: Sequence[Any]) -> int:
    """How wide a text a function is asked for; 0 if it is not asked for a width."""
    numbers = [value for value in sources[1:] if isinstance(value, int)]
    if name in _PADDING:
        return max(map(abs, numbers), default=0)
    if name in ("format", "format_map"):
        forms = [text for text in sources[:2] if isinstance(text, str)]
        return MOST_AT_ONCE + 1 if any(map(_WIDE.search, forms)) else 0
    return 0


def _size_of(operator: str, left: Any, right: Any) -> int:
    """How large ``left operator right`` is, roughly: characters, items, or bits of a number."""
    sizes = [len(x) if isinstance(x, str | list | tuple) else 0 for x in (left, right)]
    numbers = [x for x in (left, right) if isinstance(x, int)]
    if operator == "+":
        return sum(sizes)
    if operator == "%":
        return MOST_AT_ONCE + 1 if isinstance(left, str) and _WIDE.search(left) else sizes[0]
    if len(numbers) == 2:
        bits = left.bit_length()
        return int(1000 * (bits * abs(right) if operator == "**" else bits + right.bit_length()))
    return int(max(sizes) * abs(numbers[0])) if numbers else 0


def _to_json(
    value: Any,
    ensure_ascii: bool = False,
    indent: int | str | None = None,
    separators: tuple[str, str] | None = None,
    sort_keys: bool = False,
) -> str:
    # Jinja's own filter escapes < and > for HTML; models were trained on plain JSON.
    return json.dumps(
        value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys
    )


def _raise_exception(message: str) -> NoReturn:
    raise ChatTemplateError(str.__str__(message))
