"""What a result means, in words: the same on screen, in JSON and in the report."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Literal

Tone = Literal["good", "unsure", "bad"]


@dataclass(frozen=True)
class Verdict:
    """One judgement of a result, with its reason.

    Attributes:
        short: The judgement in a few words.
        text: It in a sentence or two, with the figures that it rests on.
        tone: ``good``, ``unsure``, or ``bad``: what follows is not to be built upon.

    Example:
        >>> str(Verdict("finds", "12 of 40 hidden edges, chance 4", "good"))
        'finds: 12 of 40 hidden edges, chance 4'
    """

    short: str
    text: str
    tone: Tone

    def __str__(self) -> str:
        """Both on one line."""
        return f"{self.short}: {self.text}"

    def to_dict(self) -> dict[str, str]:
        """JSON-able."""
        return asdict(self)
