"""Layout of a project in S3: every key, on one page.

    s3://<bucket>/<prefix>/<project>/
        _project.json                   account and region that the project belongs to
        _bundles/<digest>/              start.sh, worker_toolkit.zip, source.tar.gz
        <task>/
            input/<channel>/<digest>/   local inputs, named by their content
            state/                      shared by the task's jobs
            <job>/output/               model.tar.gz and output.tar.gz, or a processing job's files
            _ledger/
                <fingerprint>.json      attempts at one piece of work, and the record of the completed one
                latest.json             the newest completed job, for chaining by name
                lease.json              the job that writes state/
                interest/<job>/…        heartbeats of a job's waiters; below left/, of runs that left it running
                stops/<job>/…           runs that stopped the job because no other run waited for it
                manifests/<digest>.json listings of inputs, to say what changed

The key of a folder ends in `/`, since without it the prefix `data` also matches `data2`.
"""

from __future__ import annotations

from dataclasses import dataclass

BUNDLES, OUTPUT, LEFT = "_bundles", "output", "left/"

_DIGITS_OF_INPUT = 32  # 128 bits of the digest are enough for the folder of an input


@dataclass(frozen=True)
class Location:
    """A bucket, and a key or prefix in it."""

    bucket: str
    key: str

    @classmethod
    def parse(cls, uri: str) -> Location:
        """Return the location of an `s3://bucket/key` URI."""
        bucket, _, key = uri.removeprefix("s3://").partition("/")
        return Location(bucket, key)

    @property
    def uri(self) -> str:
        """The location as a URI."""
        return f"s3://{self.bucket}/{self.key}"

    def below(self, name: str) -> Location:
        """Return the location of a name in this folder."""
        return Location(self.bucket, self.key + name)


class ProjectFolder(Location):
    """The folder of a project."""

    @classmethod
    def of(cls, bucket: str, prefix: str, project: str) -> ProjectFolder:
        """Return the folder of a project below a prefix, which may be empty."""
        return cls(bucket, f"{prefix}/{project}/" if prefix else f"{project}/")

    @property
    def account_file(self) -> Location:
        """The file with the account and region that the project belongs to."""
        return self.below("_project.json")

    def bundle(self, digest: str) -> Location:
        """Return the folder of a bundle of code."""
        return self.below(f"{BUNDLES}/{digest}/")

    def task(self, name: str) -> TaskFolder:
        """Return the folder of a task."""
        return TaskFolder(self.bucket, f"{self.key}{name}/")


class TaskFolder(Location):
    """The folder of a task."""

    @property
    def state(self) -> Location:
        """The folder of the task's state."""
        return self.below("state/")

    def output(self, job: str) -> Location:
        """Return the folder of a job's outputs."""
        return self.below(f"{job}/{OUTPUT}/")

    def input(self, channel: str, digest: str) -> Location:
        """Return the folder of uploaded local data that a channel reads."""
        return self.below(f"input/{channel}/{digest[:_DIGITS_OF_INPUT]}/")

    @property
    def ledger(self) -> Location:
        """The folder of the task's ledger."""
        return self.below("_ledger/")

    def entry(self, fingerprint: str) -> Location:
        """Return the location of the ledger's entry for a fingerprint."""
        return self.ledger.below(f"{fingerprint}.json")

    @property
    def latest(self) -> Location:
        """The location of the record of the newest completed job."""
        return self.ledger.below("latest.json")

    @property
    def lease(self) -> Location:
        """The location of the lease on the state."""
        return self.ledger.below("lease.json")

    def manifest(self, digest: str) -> Location:
        """Return the location of the listing of an input."""
        return self.ledger.below(f"manifests/{digest}.json")

    def waiters(self, job: str) -> Location:
        """Return the folder with the heartbeats of the runs that wait for a job."""
        return self.ledger.below(f"interest/{job}/")

    def heartbeat(self, job: str, waiter: str) -> Location:
        """Return the location of the heartbeat of a waiter, `<flow run>/<which try of it>-<task run>`."""
        return self.waiters(job).below(waiter)

    def left(self, job: str, waiter: str = "") -> Location:
        """Return the location of the mark of a flow run that left a job running; without a waiter, of all of them."""
        return self.waiters(job).below(f"{LEFT}{waiter.partition('/')[0]}")

    def stops(self, job: str) -> Location:
        """Return the folder with a marker of each run that stopped a job."""
        return self.ledger.below(f"stops/{job}/")

    def stop(self, job: str, waiter: str) -> Location:
        """Return the location of the marker of a waiter that stopped a job."""
        return self.stops(job).below(waiter.replace("/", "-"))
