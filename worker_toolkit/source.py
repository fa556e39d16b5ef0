"""The code and the inputs of a job on disk: archives are unpacked, and the toolkit is copied beside the code."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Iterable, Mapping

from .archive import unpack, unpack_in_place
from .contract import SOURCE_ARCHIVE, TOOLKIT_ARCHIVE
from .errors import BootstrapError
from .paths import Layout

_TARBALLS = (".tar.gz", ".tgz", ".tar")
_TOOLKIT = "worker_toolkit"


def install_source(layout: Layout) -> Path:
    """Unpack the user's code, copy the toolkit beside it unless the code has one, and return the directory.

    Raises:
        BootstrapError: The code is missing, or is not a valid archive.
    """
    source, code = Path(layout.source), Path(layout.code)
    archive = source / SOURCE_ARCHIVE
    if not archive.is_file():
        raise BootstrapError(
            f"{archive} is missing: the job has no code. Upload the task's bundle again, then re-run it."
        )
    unpack(archive, code)
    if not (code / _TOOLKIT).exists() and not (code / f"{_TOOLKIT}.py").exists():
        _copy_toolkit(source / TOOLKIT_ARCHIVE, code)
    return code


def extract_channels(channels: Mapping[str, str], wanted: Mapping[str, str]) -> dict[str, str]:
    """Unpack the tarballs of some channels in place.

    Args:
        channels: Directory of each channel.
        wanted: Channels to unpack. The value is the directory inside that becomes the channel, or empty for all of it.

    Returns:
        The directory of each channel, after unpacking.

    Raises:
        BootstrapError: There is no such channel or directory, or an archive is not valid.
    """
    unknown = sorted(wanted.keys() - channels.keys())
    if unknown:
        raise BootstrapError(f"The job has no channel {unknown[0]!r} to extract; it has: {_listing(channels)}.")
    return {**channels, **{name: _extract_channel(Path(channels[name]), subdir) for name, subdir in wanted.items()}}


def _extract_channel(channel: Path, subdir: str) -> str:
    archives = [path for path in sorted(channel.glob("*")) if path.name.endswith(_TARBALLS)]
    for archive in archives:
        unpack_in_place(archive)
    chosen = channel / subdir
    if not archives:
        chosen.mkdir(parents=True, exist_ok=True)  # a host that got no share of a sharded input has an empty channel
    if not chosen.is_dir():
        names = _listing(path.name for path in channel.iterdir())
        raise BootstrapError(
            f"Channel {channel.name!r} has no directory {subdir!r} after unpacking; it holds: {names}."
        )
    return str(chosen)


def _copy_toolkit(package: Path, code: Path) -> None:
    with zipfile.ZipFile(package) as zipped:
        for name in zipped.namelist():
            if name.startswith(f"{_TOOLKIT}/"):
                target = code / name
                target.parent.mkdir(parents=True, exist_ok=True)
                target.write_bytes(zipped.read(name))


def _listing(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "nothing"
