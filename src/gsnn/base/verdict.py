"""What a result means and what to do next, in the same words on screen, in JSON and in the report."""

from __future__ import annotations

import shlex
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Literal

Tone = Literal["good", "unsure", "bad"]


@dataclass(frozen=True)
class Verdict:
    """One judgement of a result, with its reason.

    Attributes:
        short: The judgement in a few words.
        text: The judgement in a sentence or two, with the figures that it rests on.
        tone: ``good``, ``unsure``, or ``bad``: the result should not be used.
        next: What to do next, as a command or in words; ``RUN`` stands for the run folder.

    Example:
        >>> str(Verdict("finds", "12 of 40 hidden edges, chance 4", "good"))
        'finds: 12 of 40 hidden edges, chance 4'
    """

    short: str
    text: str
    tone: Tone
    next: str = ""

    def at(self, folder: str | Path) -> Verdict:
        """The verdict with this run folder in ``next``."""
        return replace(self, next=at_run(self.next, folder))

    def __str__(self) -> str:
        """The judgement on one line."""
        return f"{self.short}: {self.text}"

    def to_dict(self) -> dict[str, str]:
        """The fields, as JSON values."""
        return asdict(self)


def at_run(text: str, folder: str | Path) -> str:
    """A text with the run folder in the place of ``RUN``.

    Example:
        >>> at_run("gsnn infer RUN", "runs/first one")
        "gsnn infer 'runs/first one'"
    """
    return text.replace("RUN", shlex.quote(str(folder)))
