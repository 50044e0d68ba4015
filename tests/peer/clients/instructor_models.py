"""Instructor: answers that are pydantic models, on a model of 135M parameters, at the first attempt."""

from typing import Literal

import instructor
import openai
from pydantic import BaseModel, Field
from run import ADDRESS, MODEL, main


class Address(BaseModel):
    """Where somebody lives."""

    city: str = Field(max_length=40)
    country: str = Field(max_length=40)


class Person(BaseModel):
    """Somebody."""

    name: str = Field(max_length=40)
    age: int = Field(ge=0, le=150)
    mood: Literal["happy", "sad", "neutral"]
    address: Address
    hobbies: list[Literal["chess", "music", "sport"]] = Field(max_length=2)


TEXT = "Ada Lovelace is 36, lives in London in England, is happy, and loves chess and music."


def extract(mode, **fields):
    client = instructor.from_openai(
        openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="none", max_retries=0), mode=mode
    )
    return client.chat.completions.create(
        model=MODEL,
        response_model=Person,
        max_retries=0,
        seed=3,
        temperature=0.7,
        max_tokens=400,
        messages=[{"role": "user", "content": f"Extract the person: {TEXT}"}],
        **fields,
    )


def by_a_named_call():
    assert isinstance(extract(instructor.Mode.TOOLS), Person)


def by_a_strict_call():
    assert isinstance(extract(instructor.Mode.TOOLS_STRICT), Person)


def by_a_schema():
    assert isinstance(extract(instructor.Mode.JSON_SCHEMA), Person)


def piece_by_piece():
    client = instructor.from_openai(
        openai.OpenAI(base_url=f"{ADDRESS}/v1", api_key="none", max_retries=0), mode=instructor.Mode.TOOLS
    )
    pieces = list(
        client.chat.completions.create_partial(
            model=MODEL,
            response_model=Person,
            seed=3,
            temperature=0.7,
            max_tokens=400,
            messages=[{"role": "user", "content": f"Extract the person: {TEXT}"}],
        )
    )
    assert len(pieces) > 3
    assert pieces[-1].address.city


main([by_a_named_call, by_a_strict_call, by_a_schema, piece_by_piece], "instructor", "openai")
