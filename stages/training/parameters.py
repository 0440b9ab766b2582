"""What the sections `model` and `train` of params.yaml may hold. No TensorFlow."""

from typing import Annotated

from pydantic import Field

from stages.edges.parameters import Section, whole, whole_number


class Model(Section):
    hidden_units: list[Annotated[int, Field(ge=1, le=65_536)]] = Field(
        min_length=1,
        description=f"a list of one or more layers, each {whole_number(1, 65_536)}",
    )


class Train(Section):
    epochs: int = whole(1, 100_000)
    batch_size: int = Field(ge=1, description="a whole number from 1 to the training images")
    learning_rate: float = Field(
        gt=0, allow_inf_nan=False, description="a finite number greater than 0"
    )
    seed: int = whole(0, 2**32 - 1)
