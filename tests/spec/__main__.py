"""Fill the regions of the specification's pages by running the code.

python -m tests.spec          # write, and say which pages changed
python -m tests.spec --check  # write nothing; exit 1 if a page is not what the code says
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from tests.spec.pages import FOLDER, Regions, regions, stale


def main(arguments: Sequence[str] | None = None, folder: Path = FOLDER, known: Regions | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m tests.spec", description=__doc__, formatter_class=argparse.RawTextHelpFormatter
    )
    parser.add_argument("--check", action="store_true", help="write nothing, exit 1 on a difference")
    check = parser.parse_args(arguments).check
    changed = stale(folder, regions() if known is None else known)
    for path, text in changed.items():
        if check:
            print(f"{path.name} is not what the code says: run python -m tests.spec")
        else:
            path.write_text(text, encoding="utf-8")
            print(f"{path.name} changed")
    if not changed:
        print("every page is what the code says")
    return int(check and bool(changed))


if __name__ == "__main__":
    raise SystemExit(main())
