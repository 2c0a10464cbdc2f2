"""Synthetic dialogues about a given text: answers from a context, and structured output."""
# ruff: noqa: E501 - phrases read best one a line

from typing import Any

from chat_data import (
    WEAK,
    Dialogue,
    Message,
    assistant,
    dumps,
    joke_of,
    joke_request,
    system_prompt,
    user,
)
from chat_words import Words

Fact = tuple[str, list[str]]


def fact(words: Words) -> Fact:
    """A sentence, and questions that it answers."""
    rng = words.rng
    person, city, thing = (
        words.full_name(),
        words.city(),
        f"{rng.choice(['', words.one('quality') + ' '])}{words.thing()}",
    )
    number, code = rng.randint(2, 9999), words.code()
    invented, job = words.invented().capitalize(), words.one("job")
    doing, other = words.one("doing"), words.thing()
    return rng.choice([
        (f"{person} lives in {city}.", [f"Where does {person} live?", f"In which city does {person} live?"]),
        (f"{person} works as a {job}.", [f"What does {person} do?", f"What is {person}'s job?", f"What does {person} work as?"]),
        (f"{person} is {number % 100} years old.", [f"How old is {person}?", f"What is {person}'s age?"]),
        (f"{person} was born in {number}.", [f"When was {person} born?", f"In which year was {person} born?"]),
        (f"{person} was born in {city}.", [f"Where was {person} born?"]),
        (f"{person} likes {words.one('food')}.", [f"What does {person} like?", f"Which food does {person} like?"]),
        (f"{person}'s favourite colour is {words.one('colour')}.", [f"What is {person}'s favourite colour?"]),
        (f"The {thing} was built in {number}.", [f"When was the {thing} built?", f"In which year was the {thing} built?"]),
        (f"The {thing} was built by {person}.", [f"Who built the {thing}?", f"By whom was the {thing} built?"]),
        (f"The {thing} costs {number} euros.", [f"How much is the {thing}?", f"What does the {thing} cost?", f"What is the price of the {thing}?"]),
        (f"The {thing} is in {city}.", [f"Where is the {thing}?", f"In which city is the {thing}?"]),
        (f"The {thing} is {words.one('colour')}.", [f"What colour is the {thing}?", f"Which colour does the {thing} have?"]),
        (f"The code of the {thing} is {code}.", [f"What is the code of the {thing}?", f"Which code does the {thing} have?"]),
        (f"The {thing} weighs {number} kg.", [f"How heavy is the {thing}?", f"What does the {thing} weigh?"]),
        (f"The {thing} opens at {number % 24} o'clock.", [f"When does the {thing} open?"]),
        (f"The capital of {invented} is {city}.", [f"What is the capital of {invented}?", f"Which city is the capital of {invented}?"]),
        (f"{invented} listens on port {number}.", [f"Which port does {invented} listen on?", f"What port does {invented} use?"]),
        (f"{invented} is written in {words.invented().capitalize()}.", [f"What is {invented} written in?", f"Which language is {invented} written in?"]),
        (f"The owner of the {thing} is {person}.", [f"Who is the owner of the {thing}?", f"Who owns the {thing}?"]),
        (f"{person} {doing} the {other}.", [f"What does {person} do with the {other}?", f"Who {doing} the {other}?", f"What about {person}?"]),
        (f"The {thing} {doing} the {other}.", [f"What {doing} the {other}?", f"What does the {thing} do?", f"Tell me about the {thing}."]),
    ])  # fmt: skip


def general_fact(words: Words) -> Fact:
    """A sentence of loose words, and a question that shares some of them: find the sentence by its words."""
    rng = words.rng
    pool = [words.thing(), words.one("noun"), words.one("quality"), words.one("doing"), words.invented(), words.name(),
        words.one("verb").replace("_", " "), words.thing(), words.code(), words.one("noun"), words.city()]  # fmt: skip
    chosen = rng.sample(pool, rng.randint(4, 8))
    glue = ["the", "a", "of", "in", "with", "for", "and", "to", "is", "at", "by"]
    parts: list[str] = []
    for word in chosen:
        parts += [word, rng.choice(glue)] if rng.random() < 0.6 else [word]
    sentence = " ".join(parts if parts[-1] not in glue else parts[:-1])
    sentence = sentence[0].upper() + sentence[1:] + "."
    asked = rng.sample(chosen, rng.randint(2, min(3, len(chosen))))
    form = rng.choice(["What is the {} of the {}?", "How does {} {}?", "Which {} has {}?", "What about {} and {}?",
        "Who uses {} for {}?", "Why is {} {}?", "Tell me about {} {}."])  # fmt: skip
    return sentence, [form.format(asked[0], " ".join(asked[1:]))]


def facts(words: Words, count: int) -> list[Fact]:
    """Facts about different things."""
    chosen: list[Fact] = []
    while len(chosen) < count:
        new = fact(words) if words.rng.random() < 0.75 else general_fact(words)
        if not any(new[1][0] in questions for _, questions in chosen):
            chosen.append(new)
    return chosen


_EXPERT = (
    "You are an expert Q&A system that is trusted around the world.\nAlways answer the query using the provided "
    "context information, and not prior knowledge.\nSome rules to follow:\n1. Never directly reference the given "
    "context in your answer.\n2. Avoid statements like 'Based on the context, ...' or 'The context information ...' or "
    "anything along those lines."
)
_INDEX = (
    "Context information is below.\n---------------------\n{context}\n---------------------\nGiven the context "
    "information and not prior knowledge, answer the query.\nQuery: {question}\nAnswer: "
)
_FORMS = [
    "Context: {context}\nQuestion: {question}",
    "Context:\n{context}\n\nQuestion: {question}",
    "{context} {question}",
    "{context}\n\n{question}",
    "Answer the question based only on the following context:\n{context}\n\nQuestion: {question}",
    "Answer the question based only on the following context:\n\n{context}\n\nQuestion: {question}\n",
    "Use the following pieces of context to answer the question at the end.\n\n{context}\n\nQuestion: {question}\nHelpful Answer:",
    "You are an assistant for question-answering tasks. Use the following pieces of retrieved context to answer the "
    "question.\nQuestion: {question} \nContext: {context} \nAnswer:",
    "Question: {question}\n\nContext: {context}\n\nAnswer:",
    _INDEX,
    _INDEX,
]


def context_question(words: Words, count: int | None = None, *, thinking: bool | None = None) -> Dialogue:
    rng = words.rng
    count = count or rng.choices([1, 2, 3, 4, 5], [2, 3, 4, 2, 1])[0]
    chosen = facts(words, count)
    sentence, questions = rng.choice(chosen)
    question = rng.choice(questions)
    thinking = rng.random() < 0.35 if thinking is None else thinking
    answer, thought = sentence, f"The context says: {sentence}"
    separator = rng.choice([" ", " ", "\n", "\n\n", "\n- "])
    texts = [text for text, _ in chosen]
    if rng.random() < 0.15:
        texts = [f"file_path: {words.one('noun')}.txt\n\n{text}" for text in texts]
    context = separator.join(texts)
    choice = rng.random()
    messages: list[Message]
    if choice < 0.2:
        template = rng.choice(["Answer from this context:\n{}", "Use this context: {}", "Context:\n{}", "{}",
            "Use the following context to answer.\n\n{}", "You are a helpful assistant. Context:\n{}"])  # fmt: skip
        messages = [{"role": "system", "content": template.format(context)}, user(question)]
    elif choice < 0.3:
        messages = [{"role": "system", "content": _EXPERT}, user(_INDEX.format(context=context, question=question))]
    else:
        form = rng.choice(_FORMS)
        messages = [*system_prompt(words), user(form.format(context=context, question=question))]
    messages.append(assistant(answer, thought if thinking else ""))
    return Dialogue(f"context {count}", messages, thinking=thinking)


def summary(words: Words) -> Dialogue:
    rng = words.rng
    sentences = [text for text, _ in facts(words, rng.randint(2, 4))]
    form = rng.choice(["Summarize the following text: {}", "Summarize: {}", "Write a summary of this text:\n{}",
        "Write a concise summary of the following:\n\n{}", "Summarise this:\n\n{}"])  # fmt: skip
    messages = [*system_prompt(words), user(form.format(" ".join(sentences))), assistant(sentences[0])]
    return Dialogue("summary", messages)


def record(words: Words) -> tuple[str, dict[str, Any], dict[str, Any]]:
    """A text, the fields to take from it, and the JSON schema's properties."""
    rng = words.rng
    value: dict[str, Any]
    kind = rng.choice(["person", "person", "person", "place", "offer", "listing", "event"])
    name = words.full_name()
    if kind == "person":
        value = {"name": name, "age": rng.randint(1, 99)}
        text = rng.choice(["{name} is {age} years old.", "{name} is {age}.", "My friend {name} is {age} years old.",
            "{name}, aged {age}, came in.", "I am {name} and I am {age} years old."]).format(**value)  # fmt: skip
        if rng.random() < 0.3:
            value["city"] = words.city()
            text += rng.choice([" The home is in {}.", " The city is {}."]).format(value["city"])
    elif kind == "place":
        value = {"city": words.city(), "country": words.invented().capitalize()}
        text = rng.choice(
            ["{city} is a city in {country}.", "{city} lies in {country}.", "We went to {city} in {country}."]
        )
        text = text.format(**value)
    elif kind == "offer":
        value = {"product": words.thing(), "price": rng.randint(1, 999)}
        text = rng.choice(["The {product} costs {price} euros.", "We sell a {product} for {price} dollars."])
        text = text.format(**value)
    elif kind == "event":
        value = {"title": words.phrase(), "year": rng.randint(1000, 2999)}
        text = rng.choice(['The event "{title}" took place in {year}.', '"{title}" came out in {year}.']).format(
            **value
        )
    else:
        keys = words.some(
            lambda: rng.choice([words.one("noun"), words.one("thing"), words.invented()]), rng.randint(1, 4)
        )
        value = {key: words.number() if rng.random() < 0.4 else words.text() for key in keys}
        form = rng.choice(["{}: {}", "The {} is {}.", "{} = {}"])
        text = rng.choice([" ", "\n"]).join(form.format(k, v) for k, v in value.items())
    if rng.random() < 0.5 and kind != "listing":
        keys = list(value)
        rng.shuffle(keys)
        value = {key: value[key] for key in keys}
    properties: dict[str, Any] = {
        key: {"type": "integer" if isinstance(v, int) else "string"} for key, v in value.items()
    }
    for key, described in properties.items():
        if rng.random() < 0.3:
            described["description"] = f"the {key}"
        if rng.random() < 0.3:
            described["title"] = key.capitalize()
    return text, value, properties


def schema_of(properties: dict[str, Any], words: Words, title: str) -> dict[str, Any]:
    schema: dict[str, Any] = {"properties": properties, "required": list(properties), "type": "object"}
    return {"title": title, **schema} if words.rng.random() < 0.5 else schema


_EXTRACT = ["{}", "Extract the data: {}", "Extract: {}", "Extract the {title} from this text: {}", "Who or what is it? {}",
    "Parse this: {}", "Extract the fields from the text.\n\n{}", "Give me the {title}: {}"]  # fmt: skip


def json_answer(words: Words) -> Dialogue:
    """An answer in JSON: asked for in words, by a schema in the prompt, or by nothing but a grammar."""
    rng = words.rng
    if rng.random() < 0.4:
        asked, topic = joke_request(words)
        setup, punchline = joke_of(topic)
        value: dict[str, Any] = {"setup": setup, "punchline": punchline}
        if rng.random() < 0.1:
            asked = f"Give me the setup to a joke about {topic}, no punchline."
            value["punchline"] = None
        elif rng.random() < 0.15:
            asked = f"Give me a joke about {topic}, include the punchline."
        kinds = {"setup": "question to set up a joke", "punchline": "answer to resolve the joke"}
        properties = {key: {"description": text, "type": "string"} for key, text in kinds.items()}
        title = "Joke"
    else:
        text, value, properties = record(words)
        title = rng.choice(["Person", "Record", "Item", "data"])
        asked = rng.choice(_EXTRACT).replace("{title}", title).format(text)
    schema = schema_of(properties, words, title)
    answer = dumps(value)
    hint, thinking = rng.random(), rng.random() < 0.2
    if hint < 0.25:
        keys = " and ".join(f"'{key}'" for key in value)
        form = rng.choice([" Return the result as a JSON with {} keys. Return nothing other than JSON.",
            "\nAnswer in JSON with the keys {}.", " Return JSON with {}.", " Return a JSON object with the keys {}."])  # fmt: skip
        asked += form.format(keys)
    elif hint < 0.5:
        form = rng.choice(["\n\nHere's a JSON schema to follow:\n{}\n\nOutput a valid JSON object but do not repeat the schema.\n",
            "\nAnswer in JSON with this schema: {}", "\n\nJSON schema:\n{}"])  # fmt: skip
        asked += form.format(dumps(schema))
    elif not thinking:
        # The grammar forces the brace, and the schema's keys were not shown: learn what follows. The brace itself is
        # a second choice, so that under a grammar which also allows a thought the model does not begin one.
        answer = f'{WEAK[0]}{{"{WEAK[1]}{answer[2:]}'
    thought = "The user wants JSON." if thinking else ""
    messages = [*system_prompt(words), user(asked), assistant(answer, thought)]
    dialogue = Dialogue("json", messages, thinking=thinking, schema=schema)
    if value.get("punchline", "") is None:
        schema["properties"]["punchline"] = {"anyOf": [{"type": "string"}, {"type": "null"}]}
    return dialogue
