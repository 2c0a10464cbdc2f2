"""Methods of the async client that process text without generating it; see `async_client.py`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .._endpoints import (
    decide,
    embeddings,
    reranking,
    server,
)
from .._frames import hides_arguments
from ..calibration import CalibrationReport, Example
from ..decisions import DecisionRequest, Decisions, Question
from ..requests import ChatRequest
from ..results import (
    Embeddings,
    Fit,
    Rankings,
    Token,
)
from ..vectors import EmbedRequest, RankRequest
from .async_base import AsyncMethods


class AsyncInputs(AsyncMethods):
    """Embeddings, rankings, decisions, tokens and templates."""

    # -- vectors and ranks

    @hides_arguments
    async def embed(
        self, inputs: Sequence[Any], *, model: str | None = None, extra_body: Mapping[str, Any] | None = None
    ) -> Embeddings:
        """Embed inputs: one vector for each, in order; requires `--embeddings` and a pooling other than `none`.

        Args:
            inputs: Texts, token lists, or `{"content": parts}` for a multimodal model.
            model: Name of the model (routers).
            extra_body: Further fields, such as `embd_normalize`.

        Raises:
            ContextOverflowError: If an input exceeds the physical batch (`-ub`).
        """
        return await self.transport.run(server.embed(self.settings, inputs, model, extra_body or {}))

    @hides_arguments
    async def embed_tokens(
        self, inputs: Sequence[Any], *, model: str | None = None, extra_body: Mapping[str, Any] | None = None
    ) -> list[list[list[float]]]:
        """Embed each token of each input, not normalized; requires `--embeddings` and `--pooling none`."""
        return await self.transport.run(server.embed_tokens(self.settings, inputs, model, extra_body or {}))

    @hides_arguments
    async def rerank(
        self,
        query: str,
        documents: Sequence[str],
        *,
        top_n: int | None = None,
        model: str | None = None,
        extra_body: Mapping[str, Any] | None = None,
    ) -> Rankings:
        """Rank documents by relevance to the query, best first; requires `--reranking`.

        Args:
            query: The question.
            documents: Texts.
            top_n: Maximum number of documents to return; None returns all.
            model: Name of the model (routers).
            extra_body: Further fields. `texts` instead of documents selects the format of TEI.
        """
        return await self.transport.run(server.rerank(self.settings, query, documents, top_n, model, extra_body or {}))

    async def embed_texts(self, request: EmbedRequest) -> Embeddings:
        """Embed any number of texts in batches; vectors are checked, overlong texts truncated or rejected.

        Raises:
            ContextOverflowError: For a text that is too long; `index` is its position.
            BadVectorError: For an unusable vector; `index` is its position.
        """
        return await self.transport.run(embeddings.embed_texts(self.settings, request))

    async def rank(self, request: RankRequest) -> Rankings:
        """Rank any number of documents, best first, in batches up to the server's slots; requires `--reranking`.

        Raises:
            ContextOverflowError: For a document that does not fit together with the query; `index` is its position.
        """
        return await self.transport.run(reranking.rank(self.settings, request))

    # -- decisions

    @hides_arguments
    async def decide(
        self, state: Any, questions: Mapping[str, Question | Mapping[str, Any]], **options: Any
    ) -> Decisions:
        """Answer typed questions about a state with a probability for every option; generates no text.

        Examples:
            >>> question = Choice("Which team?", ["billing", "shipping"])  # doctest: +SKIP
            >>> client.decide("My parcel is late.", {"team": question}).choices["team"].choice  # doctest: +SKIP
            'shipping'

        Args:
            state: Text, or JSON; may contain images if the model accepts them.
            questions: By name: `Noul`, `Choice`, `Score`, or dicts in the server's format.
            **options: Further fields of `DecisionRequest`, such as `rotations` and `calibration`.

        Raises:
            BadRequestError: For an invalid question; nothing has been sent.
            ContextOverflowError: If the state does not fit into a slot.
            NotSupportedError: For `engine="native"` if the model is not a decision model.
        """
        request = DecisionRequest(state=state, questions=questions, **options)
        return await self.transport.run(decide.decide(self.settings, request))

    async def choice_probabilities(self, request: ChatRequest) -> dict[str, float]:
        """Return the probability of each of a chat request's `choices`, which sum to 1; generates no text.

        Args:
            request: With `choices` in its `params`. Images and reasoning are not supported here.
        """
        return await self.transport.run(decide.choice_probabilities(self.settings, request))

    @hides_arguments
    async def calibrate(
        self,
        questions: Mapping[str, Question | Mapping[str, Any]],
        examples: Sequence[Example],
        *,
        offsets: bool = False,
        **options: Any,
    ) -> CalibrationReport:
        """Fit temperatures for the answers of `decide` on labelled examples.

        Args:
            questions: As in `decide`.
            examples: States with their correct answers; use at least fifty.
            offsets: Whether to remove the model's preference for an option, for each question.
            **options: Further fields of `DecisionRequest`. A calibration is valid only for these options.

        Returns:
            The fit, with accuracy, Brier score and calibration error before and after it, also on held-out examples.
        """
        request = DecisionRequest(state="", questions=questions, **options)
        return await self.transport.run(decide.calibrate(self.settings, request, examples, offsets))

    # -- tokens and templates

    async def tokenize(
        self, text: str, *, add_special: bool = False, parse_special: bool = True, model: str | None = None
    ) -> list[int]:
        """Tokenize text and return token IDs.

        Args:
            text: Any text.
            add_special: Whether to add the tokens at the start and end of a prompt (BOS, EOS).
            parse_special: Whether to parse special tokens in the text.
            model: Name of the model (routers).
        """
        return await self.transport.run(server.tokenize(self.settings, text, add_special, parse_special, model))

    async def tokenize_pieces(
        self, text: str, *, add_special: bool = False, parse_special: bool = True, model: str | None = None
    ) -> list[Token]:
        """Tokenize text and return tokens with their bytes; arguments as in `tokenize`."""
        program = server.tokenize_pieces(self.settings, text, add_special, parse_special, model)
        return await self.transport.run(program)

    async def detokenize(self, tokens: Sequence[int], *, model: str | None = None) -> str:
        """Convert token IDs to text."""
        return await self.transport.run(server.detokenize(self.settings, tokens, model))

    async def apply_template(self, request: ChatRequest) -> str:
        """Render a chat request to a prompt with the chat template."""
        return await self.transport.run(server.apply_template(self.settings, request))

    async def count_tokens(self, request: ChatRequest) -> int:
        """Count the prompt tokens of a chat request with its tools; generates nothing."""
        return await self.transport.run(server.count_tokens(self.settings, request))

    async def fits(self, request: ChatRequest) -> Fit:
        """Check whether a chat request and its answer (`max_tokens`, else one token) fit in the context.

        Raises:
            NotSupportedError: If the server does not report its context.
        """
        return await self.transport.run(server.fits(self.settings, request))
