"""The script of the tests' workflow: counts, prints where it is, and then does what its parameters say."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

FOLDER = Path("@FOLDER@")

run = json.loads(Path(os.environ["TWINOPS_RUN"]).read_text())
mark, do, amount = (run["parameters"][name] for name in ("mark", "do", "amount"))


def count(name: str) -> None:
    """One byte, in one write, however many do it at once."""
    descriptor = os.open(FOLDER / "counters" / name, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
    os.write(descriptor, b"x")
    os.close(descriptor)


def have_effect() -> None:
    """An idempotent script does not do again what it finds done; another one does."""
    if run["idempotent"]:
        try:
            (FOLDER / "counters" / f"{run['run_id']}.done").touch(exist_ok=False)
        except FileExistsError:
            return
    count(f"{mark}.effects")


def interval(started: float) -> None:
    with (FOLDER / "intervals").open("a") as file:
        file.write(f"{mark} {run['workflow']} {started:.6f} {time.time():.6f}\n")


begin = time.time()
count(f"{mark}.executions")
have_effect()
print("begun", mark, flush=True)
Path(os.environ["TWINOPS_OUTPUT"], "summary.txt").write_text(f"{mark} is done\n") if do != "disk" else None
if do == "sleep":
    time.sleep(amount)
elif do == "signal":
    os.kill(os.getpid(), amount)
elif do == "deaf":
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)
elif do in ("fork", "setsid"):
    child = subprocess.Popen(["sleep", "600"], start_new_session=do == "setsid")
    (FOLDER / f"{mark}.child").write_text(str(child.pid))
elif do == "print":
    line = b"z" * 99_999 + b"\n"
    for _ in range(amount // len(line)):
        sys.stdout.buffer.write(line)
    sys.stdout.buffer.flush()
elif do == "invalid":
    sys.stdout.buffer.write(b"before \xff\xfe\xc3 after\n")
    sys.stdout.buffer.flush()
elif do == "disk":
    try:
        with Path(os.environ["TWINOPS_OUTPUT"], "ballast").open("wb", buffering=0) as ballast:
            while True:
                ballast.write(bytes(4096))
    except OSError as error:
        print("the disk is full:", error, "." * 5000, flush=True)
interval(begin)
count(f"{mark}.ends")
sys.exit(amount if do == "exit" else 0)
