"""``python -m page --documents build/status --out public/index.html staging production``

Exit codes: 0 the page is made, also where it says of some environments that they could not be read; 1 of all of them;
2 wrong arguments.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from page.documents import load
from page.render import html

STALE_AFTER_H = 6.0


def main(argv: list[str] | None = None) -> int:
    """Draw the page; a person is told where it is, and what it could not show."""
    parser = argparse.ArgumentParser(prog="python -m page", description="Draws the status page.")
    parser.add_argument("environments", nargs="+", metavar="ENVIRONMENT")
    parser.add_argument("--documents", type=Path, required=True, help="folder with <environment>.json")
    parser.add_argument("--out", type=Path, required=True, help="the page; written as a whole or not at all")
    parser.add_argument(
        "--stale-after-h",
        type=float,
        default=STALE_AFTER_H,
        help="the page warns when it is older (default %(default)s)",
    )
    arguments = parser.parse_args(argv)
    environments = [load(arguments.documents, name) for name in arguments.environments]
    write(arguments.out, html(environments, stale_after_h=arguments.stale_after_h))
    for environment in environments:
        said = environment.problem or environment.document["answer"]["headline"]
        print(f"{environment.name}: {said}", file=sys.stderr if environment.problem else sys.stdout)
    print(f"the page: {arguments.out}")
    return int(all(environment.problem for environment in environments))


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.new")
    temporary.write_text(text, "utf-8")
    temporary.replace(path)


if __name__ == "__main__":
    sys.exit(main())
