"""The init of one host: makes the host's root, runs the container's command, reaps processes, records the exit code.

`runtime/host.py` runs this script as `python -I -S init.py <spec.json>`, with the host's lock as an inherited
descriptor. The script imports only the standard library, because it outlives the supervisor that started it and runs
inside a root of its own. It makes namespaces by system calls through `ctypes`, not with the programs `unshare` and
`mount`. That saves thirty forks for each host, and a failure is known before any part of the job has run.

Some containers and macOS do not allow namespaces. The same command then runs in the supervisor's root. The variable
`LOCAL_SAGEMAKER_ROOT` names the directory that holds the container paths, and the job's log says so.
"""

# Importing `pathlib` takes longer than everything that this script does.
# ruff: noqa: PTH101, PTH102, PTH103, PTH112, PTH113, PTH114, PTH115, PTH116, PTH118, PTH120, PTH123, PTH208, PTH211
from __future__ import annotations

import contextlib
import ctypes
import errno
import json
import os
import resource
import signal
import socket
import stat
import sys
import time
from typing import TYPE_CHECKING, Any, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

# <linux/sched.h>, <linux/mount.h>, <linux/prctl.h>
CLONE_NEWNS, CLONE_NEWUTS, CLONE_NEWUSER, CLONE_NEWPID = 0x00020000, 0x04000000, 0x10000000, 0x20000000
MS_NOSUID, MS_NODEV, MS_NOEXEC, MS_BIND, MS_REC = 2, 4, 8, 4096, 16384
MS_UNBINDABLE, MS_PRIVATE, MNT_DETACH = 1 << 17, 1 << 18, 2
PR_SET_CHILD_SUBREAPER = 36
_RESERVED_PIDS = 300  # <linux/pid.h>: the kernel does not reuse pids below it
_PID_MAX_OF_A_NAMESPACE = [6, 14]  # the Linux version since which `pid_max` belongs to the pid namespace
_TOOLKIT = "train"  # same as `kinds.training.TRAIN`, which this script cannot import
_ABOVE = 1000  # processes between the supervisor's limit and the kernel's, so that the supervisor reports it first

# The signals that the init forwards to the command. SIGKILL, SIGSTOP and the signals of faults cannot be forwarded.
PASSED_ON = frozenset(
    {signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1, signal.SIGUSR2, signal.SIGCONT}
)
_MAPPED = b"mapped\n"
WAITED_FOR = PASSED_ON | {signal.SIGCHLD}


def libc_call(name: str, *values: Any) -> None:
    """Call a function of libc that returns -1 on failure.

    Raises:
        OSError: the call failed, or this system does not have the function.
    """
    try:
        function = getattr(ctypes.CDLL(None, use_errno=True), name)
    except AttributeError:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), name) from None
    if function(*values) == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), f"{name}{values}")


def mount(source: str, target: str, kind: str = "", flags: int = 0, options: str = "") -> None:
    """Call `mount(2)`; an empty string is passed as NULL."""
    texts = [text.encode() or None for text in (source, target, kind, options)]
    libc_call("mount", texts[0], texts[1], texts[2], ctypes.c_ulong(flags), texts[3])


class Root:
    """A private root: a tmpfs with bind mounts of the machine's `/` and of the job's directories.

    Args:
        place: an empty directory, on which the tmpfs is mounted; outside the mount namespace it stays empty.
        binds: container path -> directory on the machine.
    """

    def __init__(self, place: str, binds: dict[str, str]) -> None:
        self._place = place
        self._binds = binds

    def enter(self, hosts_file: str, python: str, layer: str) -> str:
        """Build the root in the caller's mount namespace and make it `/`.

        Args:
            hosts_file: the file that becomes `/etc/hosts`.
            python: the prefix of the Python that stands in for the image.
            layer: the directory for the changes that the job makes in that prefix.

        Returns:
            Why the Python has no overlay, or an empty string.
        """
        mount("", "/", flags=MS_REC | MS_PRIVATE)
        mount("tmpfs", self._place, "tmpfs", MS_NOSUID | MS_NODEV, "mode=0755")
        # Unbindable, so that a recursive bind of a directory above the new root does not copy that root into itself.
        mount("", self._place, flags=MS_UNBINDABLE)
        self._fill("/")
        without_overlay = self._overlay(python, layer)
        self._mount_proc()
        names = f"{self._place}/etc/hosts"
        if os.path.isfile(names) and not os.path.islink(names):
            mount(hosts_file, names, flags=MS_BIND)
        os.chdir(self._place)
        libc_call("pivot_root", b".", b".")
        libc_call("umount2", b".", MNT_DETACH)
        os.chdir("/")
        return without_overlay

    def _fill(self, path: str) -> None:
        """Bind the children of `path` into the new root; make directories above a job's directory and fill them."""
        for name in sorted(self._children(path)):
            child = os.path.join(path, name)
            target = self._place + child
            if child in self._binds:
                os.mkdir(target)
                mount(self._binds[child], target, flags=MS_BIND | MS_REC)
            elif any(place.startswith(child + "/") for place in self._binds):
                os.mkdir(target, 0o755)
                if os.path.isdir(child):
                    os.chmod(target, stat.S_IMODE(os.stat(child).st_mode))
                self._fill(child)
            elif os.path.islink(child):
                os.symlink(os.readlink(child), target)
            elif child != "/proc":
                self._bind(child, target)

    def _children(self, path: str) -> set[str]:
        below = path.rstrip("/") + "/"
        needed = {place[len(below) :].split("/")[0] for place in self._binds if place.startswith(below)}
        return needed | set(os.listdir(path) if os.path.isdir(path) else ())

    @staticmethod
    def _bind(child: str, target: str) -> None:
        if os.path.isdir(child):
            os.mkdir(target)
        else:
            os.close(os.open(target, os.O_CREAT | os.O_WRONLY, 0o644))
        mount(child, target, flags=MS_BIND | MS_REC)

    def _overlay(self, python: str, layer: str) -> str:
        """Mount an overlay on the Python, for the packages that the job installs; return why it failed, or ""."""
        if self._has_mounts_below(python):
            return f"{python} holds other mounts"
        upper, work = f"{layer}/upper", f"{layer}/work"
        try:
            os.makedirs(upper)
            os.mkdir(work)
            # Without `userxattr` an overlay in a user namespace cannot mark a directory as removed. `rmdir` then fails
            # with EIO, and pip cannot replace a package that has folders (overlayfs documentation, "User xattr").
            options = f"lowerdir={python},upperdir={upper},workdir={work},userxattr"
            mount("overlay", self._place + python, "overlay", 0, options)
        except OSError as error:
            # Kernels before 5.11 and some file systems refuse this mount.
            return f"{python} cannot be overlaid ({error})"
        return ""

    def _has_mounts_below(self, path: str) -> bool:
        """Return whether `path` holds mounts that an overlay would hide: a driver's libraries, a job's directory."""
        with open("/proc/self/mountinfo") as file:
            return any(line.split()[4].startswith(f"{self._place}{path}/") for line in file)

    def _mount_proc(self) -> None:
        target = f"{self._place}/proc"
        os.mkdir(target)
        try:
            mount("proc", target, "proc", MS_NOSUID | MS_NODEV | MS_NOEXEC)
        except OSError:
            # Containers that mask parts of /proc do not allow a new one. The outer one shows the host's processes too.
            mount("/proc", target, flags=MS_BIND | MS_REC)


def make_environment(layer: str, environment: dict[str, str]) -> dict[str, str]:
    """Make a virtual environment over the Python that stands in for the image; return the variables with its PATH.

    The virtual environment holds the packages that a job installs when no overlay is possible. pip installs into it.
    pip finds the image's packages outside of it, so it neither changes nor removes them.

    Args:
        layer: the directory for the virtual environment.
        environment: the environment variables of the job's command.
    """
    import subprocess  # noqa: PLC0415 -- its import takes longer than the rest of a start with an overlay

    version = f"python{sys.version_info.major}.{sys.version_info.minor}"
    binaries, packages = f"{layer}/environment/bin", f"{layer}/environment/lib/{version}/site-packages"
    for folder in (binaries, packages):
        os.makedirs(folder)
    # Ask another process: this one runs without `site`, which knows where the packages of a Python are.
    ask = "import json, os, site; print(json.dumps([path for path in site.getsitepackages() if os.path.isdir(path)]))"
    answer = subprocess.run([sys.executable, "-I", "-c", ask], stdout=subprocess.PIPE, check=True)
    with open(f"{packages}/image.pth", "w") as file:  # `addsitedir` also reads the image's own .pth files
        file.writelines(f"import site; site.addsitedir({folder!r})\n" for folder in json.loads(answer.stdout))
    base = os.path.realpath(sys.executable)
    with open(f"{layer}/environment/pyvenv.cfg", "w") as file:
        file.write(f"home = {os.path.dirname(base)}\ninclude-system-site-packages = false\n")
    for name in ("python", "python3", version):
        os.symlink(base, f"{binaries}/{name}")
    for name in ("pip", "pip3"):  # the image's own pip would install into the image
        with open(f"{binaries}/{name}", "w") as file:
            file.write(f'#!/bin/sh\nexec "{binaries}/python" -m pip "$@"\n')
        os.chmod(f"{binaries}/{name}", 0o700)
    path = environment.get("PATH", os.defpath)
    return {**environment, "PATH": f"{binaries}:{path}"}


class Record:
    """Writes the host's status files. It holds a directory descriptor, because the new root may hide their path."""

    def __init__(self, directory: str) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)

    def write(self, name: str, values: dict[str, Any]) -> None:
        """Write a JSON file by rename, so that a reader never sees a partial file."""
        part = name + ".part"
        descriptor = os.open(part, os.O_CREAT | os.O_TRUNC | os.O_WRONLY, 0o644, dir_fd=self._directory)
        with os.fdopen(descriptor, "w") as file:
            json.dump(values, file)
        os.rename(part, name, src_dir_fd=self._directory, dst_dir_fd=self._directory)


def write_maps(pid: int) -> None:
    """Write the uid and gid maps of the user namespace of `pid`: as root all ids, else only the own id as root."""
    try:
        for kind in ("uid", "gid"):
            with open(f"/proc/self/{kind}_map") as own:
                ranges = [line.split() for line in own]
            with open(f"/proc/{pid}/{kind}_map", "w") as file:
                file.write("".join(f"{inside} {inside} {count}\n" for inside, _, count in ranges))
    except OSError:
        for name, text in (
            ("uid_map", f"0 {os.geteuid()} 1"),
            ("setgroups", "deny"),
            ("gid_map", f"0 {os.getegid()} 1"),
        ):
            with open(f"/proc/{pid}/{name}", "w") as file:
                file.write(text)


def try_namespaces(spec: dict[str, Any], record: Record) -> int:
    """Start the host in its own namespaces and return the pid of its first process, whose parent is this process.

    An intermediate process, the stage, makes the namespaces. A machine may allow `unshare` and then forbid the mounts
    (Ubuntu's AppArmor), and this process must then still be able to run the job without namespaces.

    Raises:
        OSError: this machine does not allow it; no part of the job has run.
    """
    ours, theirs = socket.socketpair()
    stage = os.fork()
    if stage == 0:
        ours.close()
        _in_stage(spec, record, theirs)
    theirs.close()
    try:
        answer = _accompany(stage, ours)
    finally:
        ours.close()  # a stage that gets no answer exits
        os.waitpid(stage, 0)
    if not answer.startswith("ready "):
        raise OSError(answer or "the process that makes the namespaces died")
    return int(answer.split()[1])


def _accompany(stage: int, child: socket.socket) -> str:
    """Write the stage's id maps after its `unshare`; return the last message of the stage or of the first process."""
    with child.makefile("r") as answers:
        answer = answers.readline().strip()
        if answer != "unshared":
            return answer
        write_maps(stage)
        child.sendall(_MAPPED)
        return answers.readline().strip()


def _in_stage(spec: dict[str, Any], record: Record, parent: socket.socket) -> NoReturn:
    try:
        libc_call("unshare", CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWUTS | CLONE_NEWPID)
        parent.sendall(b"unshared\n")
        if parent.recv(len(_MAPPED)) != _MAPPED:
            os._exit(1)
        first = os.fork()
    except OSError as error:
        parent.sendall(f"{error}\n".encode())
        os._exit(1)
    if first:
        os._exit(0)
    _as_first_process(spec, record, parent)


def _as_first_process(spec: dict[str, Any], record: Record, parent: socket.socket) -> NoReturn:
    code = 1
    try:
        # The old /proc still shows the pid that this process has for the supervisor.
        outer = int(os.readlink("/proc/self"))
        name = spec["host"].encode()
        libc_call("sethostname", name, len(name))
        environment = spec["environment"]
        root = Root(spec["mountpoint"], spec["binds"])
        without_overlay = root.enter(spec["hosts_file"], spec["python"], spec["layer"])
        if without_overlay:
            say(f"packages that this job installs go into an environment of its own: {without_overlay}")
            environment = make_environment(spec["layer"], environment)
        bound_processes(spec["most"])
        record.write("host.json", {"pid": outer, "isolation": "namespaces"})
        parent.sendall(f"ready {outer}\n".encode())
        parent.close()
    except OSError as error:
        parent.sendall(f"{error}\n".encode())
        os._exit(1)
    try:
        code = run(spec["command"], environment, "/")
        finish(record, spec["host"], code)
    except BaseException:  # noqa: BLE001 -- printed; a forked child must not return into its parent's frames
        sys.excepthook(*sys.exc_info())
    os._exit(code)  # the kernel kills the other processes of this pid namespace


def bound_processes(most: int) -> None:
    """Limit the processes of these namespaces in the kernel, a little above the limit that the supervisor enforces.

    `RLIMIT_NPROC` counts the processes of a user namespace since Linux 5.14. It does not apply to the machine's root.
    """
    most += _ABOVE
    _, hard = resource.getrlimit(resource.RLIMIT_NPROC)
    nproc = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(resource.RLIMIT_NPROC, (nproc, nproc))
    release = os.uname().release.split("-")[0].split(".")[:2]
    # In older versions the file belongs to the whole machine, and root may write it from inside a namespace.
    if [int(part) for part in release] >= _PID_MAX_OF_A_NAMESPACE:
        with contextlib.suppress(OSError), open("/proc/sys/kernel/pid_max", "w") as file:  # /proc/sys may be read-only
            file.write(str(most + _RESERVED_PIDS))


def run(command: list[str], environment: dict[str, str], directory: str) -> int:
    """Run the container's command, forward signals to it, and reap all children; return the command's exit code."""
    child = os.fork()
    if child == 0:
        _become(command, environment, directory)
    while True:
        number = signal.sigwait(WAITED_FOR)
        if number != signal.SIGCHLD:
            os.kill(child, number)
            continue
        for pid, status in _reaped():
            if pid == child:
                code = os.waitstatus_to_exitcode(status)
                return code if code >= 0 else 128 - code


def _reaped() -> Iterator[tuple[int, int]]:
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return
        yield pid, status


def _become(command: list[str], environment: dict[str, str], directory: str) -> NoReturn:
    try:
        for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
            if signal.getsignal(number) in (signal.SIG_IGN, signal.default_int_handler):
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        os.chdir(directory)
        os.umask(0o022)  # as in a container; the inherited umask is stricter
        os.execvpe(command[0], command, environment)  # noqa: S606 -- the job's own command, without a shell
    except OSError as error:
        os.write(2, f"local_sagemaker: cannot run {command[0]!r}: {error.strerror}\n".encode())
        os._exit(127 if error.errno == errno.ENOENT else 126)


def finish(record: Record, host: str, code: int) -> None:
    """Record the exit code and the end time; log a line if the host failed."""
    if code:
        say(f"{host} exited with code {code}")
    record.write("exit.json", {"code": code, "ended": time.time()})


def say(text: str) -> None:
    """Write a message of the local SageMaker to the host's output, on a line of its own."""
    size = os.fstat(1).st_size
    start = "\n" if size and os.pread(1, 1, size - 1) != b"\n" else ""
    os.write(1, f"{start}local_sagemaker: {text}\n".encode())


def run_in_directory(spec: dict[str, Any], record: Record, why: str) -> NoReturn:
    """Run the host without namespaces; the container paths lie below `LOCAL_SAGEMAKER_ROOT`."""
    root = spec["root"]
    say(f"{why}; the paths of this job lie under LOCAL_SAGEMAKER_ROOT={root}")
    record.write("host.json", {"pid": os.getpid(), "isolation": "directory"})
    environment = make_environment(spec["layer"], spec["environment"])
    if spec["command"][0] == _TOOLKIT:
        say("AWS's training toolkit needs namespaces: it waits until the name of its host resolves")
        code = 1
    else:
        code = run(spec["command"], {**environment, "LOCAL_SAGEMAKER_ROOT": root}, root)
    finish(record, spec["host"], code)
    end_descendants()
    os.killpg(0, signal.SIGKILL)  # this process leads the group, so this kills it too
    os._exit(code)


def end_descendants() -> None:
    """Kill the processes that the command left behind; as the subreaper this process is their parent (Linux only)."""
    while left := [pid for pid, parent in _processes() if parent == os.getpid()]:
        for pid in left:
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, 0)


def _processes() -> Iterator[tuple[int, int]]:
    for name in os.listdir("/proc") if os.path.isdir("/proc") else ():
        if name.isdigit():
            try:
                with open(f"/proc/{name}/stat") as file:
                    yield int(name), int(file.read().rpartition(")")[2].split()[1])
            except (FileNotFoundError, ProcessLookupError):  # the process ended meanwhile
                continue


def main() -> None:
    """Run one host. The only argument is the path of its `spec.json`."""
    # Block the signals first: a stop that arrives while the root is being made then waits until the command runs.
    signal.pthread_sigmask(signal.SIG_BLOCK, WAITED_FOR)
    with open(sys.argv[1]) as file:
        spec = json.load(file)
    record = Record(os.path.dirname(sys.argv[1]))
    os.set_inheritable(spec["lock"], False)
    if sys.platform == "linux":
        libc_call("prctl", PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
    why = "namespaces are switched off by settings.json"
    if spec["isolation"] == "auto":
        try:
            first = try_namespaces(spec, record)
        except OSError as error:
            why = f"namespaces cannot be made here ({error})"
        else:
            os.close(spec["lock"])  # the host's first process holds the lock now: a free lock means the host is gone
            while os.waitpid(-1, 0)[0] != first:
                pass
            return
    run_in_directory(spec, record, why)


if __name__ == "__main__":
    main()
