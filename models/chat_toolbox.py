"""Tools as people define them: known ones, invented ones, and the words in which users ask for them."""
# ruff: noqa: E501, SIM905 - phrases read best one a line, and words best without quotes

import re
from dataclasses import dataclass, field
from typing import Any

from chat_words import Words


@dataclass
class Tool:
    """A tool's definition, and how a user asks for it."""

    name: str
    description: str
    parameters: dict[str, dict[str, Any]]
    asks: list[str]
    """Sentences with a `{parameter}` for every required one."""
    make: dict[str, Any] = field(default_factory=dict)
    """Functions that invent the arguments."""

    def arguments(self) -> dict[str, Any]:
        return {name: make() for name, make in self.make.items()}


STRING_NAMES = """name id key query text title code topic city location place country user email path word label tag category
    subject message language unit target source owner item phrase keyword ticker symbol""".split()
_INTEGERS = (
    "input a b n x y count amount value number days limit size level minutes index year age total quantity".split()
)
_OVERVIEW = ["", "", " Use it when asked.", " Returns a string.", " Returns the result as text."]


def _described(words: Words, name: str, kind: str) -> dict[str, Any]:
    described: dict[str, Any] = {"type": kind}
    rng = words.rng
    if rng.random() < 0.25:
        described["description"] = rng.choice(
            [f"The {name}.", f"the {name} to use", f"{name} of the {words.one('noun')}"]
        )
    if rng.random() < 0.15:
        described = {"title": name.replace("_", " ").title(), **described}
    if kind == "integer" and rng.random() < 0.08:
        described = {"exclusiveMaximum": 1000, "exclusiveMinimum": -1000, **described}
    return described


def invented_tool(words: Words) -> Tool:
    """A tool from a verb and a noun, with no to three parameters."""
    rng = words.rng
    verb = words.one("verb") if rng.random() < 0.85 else words.invented()
    noun = rng.choice([words.one("noun"), words.thing(), words.invented()])
    spoken = verb.replace("_", " ")
    name = rng.choice([f"{verb}_{noun}", f"{verb}_{noun}", f"{verb}_{noun}", f"{noun}_{verb}", f"{noun}_tool", noun,
        f"{verb}{noun.capitalize()}", f"{verb}_{noun}_tool", f"{noun}_function"])  # fmt: skip
    count = rng.choices([0, 1, 2, 3], [2, 6, 3, 1])[0]
    integers = [p for p in words.some(lambda: rng.choice(_INTEGERS), count) if rng.random() < 0.45]
    parameters: dict[str, dict[str, Any]] = {}
    make: dict[str, Any] = {}
    for parameter in [*integers, *words.some(lambda: rng.choice(STRING_NAMES), count - len(integers))]:
        is_integer = parameter in integers
        parameters[parameter] = _described(words, parameter, "integer" if is_integer else "string")
        make[parameter] = words.number if is_integer else rng.choice([words.text, words.name, words.code, words.city])
    slots = [f"{{{parameter}}}" for parameter in parameters]
    named = " and ".join(f"{parameter} {{{parameter}}}" for parameter in parameters)
    exact = ", ".join(f"{parameter}={{{parameter}}}" for parameter in parameters)
    call = f"{name}({', '.join(slots)})"
    asks = [f"What is the value of {call}? Use the tool.", f"Use {name}" + (f" with {named}." if named else "."),
        f"Call {name}" + (f" with {exact}" if named else "") + ".", f"What is {call}?"]  # fmt: skip
    if not slots:
        asks += [f"{spoken} the {noun}.", f"Please {spoken} the {noun}.", f"Can you {spoken} the {noun}?",
            f"Use the tool to {spoken} the {noun}.", f"I want to {spoken} the {noun}"]  # fmt: skip
    elif len(slots) == 1:
        only = slots[0]
        asks += [f"{spoken} the {noun} {only}.", f"{spoken} the {noun} for {only}", f"Please {spoken} the {noun} of {only}.",
            f"Can you {spoken} the {noun} {only}?", f"What is the {noun} of {only}?", f"{spoken} the {noun} with {named}.",
            f"Using the tool, {spoken} a {only} {noun}.", f"I need the {noun} for {only}."]  # fmt: skip
    else:
        asks += [f"{spoken} the {noun} with {named}.", f"Please {spoken} a {noun} with {named}.",
            f"{spoken} the {noun}: {exact}", f"{spoken} the {noun} {' and '.join(slots)}."]  # fmt: skip
    does = rng.choice([f"{spoken} the {noun}.", f"{spoken} a {noun}.", f"Tool that can {spoken} the {noun}.",
        f"{spoken} {noun}" + (f" by {next(iter(parameters))}." if slots else "."), f"{spoken} any {noun}"])  # fmt: skip
    return Tool(name, does[0].upper() + does[1:] + rng.choice(_OVERVIEW), parameters, asks, make)


def known_tool(words: Words) -> Tool:
    """A tool that people really write."""
    rng = words.rng
    city, number, text = words.city, words.number, words.text
    where = rng.choice(["city", "location", "place", "town", "where"])
    string, integer = {"type": "string"}, {"type": "integer"}

    def one(names: str, does: str, parameter: str, asks: list[str], make: Any, kind: dict[str, Any] = string) -> Tool:
        return Tool(rng.choice(names.split()), does, {parameter: dict(kind)}, asks, {parameter: make})

    def none(names: str, does: str, asks: list[str]) -> Tool:
        return Tool(rng.choice(names.split()), does, {}, asks)

    def two(names: str, does: str, kinds: dict[str, Any], asks: list[str], makes: list[Any]) -> Tool:
        parameters = {name: dict(kind) for name, kind in kinds.items()}
        return Tool(rng.choice(names.split()), does, parameters, asks, dict(zip(kinds, makes, strict=True)))

    w, q = f"{{{where}}}", rng.choice(["query", "q", "text", "question"])
    n = rng.choice(["input", "x", "n", "number", "value", "a", "i"])
    magic = rng.choice(["magic", words.invented(), words.one("quality"), "secret"])
    word = rng.choice(["user_id", "id", "order_id", "ticket", "number", "code"])
    kind = rng.choice(["order", "ticket", "invoice", "parcel", "user", "flight"])
    what = rng.choice(["customer", "user", "company", "contact", "client"])
    of = rng.choice([f"{what}_name", "name"])
    nationality = rng.choice(["Chinese", "Japanese", "Greek", "Russian", "Korean", "French", "Swiss", "Polish"])
    made = rng.choice(["a {} technology company", "a {} company", "a {} bakery", "a {} bank"]).format(nationality)
    quote = rng.choice(["'", '"', "'"])
    a, b = rng.choice([("a", "b"), ("x", "y"), ("first", "second"), ("left", "right")])
    sign = rng.choice([("add adder my_adder_tool sum_numbers add_numbers", "add", "adds", "+", "plus", "sum"),
        ("multiply times product multiply_numbers my_multiplier", "multiply", "multiplies", "*", "times", "product"),
        ("subtract minus difference", "subtract", "subtracts", "-", "minus", "difference")])  # fmt: skip

    def customer() -> Tool:
        return two(f"unicode_{what} create_{what} add_{what} new_{what}", rng.choice([f"Create a {what}.",
            f"Tool for creating a {what} with Unicode name.\n\n    Args:\n        {of}: The {what}'s name in their native language."
            f"\n        description: Description of the {what}.\n\n    Returns:\n        A confirmation message about the {what} creation."]),
            {of: string, "description": string}, [f"Create a {what} named {quote}{{{of}}}{quote} ({words.name()} {rng.choice(['Group', 'Inc', 'Corporation', 'Ltd'])}) - {{description}}",
            f"Create a {what} named {quote}{{{of}}}{quote} - {{description}}"], [rng.choice([words.foreign, words.foreign, words.full_name]), lambda: made])  # fmt: skip

    return rng.choice([
        lambda: one("get_weather weather get_current_weather weather_tool fetch_weather", rng.choice(["Get the weather of a city.",
            "Get the current weather in a given location", "Get weather at a location.", "Tells the weather."]), where,
            [f"What is the weather in {w}?", f"What's the weather like in {w}?", f"weather in {w}", f"How is the weather in {w}?",
             f"Is it raining in {w}?", f"Tell me the weather in {w}.", f"What is the weather in {w} today?"], city),
        lambda: one("get_weather weather get_current_weather", "Get the weather.", where,
            [f"What is the weather in {w}?", f"What's the weather in {w}?", f"What is the weather like in {w}?"], city),
        lambda: one("get_time current_time time_in clock", "Get the current time in a city.", where,
            [f"What time is it in {w}?", f"What is the time in {w}?", f"Tell me the time in {w}."], city),
        lambda: one("get_population population count_people", "Get the population of a city.", where,
            [f"What is the population of {w}?", f"How many people live in {w}?", f"population of {w}"], city),
        lambda: one("search web_search search_docs google lookup", "Search for information.", q,
            [f"Search for {{{q}}}.", f"Search for {{{q}}}", f"Look up {{{q}}}.", f"Please search: {{{q}}}"], text),
        lambda: one(f"{magic}_function get_{magic} {magic}_value", f"{rng.choice(['Apply', 'Applies', 'Compute'])} a {magic} function to an input.",
            n, [f"What is the value of {magic}_function({{{n}}})? Use the tool.", f"What is the value of {magic}_function({{{n}}})?",
            f"Apply the {magic} function to {{{n}}}.", f"What is {magic} of {{{n}}}?"], number,
            {"exclusiveMaximum": 1000, "exclusiveMinimum": -1000, **integer} if rng.random() < 0.5 else integer),
        lambda: none(f"{magic}_function_no_args get_{magic}", f"Calculate a {magic} function.",
            [f"What is the value of {magic}_function_no_args()? Use the tool.", f"Calculate the {magic} function."]),
        lambda: none("random_number roll_dice", "Get a random number.", ["Give me a random number.", "Roll a dice, give a random number."]),
        lambda: none("get_date today current_date", "Get today's date.", ["What is the date today?", "Which date is today?", "What day is it?"]),
        lambda: two(sign[0], rng.choice([f"{sign[1].capitalize()} two numbers.", f"{sign[1].capitalize()} {a} and {b}.",
            f"Tool that {sign[2]} two integers.\n\n    Takes two integers, {a} and {b}, and returns their {sign[5]}."]), {a: integer, b: integer},
            [f"What is {{{a}}} {sign[3]} {{{b}}}", f"What is {{{a}}} {sign[3]} {{{b}}}?", f"What is {{{a}}} {sign[4]} {{{b}}}?",
             f"{sign[1]} {{{a}}} and {{{b}}}", f"Calculate {{{a}}} {sign[3]} {{{b}}}.", f"Compute the {sign[5]} of {{{a}}} and {{{b}}}."],
            [number, number]),
        lambda: one("greeting_generator style_greeting make_greeting", "Generate a greeting in a particular style of speaking.",
            st := rng.choice(["answer_style", "style", "tone"]), [f"Using the tool, generate a {{{st}}} greeting.",
            f"Generate a {{{st}}} greeting.", f"Make a greeting in {{{st}}} style."], lambda: words.one("style")),
        customer, customer,
        lambda: two("translate translator translate_text", "Translate a text.", {"text": string, "language": string},
            [f"Translate {quote}{{text}}{quote} to {{language}}.", f"How do you say {quote}{{text}}{quote} in {{language}}?"],
            [words.phrase, lambda: rng.choice("French German Italian Spanish Greek Dutch Danish Polish".split())]),
        lambda: two("book_flight find_flights search_flight", "Find a flight.", {"origin": string, "destination": string},
            ["Book a flight from {origin} to {destination}.", "Find a flight from {origin} to {destination}"], [city, city]),
        lambda: two("send_email send_message mail", "Send a message to someone.", {"to": string, "text": string},
            [f"Send {{to}} the message {quote}{{text}}{quote}.", f"Tell {{to}} by mail: {quote}{{text}}{quote}"], [words.name, words.sentence]),
        lambda: one("set_timer start_timer", "Set a timer.", "minutes", ["Set a timer for {minutes} minutes.", "Start a timer of {minutes} minutes"],
            number, integer),
        lambda: one(f"get_{kind} {kind}_status find_{kind}", f"Get the status of a {kind}.", word, [f"What is the status of {kind} {{{word}}}?",
            f"Where is my {kind} {{{word}}}?", f"Look up {kind} {{{word}}}.", f"Find {kind} {{{word}}}"], words.code),
        lambda: one("read_file open_file load_file", "Read a file.", "path", ["Read the file {path}.", "What is in {path}?", "Open {path}"],
            lambda: f"{rng.choice(['', '/home/', 'docs/', 'src/'])}{words.invented()}.{rng.choice(['txt', 'md', 'py', 'csv'])}"),
        lambda: one("calculator calculate evaluate", "Evaluate an expression.", "expression", ["Calculate {expression}.", "What is {expression}?",
            "Evaluate {expression}"], lambda: f"{rng.randint(1, 99)} {rng.choice('+-*/')} {rng.randint(1, 99)}"),
        lambda: one("get_stock_price stock_price quote", "Get the price of a stock.", s := rng.choice(["ticker", "symbol", "company"]),
            [f"What is the stock price of {{{s}}}?", f"How much is {{{s}}} stock?", f"Price of {{{s}}}?"],
            lambda: rng.choice([words.invented().upper(), words.invented().capitalize()])),
        lambda: one("define dictionary get_definition", "Get the definition of a word.", "word", ["Define {word}.", "What does {word} mean?",
            "What is the definition of {word}?"], words.invented),
    ])()  # fmt: skip


def some_tool(words: Words) -> Tool:
    """Any tool."""
    return known_tool(words) if words.rng.random() < 0.55 else invented_tool(words)


def definition(tool: Tool, words: Words) -> dict[str, Any]:
    """The tool as a request carries it, in one of the frameworks' manners."""
    rng = words.rng
    schema: dict[str, Any] = {"properties": tool.parameters}
    if tool.parameters:
        schema["required"] = list(tool.parameters)
    schema["type"] = "object"
    if rng.random() < 0.3:
        schema = {key: schema[key] for key in ("type", "properties", "required") if key in schema}
    if rng.random() < 0.06:
        schema["additionalProperties"] = False
    description = tool.description
    if rng.random() < 0.15:
        kinds = {"integer": "int", "string": "str"}
        signature = ", ".join(f"{name}: {kinds[str(p['type'])]}" for name, p in tool.parameters.items())
        description = f"{tool.name}({signature}) -> str\n{description}"
    return {"type": "function", "function": {"name": tool.name, "description": description, "parameters": schema}}


_COMMON = set(
    """a an the of to in by for any that can tool get function use it when asked returns result as string text city
    location given current some""".split()
)


def _stems(tool: Tool) -> set[str]:
    """The words that tell this tool from others."""
    return set(re.findall(r"[a-z]+", f"{tool.name} {tool.description.partition(chr(10))[0]}".lower())) - _COMMON


def ambiguous(tool: Tool, others: list[Tool]) -> bool:
    """Whether a user's words could mean either."""
    return any(_stems(tool) & _stems(other) for other in others)


def toolbox(words: Words, chosen: list[Tool]) -> tuple[list[Tool], list[dict[str, Any]]]:
    """The chosen tools among others, in any order."""
    rng = words.rng
    tools = list(chosen)
    wanted = max(len(tools), rng.choices([1, 2, 3, 4], [3, 4, 2, 1])[0])
    names = {tool.name for tool in tools}
    while len(tools) < wanted:
        other = some_tool(words)
        if other.name not in names and not ambiguous(other, chosen):
            tools.append(other)
            names.add(other.name)
    rng.shuffle(tools)
    return tools, [definition(tool, words) for tool in tools]


def asked_of(tool: Tool, arguments: dict[str, Any], words: Words) -> str:
    """A user's words that ask for the tool."""
    text = words.rng.choice(tool.asks)
    for name, value in arguments.items():
        quoted = (
            isinstance(value, str)
            and words.rng.random() < 0.1
            and f"'{{{name}}}" not in text
            and f'"{{{name}}}' not in text
        )
        text = text.replace(f"{{{name}}}", f'"{value}"' if quoted else str(value))
    return text[0].upper() + text[1:] if words.rng.random() < 0.7 and not text.startswith(tool.name) else text
