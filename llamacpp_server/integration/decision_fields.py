"""The fields of classes that decide, in both adapters."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..calibration import Calibration
from ..decisions import DecisionEngine, LabelStyle
from .fields import ConnectionFields, MediaFields

__all__ = ["DecisionFields"]


class DecisionFields(ConnectionFields, MediaFields):
    """How questions are decided. See `DecisionRequest` and docs/decisions.md."""

    engine: DecisionEngine = "auto"
    """`native` for `/v1/systemone`, `logits` for a chat model's next token; `auto` chooses by the model."""
    rotations: int = Field(default=1, ge=1)
    """In how many orders the options are shown; the answers are averaged."""
    labels: LabelStyle = "auto"
    """What the model answers with: `letters`, or the options' own names (`words`)."""
    thinking: int = Field(default=0, ge=0)
    """Tokens for reasoning before an answer; 0 has none."""
    calibration: Calibration | None = None
    """A fit of `client.calibrate`."""

    def decision_options(self) -> dict[str, Any]:
        """Keyword arguments for `client.decide`."""
        options = {name: getattr(self, name) for name in ("engine", "rotations", "labels", "thinking", "calibration")}
        return {**options, "media": self.media_policy()}
