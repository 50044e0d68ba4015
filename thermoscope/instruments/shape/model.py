"""A model that an instrument is asked about without loading it: its shape, looked up by name."""

from pathlib import Path
from typing import Annotated

from pydantic import BeforeValidator, Field, PlainSerializer
from pydantic_core import PydanticCustomError

from thermoscope.catalogue import lookup
from thermoscope.catalogue.architecture import Architecture


def _shape(value: object) -> Architecture:
    """Only Python and the command line can hold a `Path`: a file, a folder or an id of the hub.

    A string is a name of the catalogue, so that no request over HTTP reaches the file system or the network.
    """
    match value:
        case Architecture():
            return value
        case Path():
            return lookup.architecture(str(value))
        case str():
            return lookup.architecture(value, local=False)
    raise PydanticCustomError("model", "Input should be the name of a model")


Name = Annotated[str, Field(min_length=1, max_length=255)]
Shape = Annotated[
    Architecture,
    BeforeValidator(_shape, json_schema_input_type=Name),
    PlainSerializer(lambda shape: shape.name),
]
