"""Uploads what a job needs before it is created: code, local inputs, and listings that explain a later change.

Each goes to a prefix or key that is named by its content, so a repeated upload is harmless and mostly free.
"""

from __future__ import annotations

from collections.abc import Callable

from tasks_lib.aws.objects import Objects
from tasks_lib.aws.sync import upload
from tasks_lib.jobs.manifest import Manifest
from tasks_lib.jobs.s3_layout import Location
from tasks_lib.ledger.records import Ledger, Record
from tasks_lib.staging.inputs import ResolvedInputs, Upload
from tasks_lib.staging.source import Source, toolkit
from worker_toolkit.contract import SOURCE_ARCHIVE, STARTER, TOOLKIT_ARCHIVE


class JobFiles:
    """Uploads the files of one job.

    Args:
        objects: Access to S3.
        ledger: The task's ledger, which has the listings of earlier uploads.
    """

    def __init__(self, objects: Objects, ledger: Ledger) -> None:
        self._objects, self._ledger = objects, ledger

    def send(
        self, inputs: ResolvedInputs, source: Source | None, bundle_uri: str | None, latest: Record | None
    ) -> None:
        """Upload inputs, listings and code; what exists already is not uploaded again.

        Args:
            inputs: The job's resolved inputs.
            source: Its code; None if the image runs without any.
            bundle_uri: Where the code goes; None if there is none.
            latest: The task's newest completed job, whose unchanged inputs are copied within S3; None if there is none.
        """
        for wanted in inputs.uploads:
            earlier = self._earlier(wanted, latest) if latest else None
            upload(self._objects, wanted.files, wanted.manifest, wanted.target, earlier)
        for channel in inputs.channels:
            if channel.manifest is not None:
                self._ledger.save_manifest(channel.manifest)
        if source and bundle_uri:
            self._send_code(source, Location.parse(bundle_uri))

    def _earlier(self, wanted: Upload, latest: Record) -> tuple[Location, Manifest] | None:
        """Return the prefix and the listing of a channel's previous content; None if unknown or unchanged."""
        digest = latest.ingredients.get("inputs", {}).get(wanted.channel, {}).get("digest")
        manifest = self._ledger.manifest(digest) if digest and digest != wanted.manifest.digest else None
        if manifest is None:
            return None
        return wanted.location_of(digest), manifest

    def _send_code(self, source: Source, target: Location) -> None:
        present = self._objects.listing(target).items
        files: dict[str, Callable[[], bytes]] = {
            SOURCE_ARCHIVE: source.archive,
            TOOLKIT_ARCHIVE: lambda: toolkit().package,
            STARTER: lambda: toolkit().starter,
        }
        for name in files.keys() - present.keys():
            self._objects.put(target.below(name), files[name]())
