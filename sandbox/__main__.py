"""The sandbox's commands: ``python -m sandbox up|down|status|clean|device|jupyter``.

Exit codes: 0 done, 1 it could not be done (the message says why), 2 a setting or an argument is wrong.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

from sandbox import devices as fleet
from sandbox import lifecycle, report
from sandbox.devices import Device, DeviceError
from sandbox.lifecycle import Outcome, SandboxError
from sandbox.settings import DEVICES_MAX, Settings, SettingsError, device_count, device_names, load

Command = Callable[[Settings, argparse.Namespace], int]


def main(argv: list[str] | None = None) -> int:
    arguments = _parser().parse_args(argv)
    try:
        command: Command = arguments.run
        return command(load(), arguments)
    except SettingsError as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 2
    except (SandboxError, DeviceError) as error:
        print(f"sandbox: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"sandbox: {' '.join(map(str, error.cmd))}: exit code {error.returncode}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("sandbox: interrupted; the same command goes on from here", file=sys.stderr)
        return 130


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m sandbox", description="The laptop world of twinops.")
    commands = parser.add_subparsers(required=True, metavar="command")
    for name, run, text in (
        ("up", _up, "start what is missing: AWS endpoint, mail, devices, plant"),
        ("down", _down, "end every process of the sandbox, by id"),
        ("status", _status, "what runs"),
        ("clean", _clean, "down, and remove SANDBOX_HOME"),
        ("jupyter", _jupyter, "print a link (valid for five minutes) to each notebook's Jupyter"),
    ):
        command = commands.add_parser(name, help=text)
        command.add_argument("--json", action="store_true", help="print the result as JSON, the progress to stderr")
        command.set_defaults(run=run)
    device = commands.add_parser("device", help="power one device on or off")
    device.add_argument("power", choices=("on", "off"))
    device.add_argument("name", help="device-001 ...")
    device.set_defaults(run=_device)
    return parser


def _up(settings: Settings, arguments: argparse.Namespace) -> int:
    return _report(lifecycle.up, "Sandbox", settings, arguments)


def _down(settings: Settings, arguments: argparse.Namespace) -> int:
    return _report(lifecycle.down, "Sandbox down", settings, arguments)


def _clean(settings: Settings, arguments: argparse.Namespace) -> int:
    return _report(lifecycle.clean, f"Sandbox: removing {settings.home}", settings, arguments)


def _report(
    verb: Callable[[Settings, lifecycle.Say], Outcome], title: str, settings: Settings, arguments: argparse.Namespace
) -> int:
    """Run a verb, its progress for a person; with --json that goes to stderr and the outcome to stdout."""
    stream = sys.stderr if arguments.json else sys.stdout

    def say(line: str) -> None:
        print(line, file=stream, flush=True)

    say(title)
    started = time.monotonic()
    outcome = verb(settings, say)
    say(f"  {'done' if outcome.changed else 'nothing to do'}, {time.monotonic() - started:.1f} s")
    if arguments.json:
        print(json.dumps({"changed": outcome.changed, **asdict(outcome)}))
    return 0


def _status(settings: Settings, arguments: argparse.Namespace) -> int:
    status = report.status(settings)
    print(json.dumps(status, indent=1) if arguments.json else report.as_text(status))
    return 0


def _jupyter(settings: Settings, arguments: argparse.Namespace) -> int:
    if lifecycle.running(settings) is None:
        raise SandboxError("the sandbox is not running; run: make up")
    links = report.jupyter_links(settings)
    text: Any = "\n".join(f"{name}: {link}" for name, link in links.items()) or "no notebook instance exists yet"
    print(json.dumps(links) if arguments.json else text)
    return 0


def _device(settings: Settings, arguments: argparse.Namespace) -> int:
    names = device_names(device_count(settings))
    if arguments.name not in names:
        expected = f"expected one of {names[0]}–{names[-1]} (at most {DEVICES_MAX})"
        print(f"sandbox: device: {expected}, got {arguments.name!r}", file=sys.stderr)
        return 2
    device = Device(settings, names.index(arguments.name) + 1)
    if arguments.power == "off":
        print(f"{device.name}: off, {fleet.power_off(device)} processes ended")
    elif lifecycle.running(settings) is None:
        raise SandboxError("the sandbox is not running; run: make up")
    else:
        print(f"{device.name}: {'on' if fleet.power_on([device]) else 'was on already'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
