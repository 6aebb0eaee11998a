"""The drill as a check; `modelstore.verify.drill` does it, and is loaded when it is asked for."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from modelstore.verify.check import Check, Run

if TYPE_CHECKING:
    from collections.abc import Sequence

    from modelstore.finding import Finding


def _check(run: Run) -> Sequence[Finding]:
    from modelstore.verify.drill.run import run_drill

    directory = os.path.dirname(run.subject.path)
    return run_drill(directory, tell=lambda step: run.options.tell(str(step)))


CHECK = Check(
    name="drill",
    title="tried out on a scratch catalogue",
    order=80,
    closed=_check,
    on_request=True,
)
