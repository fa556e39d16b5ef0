"""The keys of all objects in S3, listed once more, because a changed key would lose users' data."""

from tasks_lib.jobs.s3_layout import Location, ProjectFolder

PROJECT = ProjectFolder.of("bucket", "team/ml", "churn")
TASK = PROJECT.task("fit-C0.1")


def test_every_key():
    """The keys are exactly these; a change needs a migration of objects under the old keys."""
    keys = [
        PROJECT, PROJECT.account_file, PROJECT.bundle("b" * 64), TASK, TASK.state, TASK.output("job-1"),
        TASK.input("train", "0123456789abcdef" * 4), TASK.ledger, TASK.entry("f" * 64), TASK.latest, TASK.lease,
        TASK.manifest("d" * 64), TASK.waiters("job-1"), TASK.stops("job-1"),
    ]  # fmt: skip

    assert [each.key.replace("team/ml/churn/", "", 1) for each in keys] == [
        "",
        "_project.json",
        f"_bundles/{'b' * 64}/",
        "fit-C0.1/",
        "fit-C0.1/state/",
        "fit-C0.1/job-1/output/",
        "fit-C0.1/input/train/0123456789abcdef0123456789abcdef/",
        "fit-C0.1/_ledger/",
        f"fit-C0.1/_ledger/{'f' * 64}.json",
        "fit-C0.1/_ledger/latest.json",
        "fit-C0.1/_ledger/lease.json",
        f"fit-C0.1/_ledger/manifests/{'d' * 64}.json",
        "fit-C0.1/_ledger/interest/job-1/",
        "fit-C0.1/_ledger/stops/job-1/",
    ]


def test_the_folder_is_that_of_the_block(block):
    """The block's `uri` and the layout give the same folder, with and without a prefix."""
    for given in ("", "team", "team/ml"):
        project = block.model_copy(update={"prefix": given})

        assert ProjectFolder.of(project.bucket, project.prefix, project.project).uri == project.uri


def test_a_location_is_its_uri():
    """A location and its URI can be converted in both directions, and `below` appends to the key."""
    assert Location.parse("s3://bucket/a/b") == Location("bucket", "a/b")
    assert Location.parse("s3://bucket/a/").below("b").uri == "s3://bucket/a/b"
