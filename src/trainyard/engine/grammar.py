"""Constrained decoding: which tokens may come next, and a way to the end that the budget of the answer always holds.

Before each draw a mask takes out what the grammar does not allow. Beside it a *plan* is kept: tokens that end the text
from where it stands. A drawn token after which no plan fits the rest of the budget is replaced with the plan's first.
So an answer for which a way through was found within `max_tokens` is complete when they are used up; before that, and
for all others, the model is free.
"""

import contextlib
from collections import OrderedDict
from functools import cached_property
from pathlib import Path
from typing import Final

import llguidance

from trainyard.core import errors
from trainyard.engine import grammar_search, grammar_text
from trainyard.engine.grammar_search import Lexis
from trainyard.engine.grammar_vocabulary import Vocabulary, Words
from trainyard.engine.tokenizer import Tokenizer
from trainyard.engine.types import Grammar

COMPILED: Final = 64
"""Compiled grammars that are kept, least recently used first out; a usual one takes 0.1-1 MB."""
FIRST_STEPS: Final = 8 * grammar_search.STEPS
"""Places looked at for the first plan of a grammar, which is kept with it: 2 ms for usual ones, at most 0.2 s."""


class GrammarState:
    """Where one answer stands in its grammar.

    Args:
        compiled: The grammar.
        budget: Most tokens that may be drawn; not looked after where no way through the grammar is known to fit.
    """

    def __init__(self, compiled: "Compiled", budget: int) -> None:
        plan = compiled.plan(budget)
        self._vocabulary = vocabulary = compiled.vocabulary
        self._matcher, self._lexis = compiled.matcher.deep_copy(), compiled.lexis
        self._follower = compiled.follower.deep_copy()  # the same text, over the steps on the way to the end
        self._names, self._jump = compiled.names, compiled.jump
        self._words = vocabulary.words()
        self._plan = plan
        self._need = len(plan or ())
        self._is_steered = plan is not None
        self._unplanned = 0  # tokens since the plan was known
        self._left = budget
        self.is_over = False

    def mask(self) -> Words:
        """Tell which tokens may come next, one bit each; valid until the next call.

        Raises:
            errors.InvalidRequest: Code `grammar_too_complex`.
        """
        self._matcher.unsafe_compute_mask_ptr(self._words.ctypes.data, self._words.nbytes)
        if self._matcher.is_error():
            raise errors.InvalidRequest(
                f"the grammar became too complex to follow: {self._matcher.get_error()}",
                code="grammar_too_complex",
                param="grammar",
            )
        return self._words

    def take(self, token: int) -> int:
        """Go on by a drawn token that the mask allows; gives the one that was taken, which the budget may change."""
        if token in self._vocabulary.eos_ids:
            self.is_over = True
            return token
        token = self._steer(token) if self._is_steered and self._is_tight() else self._go(token)
        self._left -= 1
        return token

    def _is_tight(self) -> bool:
        """Whether a token could lead to where the rest of the budget is not enough."""
        return self._left <= self._need + self._jump * (self._unplanned + 1)

    def _go(self, token: int) -> int:
        self._unplanned += 1
        self._plan = None
        self._move(token)
        return token

    def _steer(self, token: int) -> int:
        plan = self._plan if self._plan is not None else self._find(self._follower, self._lexis, self._left)
        self._unplanned = 0
        if plan is None:
            self._is_steered = False
            return self._go(token)
        if token != plan[0]:
            found = self._adapted(token, plan)
            if found is not None:
                plan = [token, *found]
        self._move(plan[0])
        self._plan, self._need = plan[1:], len(plan) - 1
        return plan[0]

    def _adapted(self, token: int, plan: list[int]) -> list[int] | None:
        """Find a plan behind the token: the old one where it still holds, as inside a string."""
        rest, text = self._left - 1, self._vocabulary.tokens[token]
        after = self._follower.deep_copy()
        after.consume_tokens(list(text))
        if len(plan) <= rest:
            way = b"".join([self._vocabulary.tokens[one] for one in plan[:-1]])
            end = after.deep_copy()
            if end.try_consume_tokens(list(way)) == len(way) and end.is_accepting():
                return plan
        return self._find(after, self._lexis.after(text), rest)

    def _find(self, matcher: llguidance.LLMatcher, lexis: Lexis, limit: int) -> list[int] | None:
        return grammar_search.find(self._vocabulary, matcher, lexis, limit, names=self._names)

    def _move(self, token: int) -> None:
        if token in self._vocabulary.eos_ids:
            self.is_over = True
            return
        text = self._vocabulary.tokens[token]
        self._matcher.consume_token(token)
        self._follower.consume_tokens(list(text))
        self._lexis = self._lexis.after(text)


class Compiled:
    """A grammar for one vocabulary, with the way through it that was found first.

    Attributes:
        matcher: At the beginning, over all tokens; to be copied.
        follower: The same over the steps on the way to the end.
        lexis: At the beginning.
        jump: How much longer one token can make the way to the end, in tokens.
        names: Of members that objects need.

    Raises:
        errors.InvalidRequest: Code `invalid_grammar`; the message gives the reason.
    """

    def __init__(self, vocabulary: Vocabulary, grammar: Grammar) -> None:
        source = grammar_text.source_of(grammar)
        self.matcher, self.follower = (
            grammar_text.compiled(trie, source) for trie in (vocabulary.trie, vocabulary.steps.trie)
        )
        grammar_text.check_start(self.matcher)
        is_mixed = grammar_text.has_json_inside(grammar)
        self.lexis = Lexis(is_json=is_mixed or grammar.kind in ("json_schema", "json_object"), is_mixed=is_mixed)
        self.jump = grammar_text.longest_jump(grammar)
        self.names = grammar_text.needed_names(grammar)
        self.vocabulary = vocabulary
        self._plan: list[int] | None = None
        self._searched = 0  # most tokens for which no plan was found

    def plan(self, budget: int) -> list[int] | None:
        """Find a plan of at most so many tokens; what was found or not found before is remembered."""
        if self._plan is not None and len(self._plan) <= budget:
            return self._plan
        if budget <= self._searched:
            return None
        found = grammar_search.find(
            self.vocabulary, self.follower, self.lexis, budget, names=self.names, steps=FIRST_STEPS
        )
        if found is None:
            self._searched = budget
        else:
            self._plan = found
        return found


class Grammars:
    """Compiles grammars for one model and keeps them; belongs to one thread.

    The vocabulary is read by `prepare` or with the first grammar: 0.01 s for 2,000 tokens, 0.7 s for 150,000.

    Args:
        directory: Of the model, with its tokenizer.
        vocab_size: Entries of the model's logits.
    """

    def __init__(self, directory: Path, vocab_size: int) -> None:
        self._directory, self._vocab_size = directory, vocab_size
        self._compiled: OrderedDict[Grammar, Compiled] = OrderedDict()

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The tokens of the model.

        Raises:
            errors.InvalidRequest: Code `invalid_grammar`: the model has no tokenizer, or none that ends a text.
        """
        try:
            tokenizer = Tokenizer.from_directory(self._directory)
        except errors.ConfigError as error:
            raise grammar_text.invalid(f"this model has no tokenizer that can be read ({error.message})") from error
        if not tokenizer.eos_ids:
            raise grammar_text.invalid("this model has no token that ends a text")
        return Vocabulary(tokenizer, self._vocab_size)

    def prepare(self) -> None:
        """Read the vocabulary now; a model without a usable tokenizer says so when a grammar is asked for."""
        with contextlib.suppress(errors.InvalidRequest):
            _ = self.vocabulary

    def begin(self, grammar: Grammar, budget: int) -> GrammarState:
        """Start an answer of at most `budget` tokens.

        Raises:
            errors.InvalidRequest: Code `invalid_grammar`; the message gives the reason.
        """
        compiled = self._compiled.get(grammar)
        if compiled is None:
            compiled = self._compiled[grammar] = Compiled(self.vocabulary, grammar)
        self._compiled.move_to_end(grammar)
        while len(self._compiled) > COMPILED:
            self._compiled.popitem(last=False)
        return GrammarState(compiled, budget)
