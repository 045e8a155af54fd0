"""Options that many commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

HomeOption = Annotated[
    Path | None,
    typer.Option("--home", envvar="P2PML_HOME", help="the node's home folder", show_default=False),
]
JsonOption = Annotated[bool, typer.Option("--json", help="print JSON on stdout")]
