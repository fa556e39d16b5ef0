"""Uploads all outputs of a job: mirrors while it runs, archives and directories at its end.

The runtime spec says which directory goes to which location; `outputs` uploads the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from local_sagemaker.runtime.mirror import Mirror
from local_sagemaker.runtime.outputs import directory_inside, files, put_archive, put_tree
from local_sagemaker.runtime.runtime_spec import MODEL, OUTPUT_DATA
from local_sagemaker.runtime.workspace import read_json, write_json

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from local_sagemaker.runtime.host import Host
    from local_sagemaker.runtime.role_store import RoleStore
    from local_sagemaker.runtime.runtime_spec import Archives, Output, RuntimeSpec


class JobUploads:
    """Uploads the outputs of one job.

    Args:
        store: the object store, accessed with the job's role.
        plan: the job's runtime spec.
        hosts: the job's hosts.
    """

    def __init__(self, store: RoleStore, plan: RuntimeSpec, hosts: Sequence[Host]) -> None:
        self._store = store
        self._plan = plan
        self._hosts = hosts

    def remember(self) -> None:
        """Record the files in mirrored directories before the command starts, because S3 has them already."""
        for host in self._hosts:
            known = {one.path: _signatures(host, one) for one in self._mirrored()}
            write_json(host.directory / "known.json", known)

    def mirrors(self) -> list[Mirror]:
        """Return a mirror for each host and each continuous output or checkpoint directory."""
        return [self._mirror(host, one) for host in self._hosts for one in self._mirrored()]

    def sync(self) -> None:
        """Upload all changed files in mirrored directories, after the hosts have ended."""
        for mirror in self.mirrors():
            mirror.sync(final=True)

    def send_all(self, *, completed: bool) -> None:
        """Upload all outputs.

        Args:
            completed: whether the job completed. Otherwise outputs in the mode EndOfJob ("after the job completes": API
                reference, `ProcessingS3Output`) are not uploaded.
        """
        self.sync()
        if self._plan.archives is not None:
            self._send_archives(self._plan.archives)
        for one in self._plan.outputs if completed else ():
            for directory in _directories(self._hosts, one.path) if not one.continuous else ():
                put_tree(self._store, directory, one.target)

    def _send_archives(self, archives: Archives) -> None:
        # The models of all hosts are merged. Of the output data only the first host's is uploaded.
        for path, hosts, target in (
            (MODEL, self._hosts, archives.model),
            (OUTPUT_DATA, self._hosts[:1], archives.output),
        ):
            directories = _directories(hosts, path)
            if archives.compressed:
                put_archive(self._store, directories, target)
                continue
            for directory in directories:
                put_tree(self._store, directory, target)

    def _mirrored(self) -> list[Output]:
        return [one for one in self._plan.outputs if one.continuous]

    def _mirror(self, host: Host, output: Output) -> Mirror:
        kept = read_json(host.directory / "known.json")[output.path]
        known = {name: (mtime, size, inode) for name, (mtime, size, inode) in kept.items()}
        return Mirror(
            self._store, lambda: directory_inside(host.files, output.path), output.target, known, tell=host.say
        )


def _signatures(host: Host, output: Output) -> dict[str, Any]:
    return {name: signature for name, _, signature in files(host.path(output.path))}


def _directories(hosts: Sequence[Host], path: str) -> list[Path]:
    found = [directory_inside(host.files, path) for host in hosts]
    return [directory for directory in found if directory is not None]
