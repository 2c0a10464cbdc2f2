"""Answer questions about a state with probabilities: by `/v1/systemone`, or by a chat model's next token.

The second method renders the question with the server's template and requests one token, with a bias on the tokens of
the labels. The bias is the same for all labels, so it cancels out among them and suppresses every other token: the
reply has the model's own distribution over the labels (to 4e-7, b11549). Without the bias, a label outside the most
likely tokens would be missing.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from math import exp
from typing import Any, Final, cast, get_args

from .._decisions import (
    Asked,
    Labels,
    Path,
    answer_of,
    check_questions,
    clamped,
    data_url,
    in_messages,
    is_option_limit,
    json_text,
    labels_for,
    media_note,
    messages_for,
    native_body,
    native_limit,
    native_probabilities,
    right_position,
    rotations_of,
    split_media,
    tail_of,
    walk,
    with_parts,
)
from .._media import (
    media_parts,
)
from .._values import fields, integer, text
from ..calibration import Calibration, CalibrationReport, Example, Judged, fit_calibration
from ..decisions import DecisionEngine, DecisionRequest, Decisions, LabelStyle, Noul
from ..errors import BadRequestError, LlamaServerError, NotFoundError, NotSupportedError
from ..replies import Usage
from ..requests import ChatRequest
from ..responses import responses_usage
from ..results import ModelCard
from ..settings import ServerSettings
from ..transport import (
    Call,
    Program,
    ask,
    named,
)
from .inputs import check_chat, wrong_value
from .server import apply_template, ask_fitted, detokenize, models, tokenize

# 100 is enough unless a label is that much less likely than the best token; a larger one costs the logits digits.
_BIASES: Final = (100.0, 1000.0)
_ENOUGH: Final = 0.99
_MASS_TOKENS: Final = 200
_MOST_SHARE: Final = 1.001  # what is rounded in float32 may sum to more
_CONTEXT: Final = 32
_MOST_SPELLINGS: Final = 8192
_SPELLED: OrderedDict[tuple[Any, ...], Path] = OrderedDict()
# The server's own defaults (flags, presets) apply to whatever a request leaves out.
_PINNED: Final[dict[str, Any]] = {"temperature": 1.0, "samplers": ["temperature"], "mirostat": 0, "dynatemp_range": 0.0,
                                  "ignore_eos": False, "cache_prompt": True}  # fmt: skip
_END_PROBE: Final = "Understood"
_NO_THINKING: Final = {"chat_template_kwargs": {"enable_thinking": False}}


@dataclass(slots=True)
class _Run:
    """State of one call: destination, facts about the model, and usage so far."""

    settings: ServerSettings
    request: DecisionRequest
    card: ModelCard
    state: str = ""
    images: list[Any] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    requests: int = 0

    @property
    def usage(self) -> Usage:
        return Usage(self.prompt_tokens, self.completion_tokens, self.cached_tokens)

    def count(self, answer: Mapping[str, Any]) -> None:
        timings = fields(answer.get("timings"))
        cached, read, written = (integer(timings.get(name)) or 0 for name in ("cache_n", "prompt_n", "predicted_n"))
        self.prompt_tokens += cached + read
        self.cached_tokens += cached
        self.completion_tokens += written
        self.requests += 1


def decide(settings: ServerSettings, request: DecisionRequest) -> Program[Decisions]:
    """The answers to all questions, in their order."""
    questions = check_questions(request.questions)
    _check_options(request)
    json_text(request.state)  # refused before anything is sent
    run = _Run(settings, request, (yield from _card(settings, request.model)))
    if _wants_native(request, questions, run.card):
        try:
            return (yield from _native(run, questions))
        except (NotSupportedError, BadRequestError) as error:
            if request.engine == "native" or not (isinstance(error, NotSupportedError) or is_option_limit(error)):
                raise
    run.state, run.images = _split(request.state)
    answers = {}
    for name, asked in questions.items():
        found, masses = [], []
        for turned in rotations_of(asked, request.rotations):
            shares, mass = yield from _logits(run, turned, request.labels)
            found.append(_in_option_order(turned, shares))
            masses += [] if mass is None else [mass]
        answers[name] = _answer(request, asked, found, sum(masses) / len(masses) if masses else None)
    return Decisions(answers, "logits", run.card.id, run.usage, run.requests)


def _check_options(request: DecisionRequest) -> None:
    for name, least in (("rotations", 1), ("thinking", 0)):
        value = getattr(request, name)
        if not isinstance(value, int) or isinstance(value, bool):
            raise wrong_value(name, "an integer", value)
        if value < least:
            raise BadRequestError(f"{name} must be at least {least}")
    for name, allowed in (("engine", get_args(DecisionEngine)), ("labels", get_args(LabelStyle))):
        if getattr(request, name) not in allowed:
            raise BadRequestError(f"{name} must be one of {', '.join(allowed)}")
    if not isinstance(request.calibration, Calibration | None):
        raise wrong_value("calibration", "a `Calibration`", request.calibration)


def calibrate(
    settings: ServerSettings, request: DecisionRequest, examples: Sequence[Example], offsets: bool
) -> Program[CalibrationReport]:
    """Decide every example, and fit the corrections."""
    questions = check_questions(request.questions)
    for example in examples if isinstance(examples, list | tuple) else (examples,):
        if not isinstance(example, Example):
            raise wrong_value("examples", "a list of `Example`", examples)
    if not examples:
        raise BadRequestError("examples must not be empty")
    judged: list[Judged] = []
    for example in examples:
        if unknown := sorted(set(example.answers) - set(questions)):
            raise BadRequestError(f"an example answers unknown questions: {', '.join(unknown)}")
        asked = {name: questions[name].question for name in example.answers}
        made = yield from decide(settings, replace(request, state=example.state, questions=asked, calibration=None))
        for name, right in example.answers.items():
            shares = shares_of(made, name)
            judged.append((questions[name].question.type, name, shares, right_position(questions[name], right)))
    return fit_calibration(judged, offsets=offsets)


def shares_of(made: Decisions, name: str) -> list[float]:
    """The probabilities of an answer, in the order of its options."""
    answer = made.answers[name]
    if answer.type == "noul":
        return [answer.noul, 1.0 - answer.noul]
    return list(answer.probabilities.values())


def choice_probabilities(settings: ServerSettings, request: ChatRequest) -> Program[dict[str, float]]:
    """Return the probability of each of a chat request's `choices` as the answer."""
    check_chat(request)
    choices = [str(choice) for choice in cast(Sequence[Any], request.params.get("choices") or ())]
    if not choices or len(set(choices)) < len(choices):
        raise BadRequestError("choices must be a list of distinct strings")
    model = request.model or settings.model
    run = _Run(settings, DecisionRequest(state="", questions={}, model=model), (yield from _card(settings, model)))
    given = cast(Mapping[str, Any], request.params.get("chat_template_kwargs") or {})
    params = {name: value for name, value in request.params.items() if name != "choices"}
    params["chat_template_kwargs"] = {**given, **_NO_THINKING["chat_template_kwargs"]}
    prompt = yield from apply_template(settings, replace(request, params=params))
    prompt += tail_of(prompt).text
    paths = yield from _paths(run, prompt, Labels(tuple(choices), tuple((choice,) for choice in choices)), spaces=False)
    if not all(paths):
        raise NotSupportedError("the model's tokenizer can't distinguish the choices")
    shares = yield from _shares(run, partial(_read, run, prompt), paths)
    return dict(zip(choices, shares, strict=True))


def _answer(request: DecisionRequest, asked: Asked, found: Sequence[Sequence[float]], mass: float | None) -> Any:
    shares = clamped([sum(column) / len(found) for column in zip(*found, strict=True)])
    if request.calibration is not None:
        try:
            shares = request.calibration.apply(asked.question.type, asked.name, shares)
        except ValueError as error:
            raise BadRequestError(str(error)) from None
    return answer_of(asked, shares, mass)


def _in_option_order(turned: Asked, shares: Sequence[float]) -> list[float]:
    found = [0.0] * len(shares)
    for at, share in zip(turned.order, shares, strict=True):
        found[at] = share
    return found


def _card(settings: ServerSettings, model: str | None) -> Program[ModelCard]:
    """Return the model's entry in `/v1/models`; queried every time, because the server's model may have changed."""
    name = model or settings.model
    try:
        cards = yield from models(settings)
    except (BadRequestError, NotFoundError, NotSupportedError):
        cards = []
    own = [card for card in cards if name == card.id or name in card.aliases]
    return (own or cards or [ModelCard(name or "")])[0]


# -- the server's own engine


def _wants_native(request: DecisionRequest, questions: Mapping[str, Asked], card: ModelCard) -> bool:
    chat_only = [name for name, given in (("thinking", request.thinking), ("mass", request.mass),
                                          ("labels", request.labels == "words")) if given]  # fmt: skip
    limits = [limit for asked in questions.values() if (limit := native_limit(asked))]
    if request.engine == "native":
        if chat_only:
            raise BadRequestError(f"engine='native' does not support {', '.join(chat_only)}")
        if limits:
            raise BadRequestError(limits[0], remedy="engine='logits' has no such limit")
        return True
    return request.engine == "auto" and "decisions" in card.output_modalities and not chat_only and not limits


def _native(run: _Run, questions: Mapping[str, Asked]) -> Program[Decisions]:
    """One request for all questions; each further order of the options is a separate question."""
    request = run.request
    turned: dict[str, Asked] = {}
    orders: dict[str, list[str]] = {}
    for name, asked in questions.items():
        turns = rotations_of(asked, 1 if isinstance(asked.question, Noul) else request.rotations)
        orders[name] = [name, *(_free(f"{name} {number}", questions) for number in range(2, len(turns) + 1))]
        turned |= dict(zip(orders[name], turns, strict=True))
    state, media = yield from _with_media(request)
    body = {**named(run.settings, request.model), **native_body(state, turned), **media}
    call = Call(method="POST", path="/v1/systemone", body=body, takes_slot=True)

    def read(answer: Any) -> tuple[dict[str, list[float]], Usage, str]:
        shares = {name: native_probabilities(one, answer["answers"][name]) for name, one in turned.items()}
        return shares, responses_usage(answer.get("usage")) or Usage(0, 0), text(answer.get("model"))

    shares, used, model = yield from ask(run.settings, call, read)
    answers = {
        name: _answer(request, asked, [shares[one] for one in orders[name]], None) for name, asked in questions.items()
    }
    return Decisions(answers, "native", model or run.card.id, used, len(turned))


def _free(name: str, questions: Mapping[str, Asked]) -> str:
    return name if name not in questions else _free(name + "'", questions)


def _with_media(request: DecisionRequest) -> Program[tuple[Any, dict[str, Any]]]:
    """The state, and the fields of the body with its images and sounds as data.

    The server finds those in the content of messages; anywhere else it would read their data as text (b11549).
    """
    rest, found = split_media(request.state)
    if not found:
        return request.state, {}
    ready = yield from media_parts(found, request.media, "state")
    if in_messages(request.state) == len(found):
        return with_parts(request.state, ready), {}
    return rest, {"images": [data_url(part) for part in ready]}


# -- any chat model


def _split(state: Any) -> tuple[str, list[Any]]:
    rest, images = split_media(state)
    if images and isinstance(rest, list) and all(isinstance(entry, str) for entry in rest):
        rest = "\n".join(rest)
    return json_text(rest), images


def _logits(run: _Run, asked: Asked, style: LabelStyle) -> Program[tuple[list[float], float | None]]:
    """Probabilities in the order in which the options are shown, and the mass where asked for."""
    labels = labels_for(asked, style)
    notes: list[Any] = [{"type": "text", "text": media_note(part, n)} for n, part in enumerate(run.images, 1)]
    prompt = yield from _prompt(run, messages_for(run.state, notes, asked, labels), thinking=run.request.thinking)
    paths = yield from _paths(run, prompt, labels)
    if not all(paths):
        if not labels.words:
            raise NotSupportedError("the model's tokenizer can't distinguish the option labels")
        return (yield from _logits(run, asked, "letters"))
    read = partial(_read, run, prompt)
    if run.images:
        read = partial(_read_chat, run, messages_for(run.state, run.images, asked, labels))
    mass = None
    if run.request.mass:
        given = yield from read((), (), 0.0)
        mass = min(sum(given.get(token, 0.0) for token in {path[0] for own in paths for path in own}), 1.0)
    return (yield from _shares(run, read, paths)), mass


def _shares(run: _Run, read: Any, paths: Sequence[Sequence[Path]]) -> Program[list[float]]:
    """Return the probability of each label, one branch of the tree after another."""
    if len(paths) == 1:
        return [1.0]
    search = walk(paths, (yield from _end(run)) if _nested(paths) else None)
    try:
        split = next(search)
        while True:
            split = search.send((yield from _distribution(read, *split)))
    except StopIteration as stop:
        return clamped(stop.value)


def _distribution(read: Any, prefix: Path, tokens: tuple[int, ...]) -> Program[dict[int, float]]:
    """The probabilities of some tokens at a place, among themselves."""
    found: dict[int, float] = {}
    for bias in _BIASES:
        given = yield from read(prefix, tokens, bias)
        found = {token: given[token] for token in tokens if token in given}
        if sum(found.values()) > _ENOUGH:
            break
    return found


def _read(run: _Run, prompt: str, prefix: Path, tokens: tuple[int, ...], bias: float) -> Program[dict[int, float]]:
    """One token's probabilities, by `/completion`: with a bias among the tokens, without one among all."""
    body = {**named(run.settings, run.request.model), **_PINNED, "n_predict": 1, "stream": False,
            "prompt": [prompt, *prefix] if prefix else prompt, **_probabilities(tokens, "n_probs", bias)}  # fmt: skip
    call = Call(method="POST", path="/completion", body=body, takes_slot=True)
    answer, found = yield from ask(run.settings, call, lambda a: (a, _by_token(a.get("completion_probabilities"))))
    run.count(answer)
    return found


def _read_chat(
    run: _Run, messages: Sequence[Any], prefix: Path, tokens: tuple[int, ...], bias: float
) -> Program[dict[int, float]]:
    """The same with the chat endpoint, the only one that accepts images."""
    if prefix:
        text = yield from detokenize(run.settings, prefix, run.request.model)
        messages = [*messages, {"role": "assistant", "content": text}]
    extra = {**_PINNED, "max_tokens": 1, "logprobs": True, **_NO_THINKING,
             **_probabilities(tokens, "top_logprobs", bias)}  # fmt: skip
    request = ChatRequest(messages=messages, model=run.request.model, extra_body=extra, media=run.request.media,
                          history_repair=["-own_turn"])  # fmt: skip

    def read(answer: Any) -> tuple[Any, dict[int, float]]:
        return answer, _by_token(fields(answer["choices"][0].get("logprobs")).get("content"))

    answer, found = yield from ask_fitted(run.settings, "/v1/chat/completions", request, read, takes_slot=True)
    run.count(answer)
    return found


def _probabilities(tokens: tuple[int, ...], count: str, bias: float) -> dict[str, Any]:
    if not bias:
        return {count: _MASS_TOKENS, "logit_bias": []}
    return {
        count: len(tokens) + 4,
        "post_sampling_probs": True,
        "logit_bias": [[token, bias] for token in tokens],
    }


def _by_token(wire: Any) -> dict[int, float]:
    """Probabilities by token, of either form; empty where the server withheld them (half a character).

    Raises:
        ValueError: For what is no probability.
    """
    entry = wire[0] if wire else {}
    top = entry.get("top_probs") or entry.get("top_logprobs") or []
    found = {int(one["id"]): float(one["prob"]) if "prob" in one else exp(one["logprob"]) for one in top}
    if not all(0 <= share <= _MOST_SHARE for share in found.values()):
        raise ValueError("a probability is not between 0 and 1")
    return found


# -- prompts and labels


def _prompt(run: _Run, messages: Sequence[Any], *, thinking: int) -> Program[str]:
    """The rendered prompt up to where the answer begins."""
    rendered = yield from _rendered(run, messages, enable_thinking=False)
    tail = tail_of(rendered)
    if run.images and tail.text:
        raise NotSupportedError("the chat template opens reasoning, which a decision about images can't close")
    if not thinking:
        return rendered + tail.text
    if run.images:
        raise NotSupportedError("reasoning before a decision is not supported for states with images")
    opened = yield from _rendered(run, messages, enable_thinking=True)
    tag = tail_of(opened).tag
    if tag is None:
        if opened == rendered:
            raise NotSupportedError(f"the chat template of {run.card.id or 'the model'} does not support reasoning")
        opened += "<think>\n"
    closing = (tag or "<think>").replace("<", "</", 1).replace("[", "[/", 1)
    body = {**named(run.settings, run.request.model), "prompt": opened, "n_predict": thinking, "stop": [closing],
            "temperature": 0.0, "stream": False, "cache_prompt": True}  # fmt: skip
    call = Call(method="POST", path="/completion", body=body, takes_slot=True)
    answer, thought = yield from ask(run.settings, call, lambda a: (a, str(a["content"])))
    run.count(answer)
    return f"{opened}{thought.rstrip()}\n{closing}\n\n"


def _rendered(run: _Run, messages: Sequence[Any], *, enable_thinking: bool) -> Program[str]:
    params = {"chat_template_kwargs": {"enable_thinking": enable_thinking}}
    return (
        yield from apply_template(run.settings, ChatRequest(messages=messages, model=run.request.model, params=params))
    )


def _paths(run: _Run, prompt: str, labels: Labels, *, spaces: bool = True) -> Program[list[list[Path]]]:
    """The tokens that spell each label behind the prompt, with a space before it and without."""
    context = prompt[-_CONTEXT:]
    base = yield from _spelled(run, context)
    taken: set[Path] = set()
    paths: list[list[Path]] = []
    for spellings in labels.spellings:
        own: list[Path] = []
        for spelling in (*spellings, *(f" {one}" for one in spellings if spaces)):
            full = yield from _spelled(run, context + spelling)
            path = full[len(base) :]
            # What melts into the prompt's last token is not written by a model that continues the prompt.
            if full[: len(base)] == base and path and path not in taken:
                taken.add(path)
                own.append(path)
        paths.append(own)
    return paths


def _nested(paths: Sequence[Sequence[Path]]) -> bool:
    """Whether a label is a prefix of another one."""
    owners = {path: at for at, own in enumerate(paths) for path in own}
    return any(owners.get(path[:length], at) != at for path, at in owners.items() for length in range(1, len(path)))


def _end(run: _Run) -> Program[int | None]:
    """The token that ends an answer, as the template writes it."""
    messages: list[Any] = [
        {"role": "user", "content": "Hello"},
        {"role": "assistant", "content": _END_PROBE},
        {"role": "user", "content": "Hello"},
    ]
    try:
        rendered = yield from _rendered(run, messages, enable_thinking=False)
    except LlamaServerError:
        return None
    tokens = yield from _spelled(run, rendered.rpartition(_END_PROBE)[2])
    return tokens[0] if tokens else None


def _spelled(run: _Run, text: str) -> Program[Path]:
    """The tokens of a text, remembered by server and model."""
    card = run.card
    key = (run.settings.base_url, card.id, card.n_vocab, card.n_params, text)
    if key in _SPELLED:
        return _SPELLED[key]
    found = tuple((yield from tokenize(run.settings, text, False, True, run.request.model)))
    _SPELLED[key] = found
    while len(_SPELLED) > _MOST_SPELLINGS:
        _SPELLED.popitem(last=False)
    return found
