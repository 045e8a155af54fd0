"""Where the files are that a job spec names."""

from __future__ import annotations

import os
from pathlib import Path


def spec_path(base_dir: Path, text: str) -> Path:
    """A path of a job spec: seen from the spec's folder, or from a user's home where it begins with `~`."""
    return base_dir / os.path.expanduser(text)  # unlike Path.expanduser, leaves unknown users' as they are
