"""Texts that come and go: continuous batching over a pool of blocks.

Each step feeds every running text what it has not been fed: its newest id, or a chunk of its
prompt. Texts that wait are let in as soon as there are blocks for their first chunk. When a running
text needs a block and none is left, the newest text gives its own back and waits; its ids are kept,
and it is fed them again (recomputation). The oldest always goes on, so all of them end.

Yu et al. 2022 (Orca), OSDI: a batch whose members change between steps; Kwon et al. 2023 (vLLM),
arXiv:2309.06180, section 4: blocks, sharing and preemption; Agrawal et al. 2023 (Sarathi),
arXiv:2308.16369: prompts in chunks beside decoding.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import torch

from stemma.errors import ModelError
from stemma.inference.blocks import NO_BLOCK, BlockKey, Blocks, block_key
from stemma.inference.cached_model import PagedModel
from stemma.inference.engine import engine_for
from stemma.inference.evaluation_mode import evaluating
from stemma.inference.growing_text import PromptIds
from stemma.inference.requests import Desk, Request, Token, whole_or_nothing
from stemma.inference.sampling_config import SamplingConfig

if TYPE_CHECKING:
    from stemma.inference.cached_model import BlockPool
    from stemma.models import LanguageModel


@dataclass
class Seat:
    """A text's place in the pool.

    Attributes:
        request: the text.
        table: its blocks in order.
        n_fed: how many of its ids the blocks hold.
        keys: of its full blocks.
    """

    request: Request
    table: list[int] = field(default_factory=list)
    n_fed: int = 0
    keys: list[BlockKey] = field(default_factory=list)

    @property
    def n_unfed(self) -> int:
        """How many ids it has still to be fed."""
        return self.request.text.length - self.n_fed


@dataclass
class BatchStatistics:
    """What an `ContinuousBatch` has done.

    Attributes:
        steps: how often it computed.
        fed: ids that were run through the model.
        reused: ids that were not, because a block held them.
        chosen: ids that were chosen.
        preemptions: how often a text had to give its blocks back.
        most_blocks: the most blocks that were in use at once.
    """

    steps: int = 0
    fed: int = 0
    reused: int = 0
    chosen: int = 0
    preemptions: int = 0
    most_blocks: int = 0


class ContinuousBatch:
    """Continues any number of texts, which may be added at any time.

    Each gets the ids that it would get alone (up to the rounding of sums in another order).

    Args:
        model: one that keeps keys and values in blocks.
        n_blocks: blocks of the pool; together they bound the memory, and the longest text.
        block_size: positions of a block.
        max_rows: the most texts that run at once.
        chunk: the most ids of prompts that are fed in one step.
        n_ids: ids from here on are padding of the vocabulary and never chosen.

    Raises:
        ModelError: if the model cannot do that, or a number is below 1.
    """

    def __init__(
        self,
        model: LanguageModel,
        *,
        n_blocks: int,
        block_size: int = 16,
        max_rows: int = 16,
        chunk: int = 256,
        n_ids: int | None = None,
    ) -> None:
        if not isinstance(model, PagedModel):
            raise ModelError(f"{type(model).__name__} cannot keep keys and values in blocks")
        if min(n_blocks, block_size, max_rows, chunk) < 1:
            raise ModelError("n_blocks, block_size, max_rows and chunk must be 1 or more")
        self._model: PagedModel = engine_for(model, n_blocks * block_size) or model
        self._language_model = model
        self._pool: BlockPool = self._model.new_block_pool(n_blocks, block_size=block_size)
        self._desk = Desk(model, n_ids, room=self._pool.n_blocks * self._pool.block_size)
        self._max_rows = max_rows
        self._chunk = chunk
        self.blocks = Blocks(n_blocks)
        self.statistics = BatchStatistics()
        self._running: list[Seat] = []
        self._waiting: deque[Seat] = deque()

    @property
    def busy(self) -> bool:
        """Whether any text is unfinished."""
        return bool(self._running or self._waiting)

    def add(
        self,
        prompt_ids: PromptIds,
        *,
        max_new_tokens: int = 200,
        sampling: SamplingConfig | None = None,
        stop_ids: Collection[int] = (),
    ) -> int:
        """One text more; returns its handle.

        Raises:
            ModelError: if the prompt is empty, not the model's, or longer than context or pool.
        """
        request = self._desk.take(prompt_ids, max_new_tokens, sampling, stop_ids)
        if max_new_tokens > 0:
            self._waiting.append(Seat(request))
        return request.handle

    def leave(self, handle: int) -> None:
        """End a text now; nothing happens if it has ended."""
        for seats in (self._running, self._waiting):
            for seat in [seat for seat in seats if seat.request.handle == handle]:
                seats.remove(seat)
                self._give_back(seat)

    def run(self) -> Iterator[Token]:
        """All ids of all texts, as they come."""
        while self.busy:
            yield from self.step()

    @torch.inference_mode()
    def step(self) -> list[Token]:
        """Feed what fits into one step; the ids that were chosen, at most one for each text.

        On error or interrupt no text gets any, and the step can be repeated.

        Raises:
            ModelError: naming a text whose logits are no numbers; the others go on without it
                (`leave`).
        """
        turns = self._turns()
        if not turns:
            return []
        self.statistics.steps += 1
        self.statistics.most_blocks = max(self.statistics.most_blocks, self.blocks.n_used)
        fed = [(seat, seat.n_fed) for seat, _ in turns]
        try:
            with (
                evaluating(self._language_model),
                whole_or_nothing([seat.request for seat, _ in turns]),
            ):
                tokens = self._feed_all(turns)
        except BaseException:
            for seat, n_fed in fed:
                seat.n_fed = n_fed
            raise
        self.statistics.chosen += len(tokens)
        for token in tokens:
            if token.ended:
                self.leave(token.handle)
        return sorted(tokens, key=lambda token: token.handle)

    def _turns(self) -> list[tuple[Seat, int]]:
        """Who is fed how many ids in this step, with blocks for all of them."""
        budget = self._chunk
        turns: list[tuple[Seat, int]] = []
        for seat in [*self._running]:
            if seat not in self._running:
                continue  # it was preempted for an older one
            n = 1 if seat.n_unfed == 1 else min(seat.n_unfed, budget)
            if n == 0 or not self._make_room(seat, n):
                continue
            budget -= 0 if seat.n_unfed == 1 else n
            turns.append((seat, n))
        while self._waiting and len(self._running) < self._max_rows and budget > 0:
            seat = self._waiting[0]
            self._reuse(seat)
            n = min(seat.n_unfed, budget)
            if self._blocks_missing(seat, n) > self.blocks.n_free:
                self._give_back(seat)
                break
            self._waiting.popleft()
            self._running.append(seat)
            self._grow(seat, n)
            self.statistics.reused += seat.n_fed
            budget -= n
            turns.append((seat, n))
        return turns

    def _feed_all(self, turns: Sequence[tuple[Seat, int]]) -> list[Token]:
        """One id each in one pass, chunks in another: padding one to the other costs more."""
        tokens: list[Token] = []
        for single in (True, False):
            batch = [turn for turn in turns if (turn[1] == 1) == single]
            tokens += self._feed(batch) if batch else []
        return tokens

    def _feed(self, turns: Sequence[tuple[Seat, int]]) -> list[Token]:
        """One pass; a text that has been fed all of its ids gets another."""
        seats, counts = [seat for seat, _ in turns], [n for _, n in turns]
        news = [seat.request.text.ids[0, seat.n_fed : seat.n_fed + n] for seat, n in turns]
        cache = self._pool.rows([seat.table for seat in seats], [seat.n_fed for seat in seats])
        cache.expect(counts)
        padded = torch.nn.utils.rnn.pad_sequence(news, batch_first=True)
        hidden = self._model.hidden_states(padded, cache=cache)
        self.statistics.fed += sum(counts)
        ready: list[int] = []
        for row, (seat, n) in enumerate(turns):
            seat.n_fed += n
            self._keep_full_blocks(seat)
            if seat.n_unfed == 0:
                ready.append(row)
        if not ready:
            return []
        # The head is read once for all of them.
        last = torch.tensor([counts[row] - 1 for row in ready], device=hidden.device)
        logits = self._model.head(hidden[torch.tensor(ready, device=hidden.device), last])
        return [seats[row].request.choose(logits[i : i + 1]) for i, row in enumerate(ready)]

    def _make_room(self, seat: Seat, n: int) -> bool:
        """Blocks for ``n`` more ids, taken from the newest texts if need be, itself included."""
        while self._blocks_missing(seat, n) > self.blocks.n_free:
            newest = self._running[-1]
            self._running.remove(newest)
            self._give_back(newest)
            self._waiting.appendleft(newest)
            self.statistics.preemptions += 1
            if newest is seat:
                return False
        self._grow(seat, n)
        return True

    def _blocks_missing(self, seat: Seat, n: int) -> int:
        return -(-(seat.n_fed + n) // self._pool.block_size) - len(seat.table)

    def _grow(self, seat: Seat, n: int) -> None:
        for _ in range(self._blocks_missing(seat, n)):
            block = self.blocks.take()
            assert block is not None, "blocks were counted before"
            seat.table.append(block)

    def _reuse(self, seat: Seat) -> None:
        """Take the full blocks that hold the text's beginning; its last id is always fed."""
        size = self._pool.block_size
        ids = seat.request.text.ids[0].tolist()
        before = NO_BLOCK
        for start in range(0, len(ids) - size, size):
            before = block_key(before, ids[start : start + size])
            block = self.blocks.find(before)
            if block is None:
                return
            seat.table.append(block)
            seat.keys.append(before)
            seat.n_fed += size

    def _keep_full_blocks(self, seat: Seat) -> None:
        size = self._pool.block_size
        for number in range(len(seat.keys), seat.n_fed // size):
            ids = seat.request.text.ids[0, number * size : (number + 1) * size].tolist()
            seat.keys.append(block_key(seat.keys[-1] if seat.keys else NO_BLOCK, ids))
            self.blocks.keep(seat.table[number], seat.keys[-1])

    def _give_back(self, seat: Seat) -> None:
        self.blocks.give_back(seat.table)
        seat.table, seat.keys, seat.n_fed = [], [], 0
