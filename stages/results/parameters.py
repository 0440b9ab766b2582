"""What the section `evaluate` of params.yaml may hold."""

from pydantic import Field

from stages.edges.parameters import Section, whole


class Evaluate(Section):
    confidence: float = Field(ge=0.5, le=0.9999, description="a number from 0.5 to 0.9999")
    worst: int = whole(1, 100)
