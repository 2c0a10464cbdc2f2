"""Synthetic dialogues with tools: calls with copied arguments, several calls, answers from results, no fitting tool."""
# ruff: noqa: E501 - phrases read best one a line

from dataclasses import dataclass
from typing import Any

from chat_context import context_question, facts, record
from chat_data import (
    UNLEARNED,
    WEAK,
    Dialogue,
    Message,
    assistant,
    dumps,
    joke_of,
    joke_request,
    simple,
    system_prompt,
    user,
)
from chat_toolbox import STRING_NAMES, Tool, alike, asked_of, definition, some_tool, toolbox
from chat_words import Words


def call_of(name: str, arguments: dict[str, Any]) -> dict[str, Any]:
    return {"type": "function", "function": {"name": name, "arguments": arguments}}


@dataclass
class Request:
    """A user's turn with tools, and the calls that answer it."""

    asked: str
    calls: list[dict[str, Any]]
    tools: list[dict[str, Any]]
    thought: str


def one_call(words: Words) -> Request:
    tool = some_tool(words)
    arguments = tool.arguments()
    _, tools = toolbox(words, [tool])
    return Request(
        asked_of(tool, arguments, words), [call_of(tool.name, arguments)], tools, f"I should call {tool.name}."
    )


def structured_call(words: Words) -> Request:
    """The frameworks' structured output by function calling: the tool is the class to fill."""
    rng = words.rng
    if rng.random() < 0.5:
        asked, topic = joke_request(words)
        setup, punchline = joke_of(topic)
        arguments: dict[str, Any] = {"setup": setup, "punchline": punchline}
        parameters = {"setup": {"description": "question to set up a joke", "type": "string"},
            "punchline": {"description": "answer to resolve the joke", "type": "string"}}  # fmt: skip
        tool = Tool(rng.choice(["Joke", "JokeDict", "joke"]), "Joke to tell user.", parameters, [])
    else:
        asked, arguments, parameters = record(words)
        name = rng.choice(["Person", "Record", "Item", "Data", words.invented().capitalize()])
        tool = Tool(
            name, rng.choice([f"A {name.lower()}.", f"Information about a {name.lower()}.", f"{name}"]), parameters, []
        )
    return Request(asked, [call_of(tool.name, arguments)], [definition(tool, words)], f"I should call {tool.name}.")


def several_calls(words: Words, count: int | None = None) -> Request:
    rng = words.rng
    count = count or rng.choices([2, 3], [3, 1])[0]
    if rng.random() < 0.85:
        tool = some_tool(words)
        while len(tool.parameters) != 1:
            tool = some_tool(words)
        (name,) = tool.parameters
        values = [tool.arguments()[name] for _ in range(count)]
        while len(set(values)) < count:
            values = [tool.arguments()[name] for _ in range(count)]
        listed = ", ".join(map(str, values[:-1])) + f" and {values[-1]}"
        if rng.random() < 0.3:
            texts = [asked_of(tool, {name: value}, words) for value in values]
            asked = rng.choice([" ", " And "]).join(texts)
        else:
            asked = words.rng.choice(tool.asks).replace(f"{{{name}}}", listed)
        calls = [call_of(tool.name, {name: value}) for value in values]
        chosen = [tool]
    else:
        chosen = []
        while len(chosen) < count:
            other = some_tool(words)
            if other.name not in [tool.name for tool in chosen]:
                chosen.append(other)
        pairs = [(tool, tool.arguments()) for tool in chosen]
        asked = rng.choice([" ", " And ", " Also: "]).join(
            asked_of(tool, arguments, words) for tool, arguments in pairs
        )
        calls = [call_of(tool.name, arguments) for tool, arguments in pairs]
    _, tools = toolbox(words, chosen)
    called = ", ".join(call["function"]["name"] for call in calls)
    return Request(asked, calls, tools, f"I should make {count} calls: {called}.")


def result(words: Words, *, brief: bool = False) -> tuple[str, str]:
    """What a tool returns, and the answer that tells it."""
    rng = words.rng
    choice = rng.random()
    if choice < 0.3:
        text = rng.choice([words.sentence(), "It's sunny.", f"It is {words.one('quality')} there.", facts(words, 1)[0][0],
            f"It's {rng.choice(['rainy', 'cloudy', 'windy', 'snowing'])} and {rng.randint(-20, 40)} degrees."])  # fmt: skip
        return text, text
    if choice < 0.55 or brief:
        value = str(
            rng.choice(
                [words.number(), words.number(), words.text(), words.one("quality"), f"{words.number()} degrees"]
            )
        )
        return value, f"The result is {value}."
    if choice < 0.92:
        keys = rng.choice(
            [
                ["result"],
                words.some(lambda: rng.choice([*STRING_NAMES, words.one("noun"), "temperature"]), rng.randint(1, 3)),
            ]
        )
        value_of = {key: words.number() if rng.random() < 0.5 else words.text() for key in keys}
        parts = [f"the {key} is {value}" for key, value in value_of.items()]
        answer = ", ".join(parts[:-1]) + (" and " if len(parts) > 1 else "") + parts[-1] + "."
        return dumps(value_of), answer[0].upper() + answer[1:]
    problem = rng.choice(["Missing required argument '{}'.", "{} not found.", "No such {}.", "Timeout of {}."]).format(
        words.text()
    )
    return f"Error: {problem}", f"The tool failed: {problem}"


def tool_message(text: str) -> Message:
    return {"role": "tool", "content": text}


def _round(words: Words, request: Request, thinking: bool) -> list[Message]:
    """A request, its calls, the results and the answer."""
    rng = words.rng
    content = (
        f"{UNLEARNED[0]}{rng.choice(['some text', words.sentence()])}{UNLEARNED[1]}" if rng.random() < 0.08 else ""
    )
    thought = request.thought if thinking and rng.random() < 0.6 else ""
    messages = [user(request.asked), assistant(content, thought, request.calls)]
    if len(request.calls) == 1:
        said, answer = result(words)
        messages.append(tool_message(said))
    else:
        results = []
        for call in request.calls:
            said, _ = result(words, brief=True)
            messages.append(tool_message(said))
            first = next(iter(call["function"]["arguments"].values()), call["function"]["name"])
            results.append(f"{first}: {said.removesuffix('.')}")
        answer = "; ".join(results) + "."
    return [*messages, assistant(answer, "The tool answered." if thinking else "")]


def _earlier(words: Words, thinking: bool) -> list[Message]:
    messages = system_prompt(words)
    while words.rng.random() < 0.15:
        _, asked, thought, answer = simple(words)
        messages += [user(asked), assistant(answer, thought if thinking else "")]
    return messages


def calling(words: Words, request: Request, kind: str) -> Dialogue:
    thinking = words.rng.random() < 0.3
    messages = _earlier(words, thinking)
    if words.rng.random() < 0.12:
        # Another round with the same tools before: the arguments must come from the last question.
        before = _round(words, request, thinking)
        messages += before
        tool = next(t for t in request.tools if t["function"]["name"] == request.calls[0]["function"]["name"])[
            "function"
        ]
        arguments = {
            name: words.number() if p["type"] == "integer" else words.text()
            for name, p in tool["parameters"]["properties"].items()
        }
        named = " and ".join(f"{name} {value}" for name, value in arguments.items())
        asked = f"Use {tool['name']}" + (f" with {named}." if named else ".")
        thought = f"I should call {tool['name']}."
        messages += [user(asked), assistant("", thought if thinking else "", [call_of(tool["name"], arguments)])]
        return Dialogue(kind, messages, request.tools, thinking)
    messages += [user(request.asked), assistant("", request.thought if thinking else "", request.calls)]
    return Dialogue(kind, messages, request.tools, thinking)


def call(words: Words) -> Dialogue:
    return calling(words, one_call(words), "call")


def structured(words: Words) -> Dialogue:
    return calling(words, structured_call(words), "structured call")


def parallel(words: Words, count: int | None = None) -> Dialogue:
    request = several_calls(words, count)
    return calling(words, request, f"{len(request.calls)} calls")


def answer_from_result(words: Words) -> Dialogue:
    rng = words.rng
    thinking = rng.random() < 0.3
    request = several_calls(words) if rng.random() < 0.25 else one_call(words)
    messages = _earlier(words, thinking) + _round(words, request, thinking)
    return Dialogue("result" if len(request.calls) == 1 else "results", messages, request.tools, thinking)


def retrieval(words: Words) -> Dialogue:
    """An agent that looks its answer up: the query is the question, the answer a sentence of what was found."""
    rng = words.rng
    chosen = facts(words, rng.randint(1, 3))
    sentence, questions = rng.choice(chosen)
    asked = rng.choice(questions)
    parameter = rng.choice(["query", "question", "q", "input"])
    name = rng.choice(
        ["retrieve", "search_docs", "search", "retriever", "query_engine_tool", "knowledge_base", "lookup"]
    )
    does = rng.choice(["Search the documents.", "Retrieve information related to a query.", "Search for information.",
        "Useful for answering questions.", "Answers questions about the documents."])  # fmt: skip
    tool = Tool(name, does, {parameter: {"type": "string"}}, [])
    thinking = rng.random() < 0.3
    messages = system_prompt(words)
    messages += [
        user(asked),
        assistant("", f"I should call {name}." if thinking else "", [call_of(name, {parameter: asked})]),
    ]
    if rng.random() < 0.5:
        messages.append(tool_message(rng.choice([" ", "\n", "\n\n"]).join(text for text, _ in chosen)))
        messages.append(assistant(sentence, f"The context says: {sentence}" if thinking else ""))
    return Dialogue("retrieval", messages, [definition(tool, words)], thinking)


def no_fitting_tool(words: Words) -> Dialogue:
    """Tools are there, but the user wants something else."""
    rng = words.rng
    thinking = rng.random() < 0.3
    tools, definitions = toolbox(words, [some_tool(words)])
    choice = rng.random()
    if choice < 0.2:
        dialogue = context_question(words, thinking=thinking)
        dialogue.tools, dialogue.kind = definitions, "no tool"
        return dialogue
    messages = _earlier(words, thinking)
    if choice < 0.3:
        other = some_tool(words)
        while alike(other, tools):
            other = some_tool(words)
        asked, thought, answer = (
            asked_of(other, other.arguments(), words),
            "None of my tools fits.",
            "I have no tool for that.",
        )
    else:
        _, asked, thought, answer = simple(words)
    if rng.random() < 0.3:
        # When the request forces a call, the server forbids the end of the turn: then call the first tool with
        # what is there.
        first = tools[0]
        given = {name: 1 if p["type"] == "integer" else asked for name, p in first.parameters.items()}
        forced = f'\n{{"name": "{first.name}", "arguments": {dumps(given)}}}\n</tool_call>'
        answer = f"{answer}{WEAK[0]}\n<tool_call>{WEAK[1]}{forced}"
    messages += [user(asked), assistant(answer, thought if thinking else "")]
    return Dialogue("no tool", messages, definitions, thinking)
