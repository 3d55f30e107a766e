"""`make mutations`: breaks each check of the verifier, and each sync and order of the transaction, one at a time.

What is in mutations.yml is broken in a copy of the clone, python-tuf's own checks too; then the tests run that should
notice. Prints which did; the exit code is 1 where none did.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import textwrap
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import tuf
import yaml

CLONE = Path(__file__).resolve().parents[2]
CASES = Path(__file__).with_suffix(".yml")
TUF = "module_utils/tuf"
"""Where the tests find python-tuf before they find the installed one."""
TIMEOUT_S = 300
FAILED = re.compile(r"^(?:FAILED|ERROR) (?:tests/edge/)?(\S+)", re.MULTILINE)
"""Also in what prepares a test."""


@dataclass(frozen=True)
class Mutation:
    """One of mutations.yml."""

    what: str
    path: str
    before: str
    after: str
    tests: str

    def of(self, source: str) -> str:
        """``source``, broken.

        :raises ValueError: the lines to break are not there, or there more than once
        """
        before, after = (text.strip("\n") for text in (self.before, self.after))
        first = re.escape(before.splitlines()[0])
        indents = {found[1] for found in re.finditer(rf"^( *){first}$", source, re.MULTILINE)}
        places = [indent for indent in indents if f"\n{textwrap.indent(before, indent)}\n" in source]
        whole = [f"\n{textwrap.indent(before, indent)}\n" for indent in places]
        if sum(source.count(text) for text in whole) != 1:
            raise ValueError(f"mutations.yml: {self.what}: expected these lines once in {self.path}: {before}")
        broken = textwrap.indent(after, places[0])
        return source.replace(whole[0], f"\n{broken}\n" if after else "\n")


class Copy:
    """A copy of the clone in which one thing at a time is broken."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        command = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
        listed = subprocess.run(command, cwd=CLONE, check=True, capture_output=True, text=True)
        for name in filter(None, listed.stdout.split("\0")):
            if (CLONE / name).is_file():  # not one that was removed and is not committed
                (folder / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(CLONE / name, folder / name)
        shutil.copytree(Path(tuf.__file__).parent, folder / TUF, ignore=shutil.ignore_patterns("__pycache__"))
        for name in (".venv", ".cache"):
            if not (folder / name).exists():
                (folder / name).symlink_to((CLONE / name).resolve())

    def noticed(self, mutation: Mutation) -> str:
        """The test that noticed ``mutation``; empty where none did."""
        path = self._folder / mutation.path
        source = path.read_text(encoding="utf-8")
        path.write_text(mutation.of(source), encoding="utf-8")
        try:
            code, output = self.test([mutation.tests])
        finally:
            path.write_text(source, encoding="utf-8")
        found = FAILED.search(output)
        if code not in (0, 1) or bool(code) != bool(found):
            raise RuntimeError(f"{mutation.what}: expected failed tests or none, pytest exited with {code}:\n{output}")
        return found[1] if found else ""

    def test(self, tests: Sequence[str]) -> tuple[int, str]:
        """Exit code and output of pytest."""
        names = [f"tests/edge/{name}" for name in tests]
        command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *names]
        # Bytecode is known by time and size of its source: too coarse for changes that follow each other so quickly.
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONPATH": ""}
        done = subprocess.run(
            command, cwd=self._folder, env=environment, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
        return done.returncode, done.stdout + done.stderr


def unnoticed(folder: Path, mutations: Sequence[Mutation]) -> list[str]:
    """Which of ``mutations`` nobody noticed, each tried in the same copy.

    :raises RuntimeError: the tests fail while nothing is broken, which would show nothing
    """
    copy, missed = Copy(folder), []
    code, output = copy.test(sorted({mutation.tests for mutation in mutations}))
    if code:
        raise RuntimeError(f"expected the tests to pass while nothing is broken:\n{output}")
    for mutation in mutations:
        test = copy.noticed(mutation)
        sys.stdout.write(f"{mutation.what:<62}  {test or 'NOBODY NOTICED'}\n")
        sys.stdout.flush()
        missed += [] if test else [mutation.what]
    return missed


def read() -> list[Mutation]:
    return [Mutation(**case) for case in yaml.safe_load(CASES.read_text(encoding="utf-8"))]


def main(words: Sequence[str]) -> int:
    """Only mutations whose description has one of ``words``; without words all."""
    chosen = [each for each in read() if not words or any(word in each.what for word in words)]
    workers = min(2, len(chosen))
    with tempfile.TemporaryDirectory(prefix="tw-mutations-") as folder, ThreadPoolExecutor(workers) as pool:
        folders = [Path(folder) / str(number) for number in range(workers)]
        shares = [chosen[number::workers] for number in range(workers)]
        missed = [what for found in pool.map(unnoticed, folders, shares) for what in found]
    sys.stdout.write(f"{len(chosen) - len(missed)} of {len(chosen)} were noticed\n")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
