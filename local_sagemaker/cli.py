"""The command line of the local SageMaker: `up`, `status`, `env`, `down`, `reset`, `serve`.

argparse and the standard library, because a warm `up` stands at the beginning of every run of a flow. Each command
says what it did and what to type next. Run as `python -m local_sagemaker`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Mapping
from typing import Any

from local_sagemaker.home import HOME_VARIABLE, Home
from local_sagemaker.lifecycle import LifecycleError, down, reset, status, up

_PROGRAM = "python -m local_sagemaker"
_EPILOG = f"""\
The data directory is --home, else ${HOME_VARIABLE}, else ~/.local/share/local-sagemaker. Each directory has a server,
a port, jobs, objects and roles of its own. Any access key works; the account is 123456789012.

exit codes: 0 done; 1 it failed, the message says why; 2 wrong usage, or `reset` without --yes;
            3 `status` found no server running.

  eval "$({_PROGRAM} env)"                     then boto3, the AWS CLI and the SDKs talk to this machine
"""
_EXIT_FAILED = 1
_EXIT_USAGE = 2
_EXIT_NOT_RUNNING = 3  # as `systemctl status` and the LSB have it
_EXIT_INTERRUPTED = 130

Command = Callable[[Home, argparse.Namespace], int]


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    home = Home.locate(options.home, os.environ)
    commands: Mapping[str, Command] = {
        "up": _up,
        "status": _status,
        "env": _env,
        "down": _down,
        "reset": _reset,
        "serve": _serve,
    }
    try:
        return commands[options.command](home, options)
    except (LifecycleError, OSError) as error:
        _complain(str(error))
        return _EXIT_FAILED
    except KeyboardInterrupt:
        _complain("Interrupted.")
        return _EXIT_INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=_PROGRAM,
        description="SageMaker, S3, CloudWatch Logs, IAM and STS on this machine. Jobs really run.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=summary, description=summary)
        one.add_argument("--home", metavar="DIR", help=f"the data directory (default: ${HOME_VARIABLE})")
        return one

    starting = command("up", "Start the server, or find it; print its endpoint when it answers.")
    starting.add_argument("--json", action="store_true", help="print the status as one line of JSON")
    starting.add_argument("--port", type=_port, help="the port (default: the last one; at first, a free one)")
    command("status", "Say whether the server runs, where, and what it was asked.").add_argument(
        "--json", action="store_true", help="print it as one line of JSON"
    )
    command("env", "Print shell commands that point AWS clients to the server.")
    ending = command("down", "Stop all jobs as StopTrainingJob does, and end the server. The data stay.")
    ending.add_argument("--keep-jobs", action="store_true", help="end only the server; jobs run on without it")
    erasing = command("reset", "Do what `down` does, then delete all jobs, objects, logs and roles.")
    erasing.add_argument("--yes", action="store_true", help="really delete them")
    serving = command("serve", "Serve in the foreground until Ctrl-C.")
    serving.add_argument("--port", type=_port, help="the port (default: the last one; at first, a free one)")
    serving.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)  # how `up` learns that the server listens
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 1 << 16:
        raise argparse.ArgumentTypeError(f"{port} is no port; give 1 to 65535")
    return port


def _up(home: Home, options: argparse.Namespace) -> int:
    found, started = up(home, options.port)
    if options.json:
        _say(json.dumps(found))
        return 0
    what = "Started" if started else "Already running:"
    _say(f"{what} local SageMaker at {found['endpoint']} (pid {found['pid']}, data in {found['home']}).")
    _say(f'Next: eval "$({_command("env", home, options)})"')
    return 0


def _status(home: Home, options: argparse.Namespace) -> int:
    found = status(home)
    if options.json:
        _say(json.dumps(found))
    elif found["running"]:
        _say(f"Running at {found['endpoint']} (pid {found['pid']}, data in {found['home']}).")
        _say_requests(found["requests"])
        _say(f'Next: eval "$({_command("env", home, options)})"')
    else:
        _say(f"Not running (data in {home.directory}).")
        _say(f"Next: {_command('up', home, options)}")
    return 0 if found["running"] else _EXIT_NOT_RUNNING


def _say_requests(requests: Mapping[str, int]) -> None:
    if not requests:
        _say("No requests since it started.")
    width = max((len(name) for name in requests), default=0)
    for name, count in sorted(requests.items()):
        _say(f"  {name:<{width}}  {count:>7}")


def _env(home: Home, options: argparse.Namespace) -> int:
    found = status(home)
    if not found["running"]:
        _complain(f"No server runs for {home.directory}. Start it: {_command('up', home, options)}")
        return _EXIT_FAILED
    _say("unset AWS_PROFILE AWS_SESSION_TOKEN;")
    for name, value in client_environment(found).items():
        _say(f"export {name}={shlex.quote(value)};")
    return 0


def client_environment(found: Mapping[str, Any]) -> dict[str, str]:
    """Return the variables that point a client to the server whose status this is."""
    return {
        "AWS_ENDPOINT_URL": found["endpoint"],
        "AWS_ACCESS_KEY_ID": "local",
        "AWS_SECRET_ACCESS_KEY": "local",
        "AWS_DEFAULT_REGION": found["region"],
    }


def _down(home: Home, options: argparse.Namespace) -> int:
    _say_down(home, *down(home, keep_jobs=options.keep_jobs, say=_complain))
    _say(f"Next: {_command('up', home, options)} (jobs, objects and roles are kept)")
    return 0


def _reset(home: Home, options: argparse.Namespace) -> int:
    if not options.yes:
        found = ", ".join(path.name for path in home.contents()) or "nothing"
        _complain(f"It would remove from {home.directory}: {found}.")
        _complain(f"To do it: {_command('reset --yes', home, options)}")
        return _EXIT_USAGE
    _say_down(home, *reset(home, say=_complain))
    _say(f"Deleted all jobs, objects, logs and roles in {home.directory}.")
    _say(f"Next: {_command('up', home, options)}")
    return 0


def _say_down(home: Home, was_running: bool, jobs: int) -> None:
    ended = "Ended the server" if was_running else "No server was running"
    _say(f"{ended} (data in {home.directory}){f'; stopped {jobs} job(s)' if jobs else ''}.")


def _serve(home: Home, options: argparse.Namespace) -> int:
    from local_sagemaker.server import serve  # noqa: PLC0415 -- uvicorn and botocore: not for the other commands

    serve(home, options.port, options.ready_fd)
    return 0


def _command(name: str, home: Home, options: argparse.Namespace) -> str:
    """What to type next; with the home only where it was given on the command line."""
    where = f" --home {shlex.quote(str(home.directory))}" if options.home else ""
    return f"{_PROGRAM} {name}{where}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")
