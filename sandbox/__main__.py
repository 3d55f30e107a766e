"""The sandbox's commands: ``python -m sandbox up|down|status|clean|device|plant|jupyter``.

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
from sandbox import lifecycle, plant_faults, report
from sandbox.devices import Device, DeviceError
from sandbox.lifecycle import Outcome, SandboxError
from sandbox.plant_faults import Fault, FaultError
from sandbox.plant_tables import FEATURES, Tables
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
    except (SandboxError, DeviceError, FaultError) as error:
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
    _add_plant(commands.add_parser("plant", help="make a sensor of a device fail, or repair all of its sensors"))
    return parser


def _add_plant(plant: argparse.ArgumentParser) -> None:
    actions = plant.add_subparsers(required=True, metavar="action")
    drift = actions.add_parser("drift", help="make one sensor fail from now on; faults of a device add up")
    drift.add_argument("device", help="device-001 ...")
    drift.add_argument("--feature", required=True, choices=FEATURES)
    how = drift.add_mutually_exclusive_group(required=True)
    how.add_argument("--shift", type=float, metavar="STD", help="it reads so many standard deviations more")
    how.add_argument("--factor", type=float, help="it reads in another unit: value times FACTOR, plus --offset")
    how.add_argument("--stuck", action="store_true", help="it reads the median for ever")
    how.add_argument("--missing", type=float, metavar="SHARE", help="this share of its readings is not there")
    drift.add_argument("--offset", type=float, default=0.0, help="of the other unit (default 0)")
    drift.set_defaults(run=_plant_drift)
    repair = actions.add_parser("repair", help="let all sensors of a device read what is there")
    repair.add_argument("device", help="device-001 ...")
    repair.set_defaults(run=_plant_repair)


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


def _named(settings: Settings, name: str) -> Device:
    names = device_names(device_count(settings))
    if name not in names:
        expected = f"expected one of {names[0]}–{names[-1]} (at most {DEVICES_MAX})"
        raise SettingsError(f"device: {expected}, got {name!r}")
    return Device(settings, names.index(name) + 1)


def _device(settings: Settings, arguments: argparse.Namespace) -> int:
    device = _named(settings, arguments.name)
    if arguments.power == "off":
        print(f"{device.name}: off, {fleet.power_off(device)} processes ended")
    elif lifecycle.running(settings) is None:
        raise SandboxError("the sandbox is not running; run: make up")
    else:
        print(f"{device.name}: {'on' if fleet.power_on([device]) else 'was on already'}")
    return 0


def _plant_drift(settings: Settings, arguments: argparse.Namespace) -> int:
    device = _named(settings, arguments.device)
    fault = _fault(arguments)
    changed = plant_faults.break_sensor(_plant_tables(settings), device, fault)
    print(f"{device.name}: {fault}; {changed} of its records read differently from now on")
    return 0


def _fault(arguments: argparse.Namespace) -> Fault:
    if arguments.stuck:
        return Fault(arguments.feature, "stuck")
    if arguments.shift is not None:
        return Fault(arguments.feature, "shift", arguments.shift)
    if arguments.missing is not None:
        return Fault(arguments.feature, "missing", arguments.missing)
    return Fault(arguments.feature, "unit", arguments.factor, arguments.offset)


def _plant_repair(settings: Settings, arguments: argparse.Namespace) -> int:
    device = _named(settings, arguments.device)
    changed = plant_faults.repair(_plant_tables(settings), device)
    print(f"{device.name}: its sensors are fine; {changed} of its records read differently from now on")
    return 0


def _plant_tables(settings: Settings) -> Tables:
    if lifecycle.running(settings) is None:
        raise SandboxError("the sandbox is not running; run: make up")
    return Tables(settings)


if __name__ == "__main__":
    sys.exit(main())
