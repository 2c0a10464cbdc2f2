"""Models, for what pydantic makes of them."""

from __future__ import annotations

import enum
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Annotated, Any, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field


class Color(enum.StrEnum):
    RED = "red"
    BLUE = "blue"


class Level(enum.IntEnum):
    LOW = 1
    HIGH = 2


class Address(BaseModel):
    """Where somebody lives."""

    street: str = Field(max_length=200)
    zip_code: Annotated[str, Field(pattern=r"^\d{5}(-\d{4})?$")]
    country: str | None = Field(None, min_length=2, max_length=2)


class Person(BaseModel):
    name: str = Field(min_length=1)
    age: int = Field(ge=0, lt=150)
    address: Address
    previous: list[Address] = []
    color: Color = Color.RED


class Node(BaseModel):
    value: int
    children: list[Node] = []
    parent: Node | None = None


class Cat(BaseModel):
    kind: Literal["cat"]
    lives: int = Field(9, ge=0, le=9)


class Dog(BaseModel):
    kind: Literal["dog"]
    barks: bool


class Owner(BaseModel):
    pet: Annotated[Cat | Dog, Field(discriminator="kind")]
    others: dict[str, Cat | Dog]


class Times(BaseModel):
    day: date
    at: datetime
    clock: time
    lasts: timedelta
    id: UUID


class Numbers(BaseModel):
    price: Decimal = Field(gt=0, max_digits=10, decimal_places=2)
    share: float = Field(ge=0, le=1)
    level: Level
    even: int = Field(multiple_of=2)
    big: int = Field(ge=-(2**63), le=2**63 - 1)


class Tuples(BaseModel):
    pair: tuple[int, str]
    many: tuple[float, ...]
    unique: set[str]
    matrix: list[list[float]]
    fixed: tuple[()] = ()


class Loose(BaseModel):
    model_config = ConfigDict(extra="allow")
    anything: Any
    mapping: dict[str, Any]
    raw: dict[str, Any]
    items: list[Any]
    either: int | str | None = None
    data: bytes = b""


class Strict(BaseModel):
    model_config = ConfigDict(extra="forbid", title="Strict One")
    mode: Literal["a", "b", 3, None, True]
    only: Literal["x"]
    described: Address = Field(description="The billing address")
    alias_: str = Field(alias="@type")


class Expression(BaseModel):
    """An expression tree."""

    op: Literal["and", "or", "not"]
    args: list[Expression | Comparison]


class Comparison(BaseModel):
    field: str
    test: Literal["<", ">", "="]
    value: float | str | bool | None


class Deep(BaseModel):
    filter: Expression
    where: Comparison | None = None


def _tool(model: type[BaseModel], ending: str, schema: dict[str, Any]) -> dict[str, Any]:
    name = f"model_{model.__name__.lower()}{ending}"
    return {"type": "function", "function": {"name": name, "description": "", "parameters": schema}}


_MODELS: list[type[BaseModel]] = [Address, Person, Node, Owner, Times, Numbers, Tuples, Loose, Strict, Deep]

PYDANTIC = [
    *(_tool(model, "", model.model_json_schema()) for model in _MODELS),
    *(_tool(model, "_out", model.model_json_schema(mode="serialization")) for model in (Person, Numbers, Times)),
]
