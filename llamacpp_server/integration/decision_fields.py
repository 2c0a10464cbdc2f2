"""Fields of the decision classes of both adapters."""

from __future__ import annotations

from typing import Any

from pydantic import Field

from ..calibration import Calibration
from ..decisions import DecisionEngine, LabelStyle
from .fields import ConnectionFields, MediaFields

__all__ = ["DecisionFields"]


class DecisionFields(ConnectionFields, MediaFields):
    """Fields of decision classes. See docs/decisions.md."""

    engine: DecisionEngine = "auto"
    """`native` for `/v1/systemone`, `logits` for a chat model's next token; `auto` chooses by the model."""
    rotations: int = Field(default=1, ge=1)
    """Number of orders in which the options are shown; the probabilities are averaged."""
    labels: LabelStyle = "auto"
    """Labels that the model answers with: `letters`, or the options' names (`words`)."""
    thinking: int = Field(default=0, ge=0)
    """Maximum reasoning tokens before an answer; 0 turns reasoning off."""
    calibration: Calibration | None = None
    """Calibration fitted by `client.calibrate`."""

    def decision_options(self) -> dict[str, Any]:
        """Keyword arguments for `client.decide`."""
        options = {name: getattr(self, name) for name in ("engine", "rotations", "labels", "thinking", "calibration")}
        return {**options, "media": self.media_policy()}
