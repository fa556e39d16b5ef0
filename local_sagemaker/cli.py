"""The command line of the local SageMaker: `up`, `status`, `env`, `faults`, `down`, `reset`, `serve`.

It imports argparse and the standard library only, because each run of a flow begins with `up`. Each command prints what
it did and what to type next. Run it as `python -m local_sagemaker`.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from local_sagemaker.faults.client import FaultClient, FaultsRejected
from local_sagemaker.home import HOME_VARIABLE, Home, NotAHome, OtherRegion
from local_sagemaker.keys import HomeKey, Keys
from local_sagemaker.lifecycle import LifecycleError, NoAnswer, down, reset, status, up
from local_sagemaker.services import LOST

_PROGRAM = "python -m local_sagemaker"
_EPILOG = f"""\
The data directory is --home, else ${HOME_VARIABLE}, else ~/.local/share/local-sagemaker. Each directory has a server,
a port, a region, jobs, objects, roles and a key of its own, which `env` tells; the account is 123456789012.

exit codes: 0 done; 1 it failed, the message says why; 2 wrong usage, or `reset` without --yes;
            3 `status` found no server running; 4 a server runs, but does not answer.

  eval "$({_PROGRAM} env)"                     then boto3, the AWS CLI and the SageMaker SDKs talk to it
  echo '{{"requests": [{{"kind": "throttle", "probability": 0.3}}]}}' | {_PROGRAM} faults set -
"""
_FAULTS_EPILOG = """\
A document of faults, of which every member but `kind` may be left out:

  {"seed": 7,
   "requests": [{"kind": "throttle", "service": "sagemaker", "operation": "Describe*", "probability": 0.3},
                {"kind": "lose", "operation": "Create*Job", "times": 1}],
   "jobs": [{"kind": "interrupt", "name": "fit-*", "after": 5, "seconds": 10, "times": 1},
            {"kind": "quota", "instance_type": "ml.p3.*", "limit": 2}]}

requests: lose, drop, throttle, error, slow, expire, hold; jobs: interrupt, capacity, quota, pending.
What each does and which members it takes is told in local_sagemaker/faults/rules.py.
"""
_OURS_ALONE = 0o077
_FOR_CLIENTS = Path(__file__).parent / "for_clients"
_EXIT_FAILED = 1
_EXIT_USAGE = 2
_EXIT_NOT_RUNNING = 3  # as `systemctl status` and the LSB have it
_EXIT_NO_ANSWER = 4
_EXIT_INTERRUPTED = 130

Command = Callable[[Home, argparse.Namespace], int]


def main(arguments: list[str]) -> int:
    """Run one command; return the exit code."""
    options = _parser().parse_args(arguments)
    os.umask(_OURS_ALONE)
    home = Home.locate(options.home, os.environ)
    commands: Mapping[str, Command] = {
        "up": _up,
        "status": _status,
        "env": _env,
        "faults": _faults,
        "down": _down,
        "reset": _reset,
        "serve": _serve,
    }
    try:
        return commands[options.command](home, options)
    except (LifecycleError, NotAHome, OtherRegion, FaultsRejected, OSError) as error:
        _complain(str(error))
        return _EXIT_NO_ANSWER if isinstance(error, NoAnswer) else _EXIT_FAILED
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
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version of prefect-sagemaker")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, summary: str) -> argparse.ArgumentParser:
        one = commands.add_parser(name, help=summary, description=summary)
        one.add_argument("--home", metavar="DIR", help=f"the data directory (default: ${HOME_VARIABLE})")
        return one

    starting = command("up", "Start the server, or find it; print its endpoint when it answers.")
    starting.add_argument("--json", action="store_true", help="print the status as one line of JSON")
    starting.add_argument("--port", type=_port, help="the port (default: the last one; at first, a free one)")
    starting.add_argument("--region", help="the region of a new data directory (default: us-east-1); it stays there")
    command("status", "Say whether the server runs, where, and what it was asked.").add_argument(
        "--json", action="store_true", help="print it as one line of JSON"
    )
    command("env", "Print shell commands that point AWS clients to the server.")
    faulting = command("faults", "Let requests and jobs go wrong on purpose, until `clear`.")
    faulting.epilog, faulting.formatter_class = _FAULTS_EPILOG, argparse.RawDescriptionHelpFormatter
    faulting.add_argument("action", choices=("set", "show", "clear", "release"), help="release: what is held goes on")
    faulting.add_argument(
        "file", nargs="?", help="for `set`: a JSON document of faults; - reads it from standard input"
    )
    faulting.add_argument("--json", action="store_true", help="print rules, counts and held requests as JSON")
    ending = command("down", "Stop all jobs as StopTrainingJob does, and end the server. It says what is not kept.")
    ending.add_argument("--keep-jobs", action="store_true", help="end only the server; jobs run on without it")
    erasing = command("reset", "Do what `down` does, then delete all jobs, objects, logs and roles.")
    erasing.add_argument("--yes", action="store_true", help="really delete them")
    serving = command("serve", "Serve in the foreground until Ctrl-C.")
    serving.add_argument("--port", type=_port, help="the port (default: the last one; at first, a free one)")
    serving.add_argument("--ready-fd", type=int, help=argparse.SUPPRESS)  # how `up` learns that the server listens
    return parser


class _Version(argparse.Action):
    """Prints the installed version, read from the distribution's metadata on demand."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> None:
        from importlib.metadata import version  # noqa: PLC0415 -- 30 ms, and a warm `up` has to be quick

        sys.stdout.write(f"prefect-sagemaker {version('prefect-sagemaker')}\n")
        parser.exit()


def _port(text: str) -> int:
    port = int(text)
    if not 0 < port < 1 << 16:
        raise argparse.ArgumentTypeError(f"{port} is not a port; give 1 to 65535")
    return port


def _up(home: Home, options: argparse.Namespace) -> int:
    found, started = up(home, options.port, options.region, say=_complain)
    if options.json:
        keys = HomeKey.of(home.directory).keys
        _say(json.dumps({**found, "started": started, "access_key": keys.access_key, "secret_key": keys.secret_key}))
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
    variables = client_environment(found, HomeKey.of(home.directory).keys)
    for name, value in {**variables, **interpreter_environment(os.environ)}.items():
        _say(f"export {name}={shlex.quote(value)};")
    return 0


def client_environment(found: Mapping[str, Any], keys: Keys) -> dict[str, str]:
    """Return the environment variables that point an AWS client to a server.

    Args:
        found: the server's status.
        keys: the keys of its home.
    """
    return {
        "AWS_ENDPOINT_URL": found["endpoint"],
        "AWS_ACCESS_KEY_ID": keys.access_key,
        "AWS_SECRET_ACCESS_KEY": keys.secret_key,
        "AWS_DEFAULT_REGION": found["region"],
    }


def interpreter_environment(given: Mapping[str, str]) -> dict[str, str]:
    """Return the variables that keep clients on this machine where `client_environment` does not.

    `PYTHONPATH` begins with `for_clients`, whose `sitecustomize` redirects the SageMaker SDKs. `NO_PROXY` names the
    loopback hosts if a proxy is set, because clients would ask the proxy for them.

    Args:
        given: the caller's variables; their `PYTHONPATH` and `NO_PROXY` are extended.
    """
    others = [entry for entry in given.get("PYTHONPATH", "").split(os.pathsep) if entry != str(_FOR_CLIENTS)]
    path = os.pathsep.join([str(_FOR_CLIENTS), *others]) if any(others) else str(_FOR_CLIENTS)
    if not any(name.lower().endswith("_proxy") for name in given):
        return {"PYTHONPATH": path}
    spared = [name for name in (given.get("no_proxy") or given.get("NO_PROXY", "")).split(",") if name]
    no_proxy = ",".join(dict.fromkeys(["127.0.0.1", "localhost", *spared]))
    return {"PYTHONPATH": path, "NO_PROXY": no_proxy, "no_proxy": no_proxy}


def _faults(home: Home, options: argparse.Namespace) -> int:
    if (options.file is not None) is not (options.action == "set"):
        _complain("`faults set` needs a file, or - for standard input; the other actions take none.")
        return _EXIT_USAGE
    found = status(home)
    if not found["running"]:
        _complain(f"No server runs for {home.directory}. Start it: {_command('up', home, options)}")
        return _EXIT_FAILED
    client = FaultClient(found["endpoint"], HomeKey.of(home.directory).control)
    if options.action == "set":
        shown = client.set(_read_document(options.file))
    else:
        shown = {"show": client.show, "clear": client.clear, "release": client.release}[options.action]()
    _say(json.dumps(shown) if options.json else "\n".join(_fault_lines(shown)))
    if not options.json:
        following = "clear" if shown["requests"] or shown["jobs"] else "set FILE"
        _say(f"Next: {_command(f'faults {following}', home, options)}")
    return 0


def _read_document(file: str) -> Any:
    try:
        return json.loads(sys.stdin.read() if file == "-" else Path(file).read_text())
    except ValueError as error:
        raise FaultsRejected(f"{file} is not JSON: {error}") from error


def _fault_lines(shown: Mapping[str, Any]) -> Iterator[str]:
    """Yield a line for each rule, with its counts, and for each held request."""
    for rule in (*shown["requests"], *shown["jobs"]):
        told = [f"{name}={value}" for name, value in rule.items() if name not in {"kind", "matched", "fired"}]
        yield f"  {rule['kind']:<10} fired {rule['fired']} of {rule['matched']}  {' '.join(told)}".rstrip()
    for held in shown["held"]:
        yield f"  held       request {held['number']}  {held['service']}:{held['operation']} {held['path']}"
    if not shown["requests"] and not shown["jobs"]:
        yield "No faults are on."


def _down(home: Home, options: argparse.Namespace) -> int:
    _say_down(home, *down(home, keep_jobs=options.keep_jobs, say=_complain))
    _say(f"Next: {_command('up', home, options)} (all is kept but {', '.join(LOST[:-1])} and {LOST[-1]})")
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
    """Return a command to type next, with `--home` if the command line had it."""
    where = f" --home {shlex.quote(str(home.directory))}" if options.home else ""
    return f"{_PROGRAM} {name}{where}"


def _say(text: str) -> None:
    sys.stdout.write(f"{text}\n")


def _complain(text: str) -> None:
    sys.stderr.write(f"{text}\n")
