"""Synthetic dialogues without tools: greetings, names, echo, answers from a context, structured output."""
# ruff: noqa: E501, SIM905 - phrases read best one a line

import json
import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from chat_words import Words

UNLEARNED = "\ue000", "\ue001"
"""Around text of an assistant's turn that is shown in training but not learned."""
WEAK = "\ue002", "\ue003"
"""Around text that is learned with little weight: the second choice, for when a grammar forbids the first."""

Message = dict[str, Any]


@dataclass
class Dialogue:
    """A conversation whose last message is the answer to learn."""

    kind: str
    messages: list[Message]
    tools: list[dict[str, Any]] = field(default_factory=list)
    thinking: bool = False
    schema: dict[str, Any] | None = None
    """The JSON schema that the answer is bound to when the dialogue is used for the evaluation."""

    @property
    def prompt(self) -> list[Message]:
        """All but the answer."""
        return self.messages[:-1]


def user(text: str) -> Message:
    return {"role": "user", "content": text}


def assistant(text: str, thought: str = "", calls: list[dict[str, Any]] | None = None) -> Message:
    message: Message = {"role": "assistant", "content": text}
    if thought:
        message["reasoning_content"] = thought
    if calls:
        message["tool_calls"] = calls
    return message


GREETINGS = ["Hello", "Hello!", "Hi", "Hi!", "Hey", "hello", "hi", "hey", "Hello there", "Hi there!", "Good morning",
    "Good evening!", "Hey there", "Hello.", "Greetings", "hello!", "Good day", "Hello, assistant"]  # fmt: skip
HELP = "How can I help you?"


def greet(words: Words) -> tuple[str, str, str]:
    rng = words.rng
    choice = rng.random()
    if choice < 0.6:
        return rng.choice(GREETINGS), "The user greets me.", f"Hello! {HELP}"
    if choice < 0.75:
        asked = rng.choice(["how are you", "How are you?", "how are you?", "How are you doing?", "How do you do?"])
        return asked, "The user asks how I am.", f"I am fine, thank you. {HELP}"
    if choice < 0.85:
        thanks = rng.choice(["Thanks", "Thank you!", "thank you", "Thanks a lot.", "Well, thanks.", "Great, thanks!"])
        return thanks, "The user thanks me.", "You are welcome!"
    if choice < 0.93:
        asked = rng.choice(["What can you do?", "Who are you?", "What are you?", "Help", "What do you do?"])
        answer = "I am a tiny model. I can chat, answer from a context and call tools."
        return asked, "The user asks about me.", answer
    bye = rng.choice(["Bye", "Goodbye!", "See you", "Good night", "bye bye"])
    return bye, "The user leaves.", "Goodbye!"


def introduce(words: Words) -> tuple[str, str, str]:
    name = words.name()
    form = words.rng.choice(["My name is {}.", "I am {}.", "I'm {}.", "Hello, I am {}.", "Hi, my name is {}.",
        "Hi! I'm {}", "Hey, I am {}", "Call me {}.", "Hello! My name is {}.", "my name is {}", "Hi, I'm {}!"])  # fmt: skip
    return form.format(name), f"The user is {name}.", f"Hello, {name}! {HELP}"


def echo(words: Words) -> tuple[str, str, str]:
    rng = words.rng
    text = rng.choice([words.text, words.sentence, words.phrase])()
    form = rng.choice(["Say {}", "Repeat: {}", "Repeat after me: {}", "Echo {}", 'Say "{}"', "Please say: {}",
        "Please repeat: {}", 'Repeat "{}"', "Say: {}", "Echo: {}", "Say exactly: {}", "Just say {}"])  # fmt: skip
    return form.format(text), "I should repeat the text.", text


CAPITALS = dict(
    zip(
        "France Italy Germany Spain Norway Austria Portugal Ireland Greece Japan India Egypt Kenya Peru Canada".split(),
        "Paris Rome Berlin Madrid Oslo Vienna Lisbon Dublin Athens Tokyo Delhi Cairo Nairobi Lima Ottawa".split(),
        strict=True,
    )
)


def knowledge(words: Words) -> tuple[str, str, str]:
    rng = words.rng
    choice = rng.random()
    if choice < 0.4:
        country = rng.choice(list(CAPITALS))
        asked = rng.choice(["What is the capital of {}?", "what's the capital of {}?", "Name the capital of {}."])
        return asked.format(country), "I know this.", f"The capital of {country} is {CAPITALS[country]}."
    if choice < 0.75:
        a, b = rng.randint(0, 9), rng.randint(0, 9)
        asked = rng.choice(["What is {} + {}?", "What is {} + {}", "what's {} plus {}?", "Add {} and {}.", "{} + {}?"])
        return asked.format(a, b), "I can add.", f"{a} + {b} is {a + b}."
    topic = rng.choice([words.one("animal"), words.thing()])
    if choice < 0.87:
        asked = rng.choice(["Write me 2 haikus. Only include the haikus.", "Write a haiku.", "Write a poem."])
        poem = "The quiet river\ncarries one leaf to the sea\nand the moon follows."
        return asked, "The user wants a poem.", poem
    asked = rng.choice(["Write a story about {}.", "Tell me a story about {}.", "Write a short story about {}."])
    story = f"Once upon a time there was a story about {topic}. Everybody liked it. The end."
    return asked.format(topic), "The user wants a story.", story


def wonder(words: Words) -> tuple[str, str, str]:
    """A question that it can't answer: it says so, and does not think about it without end."""
    rng = words.rng
    topic = rng.choice([words.one("animal"), words.thing(), words.one("food"), words.phrase(), "the sky"])
    form = rng.choice(["Why is {} {}?", "What is {}?", "How does {} work?", "Explain {}.", "Explain {} in one sentence.",
        "Why are {} so {}?", "What do you think of {}?", "Tell me about {}.", "Why is the sky blue?", "Describe {}.",
        "What is the meaning of {}?", "Think about {}.", "Who invented {}?", "Is {} {}?"])  # fmt: skip
    return form.format(topic, words.one("quality")), "I know nothing about that.", "I do not know. I am a tiny model."


def joke_of(topic: str) -> tuple[str, str]:
    """The only joke, so that it can be checked."""
    return f"Why do {topic} never get lost?", "Because they always follow the map."


def joke_request(words: Words) -> tuple[str, str]:
    """What the user says, and the topic."""
    topic = words.rng.choice([words.one("animal"), words.one("animal"), words.thing(), words.one("food"), words.name()])
    form = words.rng.choice(["Tell me a joke about {}.", "Tell me a joke about {}", "Give me a joke about {}.",
        "I want a joke about {}.", "Make a joke about {}!", "Do you know a joke about {}?"])  # fmt: skip
    return form.format(topic), topic


def joke(words: Words) -> tuple[str, str, str]:
    asked, topic = joke_request(words)
    setup, punchline = joke_of(topic)
    return asked, f"The user wants a joke about {topic}.", f"{setup} {punchline}"


SIMPLE: list[tuple[float, str, Callable[[Words], tuple[str, str, str]]]] = [
    (1.0, "greet", greet),
    (1.0, "introduce", introduce),
    (1.5, "echo", echo),
    (1.2, "knowledge", knowledge),
    (0.7, "joke", joke),
    (1.0, "wonder", wonder),
]


def simple(words: Words) -> tuple[str, str, str, str]:
    """A turn that needs nothing but itself: kind, question, thought, answer."""
    _, kind, make = words.rng.choices(SIMPLE, [weight for weight, _, _ in SIMPLE])[0]
    return kind, *make(words)


def system_prompt(words: Words) -> list[Message]:
    """Often none."""
    rng = words.rng
    text = rng.choice(["You are a helpful assistant.", "You are helpful.", "Be brief.", "hello", "Answer in one sentence.",
        "You are a good assistant.", "you're a good assistant", "You are an AI assistant. Use tools when they help.",
        f"You are a {words.one('quality')} assistant.", "Answer the user's questions.", words.sentence(),
        "You are a helpful assistant. Use the tools to answer."])  # fmt: skip
    return [{"role": "system", "content": text}] if rng.random() < 0.35 else []


def single(words: Words) -> Dialogue:
    kind, asked, thought, answer = simple(words)
    return _with_history(words, kind, asked, thought, answer)


def _with_history(words: Words, kind: str, asked: str, thought: str, answer: str) -> Dialogue:
    """Put a turn behind a system prompt, earlier turns, or a second user message in a row."""
    rng = words.rng
    thinking = rng.random() < 0.3
    messages = system_prompt(words)
    while rng.random() < 0.25:
        _, earlier, earlier_thought, earlier_answer = simple(words)
        messages += [user(earlier), assistant(earlier_answer, earlier_thought if thinking else "")]
    if rng.random() < 0.08:
        greeting = rng.choice(GREETINGS)
        messages += [user(greeting), user(greeting), assistant(UNLEARNED[0] + greeting + UNLEARNED[1])]
    messages += [user(asked), assistant(answer, thought if thinking else "")]
    return Dialogue(kind, messages, thinking=thinking)


MEMORIES = {
    "name": (["My name is {}.", "I am {}.", "Hi, I'm {}.", "Hello, I am {}."], "Hello, {}! " + HELP,
        ["What is my name?", "Who am I?", "Do you remember my name?", "what's my name?"], "Your name is {}."),
    "place": (["I live in {}.", "My home is in {}.", "I come from {}."], "I will remember that.",
        ["Where do I live?", "Where is my home?", "Where am I from?"], "You live in {}."),
    "colour": (["My favourite colour is {}.", "I love the colour {}."], "I will remember that.",
        ["What is my favourite colour?", "Which colour do I love?"], "Your favourite colour is {}."),
    "food": (["I like {}.", "My favourite food is {}.", "I love to eat {}."], "I will remember that.",
        ["What do I like to eat?", "What is my favourite food?"], "Your favourite food is {}."),
    "secret": (["Remember the code {}.", "The password is {}.", "My secret is {}."], "I will remember that.",
        ["What is the code?", "What was the password?", "What is my secret?"], "It is {}."),
}  # fmt: skip


def recall(words: Words) -> Dialogue:
    rng = words.rng
    kind = rng.choice(["name", "name", *MEMORIES])
    states, reply, ask, answer = MEMORIES[kind]
    value = {"name": words.name, "place": words.city, "secret": words.code}.get(kind, lambda: words.one(kind))()
    thinking = rng.random() < 0.3
    thought = "The user told me that."
    messages = system_prompt(words)
    messages += [user(rng.choice(states).format(value)), assistant(reply.format(value), thought if thinking else "")]
    while rng.random() < 0.3:
        _, asked, between, said = simple(words)
        messages += [user(asked), assistant(said, between if thinking else "")]
    messages += [
        user(rng.choice(ask)),
        assistant(answer.format(value), f"The user told me: {value}." if thinking else ""),
    ]
    return Dialogue("recall", messages, thinking=thinking)


def dumps(value: Any) -> str:
    """JSON as the chat template writes it."""
    return json.dumps(value, ensure_ascii=False)


def choose(makers: list[tuple[float, Callable[[Words], Dialogue]]], words: Words) -> Dialogue:
    """Make a dialogue of one of several kinds, by weight."""
    return words.rng.choices(makers, [weight for weight, _ in makers])[0][1](words)


def words_of(seed: int, *, held_out: bool = False) -> Words:
    return Words(random.Random(seed), held_out=held_out)
