"""How inputs reach the hosts: prefixes, manifests, shards, and invalid inputs."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from runtime_laboratory import BUCKET, channel, laboratory, one_laboratory, processing_input

from local_sagemaker.runtime.inputs import local_name, share

pytestmark = pytest.mark.sampled(8, group="all")

__all__ = ["laboratory", "one_laboratory"]

LIST = 'cd "$R/opt/ml/input/data/train" && find . -type f | sort'


def test_a_fully_replicated_channel_is_the_same_on_all_hosts(laboratory):
    """A fully replicated channel has every object with its content on each of two hosts."""
    for number in range(3):
        laboratory.put(f"data/deep/{number}", str(number).encode())
    laboratory.train(LIST + "; cat deep/*", hosts=2, InputDataConfig=[channel("train", f"s3://{BUCKET}/data/")])

    for host in ("algo-1", "algo-2"):
        assert laboratory.lines(host) == ["./deep/0", "./deep/1", "./deep/2", "012"]


def test_a_sharded_channel_goes_round_over_sorted_keys(laboratory):
    """Object i of the sorted keys goes to host i mod 3; a folder's marker object does not count."""
    for name in ("b", "a/z", "é", "a", "Z"):
        laboratory.put(f"data/{name}")
    laboratory.put("data/folder/", b"")
    laboratory.store.delete(BUCKET, "data/a")
    job = laboratory.train(
        LIST,
        hosts=3,
        InputDataConfig=[channel("train", f"s3://{BUCKET}/data/", S3DataDistributionType="ShardedByS3Key")],
    )

    assert job.status == "Completed"
    assert [laboratory.lines(f"algo-{number}") for number in (1, 2, 3)] == [["./Z", "./é"], ["./a/z"], ["./b"]]


def test_an_idle_host_gets_an_empty_directory(one_laboratory):
    """If two sharded hosts have one object, the second has an empty directory."""
    one_laboratory.put("data/only")
    one_laboratory.train(
        LIST + "; echo end",
        hosts=2,
        InputDataConfig=[channel("train", f"s3://{BUCKET}/data/", S3DataDistributionType="ShardedByS3Key")],
    )

    assert [one_laboratory.lines(f"algo-{number}") for number in (1, 2)] == [["./only", "end"], ["end"]]


@given(count=st.integers(1, 7), keys=st.lists(st.text(min_size=1), unique=True))
def test_shards_are_a_partition(count, keys):
    """Every object is on exactly one host, and the numbers of objects per host differ by at most one."""
    shards = [share(keys, index, count) for index in range(count)]

    assert sorted(keys) == sorted(key for shard in shards for key in shard)
    assert max(map(len, shards)) - min(map(len, shards)) <= 1
    assert all(shards[index % count][index // count] == key for index, key in enumerate(keys))


def test_a_prefix_without_slash_also_brings_its_siblings(one_laboratory):
    """`data` also matches `data2/x`, named from the prefix's last slash; `data/a` is named below `data/`."""
    for key in ("p/data/a", "p/data2/x", "p/data-1.csv", "p/dat"):
        one_laboratory.put(key)
    one_laboratory.train(LIST, InputDataConfig=[channel("train", f"s3://{BUCKET}/p/data")])

    assert one_laboratory.lines() == ["./a", "./data-1.csv", "./data2/x"]


@pytest.mark.parametrize(
    ("key", "prefix", "name"),
    [
        ("a/b/c.csv", "a/b/", "c.csv"),
        ("a/b/c.csv", "a/b", "c.csv"),
        ("a/b/c.csv", "a/b/c.csv", "c.csv"),
        ("a/b/train-1.csv", "a/b/train", "train-1.csv"),
        ("data2/x", "data", "data2/x"),
        ("a/b", "", "a/b"),
    ],
)
def test_names_below_a_prefix(key, prefix, name):
    """Names below a prefix are as observed on AWS."""
    assert name == local_name(key, prefix)


def test_a_manifest_lists_objects_of_its_own(one_laboratory):
    """Files of a manifest have the names of its entries, below its prefix."""
    one_laboratory.put("far/x/1", b"one")
    one_laboratory.put("far/x/2", b"two")
    one_laboratory.put("far/y", b"y")
    one_laboratory.put("m.json", json.dumps([{"prefix": f"s3://{BUCKET}/far/"}, "x/1", "y"]).encode())
    one_laboratory.train(LIST, InputDataConfig=[channel("train", f"s3://{BUCKET}/m.json", S3DataType="ManifestFile")])

    assert one_laboratory.lines() == ["./x/1", "./y"]


def test_a_channel_may_be_for_one_instance_group(one_laboratory):
    """In a heterogeneous cluster, a channel for one instance group has no objects in the other."""
    one_laboratory.put("data/a")
    groups = [
        {"InstanceGroupName": "cpu", "InstanceType": "ml.c5.large", "InstanceCount": 1},
        {"InstanceGroupName": "gpu", "InstanceType": "ml.p3.2xlarge", "InstanceCount": 1},
    ]
    one_laboratory.train(
        LIST + "; grep -o 'ml.p3.2xlarge' $R/opt/ml/input/config/resourceconfig.json | wc -l",
        ResourceConfig={"InstanceGroups": groups, "VolumeSizeInGB": 1},
        InputDataConfig=[channel("train", f"s3://{BUCKET}/data/", InstanceGroupNames=["gpu"])],
    )

    assert [one_laboratory.lines(f"algo-{number}") for number in (1, 2)] == [["1"], ["./a", "2"]]


def test_a_processing_input_lies_at_its_local_path(laboratory):
    """A single object and a sharded folder are each at the local path of their input."""
    laboratory.put("one/file.csv", b"content")
    laboratory.put("many/a")
    laboratory.put("many/b")
    laboratory.process(
        "cat $R/opt/ml/processing/input/one/file.csv; echo; ls $R/data/many",
        hosts=2,
        ProcessingInputs=[
            processing_input("one", f"s3://{BUCKET}/one/file.csv", "/opt/ml/processing/input/one"),
            processing_input("many", f"s3://{BUCKET}/many/", "/data/many", S3DataDistributionType="ShardedByS3Key"),
        ],
    )

    assert laboratory.lines(group="ProcessingJobs") == ["content", "a"]
    assert laboratory.lines("algo-2", group="ProcessingJobs") == ["content", "b"]


@pytest.mark.parametrize("bucket", [BUCKET, "no-such-bucket"])
@pytest.mark.parametrize("kind", ["training-job", "processing-job"])
def test_a_prefix_without_objects_fails_the_job_in_awss_words(one_laboratory, kind, bucket):
    """A prefix without objects fails the job with AWS's message, the URL and the role; nothing runs."""
    uri = f"s3://{bucket}/nothing/"
    if kind == "training-job":
        job = one_laboratory.train("echo ran", InputDataConfig=[channel("train", uri)])
    else:
        job = one_laboratory.process(
            "echo ran", ProcessingInputs=[processing_input("train", uri, "/opt/ml/processing/x")]
        )

    assert job.status == "Failed"
    assert job.fields["FailureReason"].startswith(
        f'ClientError: Data download failed: No S3 objects found under S3 URL "{uri}" given in input data source.'
    )
    assert "arn:aws:iam::123456789012:role/role" in job.fields["FailureReason"]
    assert not (one_laboratory.home / "logs").exists()


@pytest.mark.parametrize("keys", [("data/a", "data/a/b"), ("data/../../../escape",), ("data//../x",)])
def test_keys_that_cannot_be_files_fail_the_job(one_laboratory, keys):
    """A key that is both file and folder, or that leaves its directory, fails the job and writes nothing outside it."""
    for key in keys:
        one_laboratory.put(key)
    job = one_laboratory.train("true", InputDataConfig=[channel("train", f"s3://{BUCKET}/data/")])

    assert job.status == "Failed"
    assert job.fields["FailureReason"].startswith("ClientError: Data download failed: ")
    assert not list(one_laboratory.home.glob("**/escape"))


@pytest.mark.parametrize("content", [b"{}", b"[]", b"not json", b'["x"]', b'[{"prefix": "http://x"}, "y"]'])
def test_a_broken_manifest_fails_the_job(one_laboratory, content):
    """A broken manifest fails the job with a ClientError, because the user can fix it."""
    one_laboratory.put("m.json", content)
    job = one_laboratory.train(
        "true", InputDataConfig=[channel("train", f"s3://{BUCKET}/m.json", S3DataType="ManifestFile")]
    )

    assert job.status == "Failed"
    assert job.fields["FailureReason"].startswith("ClientError: ")


@pytest.mark.parametrize("source", [{"FileSystemDataSource": {}}, None])
def test_sources_that_this_machine_has_not_fail_the_job(one_laboratory, source):
    """Pipe mode and file systems fail the job with the channel's name, instead of giving an empty directory."""
    one_laboratory.put("data/a")
    given = channel("train", f"s3://{BUCKET}/data/") | ({"DataSource": source} if source else {"InputMode": "Pipe"})
    job = one_laboratory.train("true", InputDataConfig=[given])

    assert job.status == "Failed"
    assert "input train" in job.fields["FailureReason"]
