"""What a job stores in S3: model, output, checkpoints and processing outputs."""

import gzip
import tarfile

import pytest
from runtime_laboratory import BUCKET, laboratory, one_laboratory, processing_outputs
from waiting import wait_until

pytestmark = pytest.mark.sampled(9, group="all")

__all__ = ["laboratory", "one_laboratory"]

CHECKPOINTS = {"S3Uri": f"s3://{BUCKET}/ck/", "LocalPath": "/state"}


def test_the_models_of_all_hosts_are_merged_and_the_output_is_the_main_hosts(laboratory):
    """`model.tar.gz` has the files of every host, and `output.tar.gz` only those of algo-1."""
    job = laboratory.train(
        "h=$(grep -o 'current_host.: .algo-.' $R/opt/ml/input/config/resourceconfig.json | tail -c 7);"
        " mkdir $R/opt/ml/model/d; echo $h > $R/opt/ml/model/d/$h; echo $h > $R/opt/ml/output/data/$h;"
        " echo $h > $R/opt/ml/model/same",
        hosts=2,
    )

    assert job.status == "Completed"
    assert f"s3://{BUCKET}/out/job/output/model.tar.gz" == job.fields["ModelArtifacts"]["S3ModelArtifacts"]
    assert laboratory.archive("out/job/output/model.tar.gz") == {
        "d/algo-1": b"algo-1\n",
        "d/algo-2": b"algo-2\n",
        "same": b"algo-1\n",
    }
    assert laboratory.archive("out/job/output/output.tar.gz") == {"algo-1": b"algo-1\n"}


def test_modes_and_empty_directories_survive_in_the_model(one_laboratory):
    """The model's archive keeps file modes and empty directories, as `tar` does."""
    one_laboratory.train("cd $R/opt/ml/model; mkdir empty; touch run; chmod 750 run")
    with tarfile.open(
        fileobj=gzip.open(one_laboratory.store.get(BUCKET, "out/job/output/model.tar.gz").path)
    ) as archive:
        members = {member.name: member for member in archive}

    assert members["empty"].isdir()
    assert members["run"].mode == 0o750


def test_nothing_written_means_no_archive_but_a_named_artifact(one_laboratory):
    """Without files, no archive is written, but the artifact is named, as on AWS."""
    job = one_laboratory.train("true")

    assert one_laboratory.keys() == []
    assert f"s3://{BUCKET}/out/job/output/model.tar.gz" == job.fields["ModelArtifacts"]["S3ModelArtifacts"]


def test_without_compression_plain_files_are_written(one_laboratory):
    """With `CompressionType` NONE, plain files are written below `output/model/` and `output/data/`."""
    job = one_laboratory.train(
        "echo m > $R/opt/ml/model/m; mkdir $R/opt/ml/output/data/d; echo o > $R/opt/ml/output/data/d/o",
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out/", "CompressionType": "NONE"},
    )

    assert one_laboratory.keys() == ["out/job/output/data/d/o", "out/job/output/model/m"]
    assert f"s3://{BUCKET}/out/job/output/model/" == job.fields["ModelArtifacts"]["S3ModelArtifacts"]


@pytest.mark.parametrize("compression", ["GZIP", "NONE"])
def test_links_out_of_the_model_are_never_followed(laboratory, compression, tmp_path):
    """A link to a file of this machine is stored as a link or left out; the file's content is never uploaded."""
    (tmp_path / "secret").write_text("content of the secret")
    laboratory.train(
        f"cd $R/opt/ml/model; ln -s {tmp_path}/secret link; ln -s {tmp_path} folder; echo x > real; ln -s real inner;"
        " mkfifo pipe",
        OutputDataConfig={"S3OutputPath": f"s3://{BUCKET}/out", "CompressionType": compression},
    )

    if compression == "GZIP":
        assert {"folder": str(tmp_path), "inner": "real", "link": f"{tmp_path}/secret", "real": b"x\n"} == (
            laboratory.archive("out/job/output/model.tar.gz")
        )
    else:
        assert laboratory.keys() == ["out/job/output/model/inner", "out/job/output/model/real"]


@pytest.mark.parametrize("path", ["/opt/ml/model", "/opt/ml/output/data", "/opt/ml/output"])
def test_a_directory_of_the_contract_turned_into_a_link_is_not_followed(laboratory, path, tmp_path):
    """If a job replaces a directory of the contract by a link, nothing behind the link is uploaded or reported."""
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "secret").write_text("content of the secret")
    (tmp_path / "failure").write_text("content of the secret")
    job = laboratory.train(f"rm -r $R{path}; ln -s {tmp_path} $R{path}; exit 1")

    assert laboratory.keys() == []
    assert "secret" not in job.fields["FailureReason"]


def test_checkpoints_are_restored_on_every_host_and_saved_while_the_job_runs(laboratory):
    """Checkpoints are restored on both hosts; new files are uploaded while the job runs, unchanged ones are not."""
    laboratory.put("ck/old", b"old")
    laboratory.put("ck/deep/er", b"deep")
    laboratory.train(
        "cat $R/state/old $R/state/deep/er; echo; h=$(mktemp -u $R/state/XXXXXX); echo new > $h;"
        " while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done; echo late > $R/state/late",
        hosts=2,
        wait=False,
        CheckpointConfig=CHECKPOINTS,
    )
    wait_until(lambda: len(laboratory.keys("ck/")) == 4, "two new checkpoints in S3")
    old = laboratory.store.get(BUCKET, "ck/old").last_modified
    for host in ("algo-1", "algo-2"):
        (laboratory.directory() / "hosts" / host / "files/opt/ml/go").touch()
    job = laboratory.end_of()

    assert job.status == "Completed"
    assert ["olddeep"] == laboratory.lines() == laboratory.lines("algo-2")
    assert laboratory.body("ck/late") == b"late\n"
    assert old == laboratory.store.get(BUCKET, "ck/old").last_modified


def test_a_checkpoint_that_never_stands_still_is_seen_too(one_laboratory):
    """A checkpoint that grows all the time, such as TensorBoard's log, is uploaded while the job runs."""
    one_laboratory.train(
        "while [ ! -e $R/opt/ml/go ]; do echo line >> $R/state/log; sleep 0.05; done",
        wait=False,
        CheckpointConfig=CHECKPOINTS,
    )
    wait_until(lambda: one_laboratory.keys("ck/"), "the growing file in S3")
    (one_laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()

    assert one_laboratory.end_of().status == "Completed"
    assert one_laboratory.body("ck/log").startswith(b"line\nline\n")


@pytest.mark.parametrize("name", [r"\377\376", "/".join(letter * 250 for letter in "abcde")], ids=["bytes", "long"])
def test_a_checkpoint_whose_name_s3_cannot_have_is_named_and_left(one_laboratory, name):
    """A checkpoint whose name cannot be a key is skipped and logged once; the others are uploaded."""
    one_laboratory.train(
        f'cd $R/state; printf "{name}" > ../name; mkdir -p "$(dirname "$(cat ../name)")"; echo bad > "$(cat ../name)";'
        "echo good > a; while [ ! -e $R/opt/ml/go ]; do sleep 0.05; done; echo late > z",
        wait=False,
        CheckpointConfig=CHECKPOINTS,
    )

    def told():
        (stream,) = one_laboratory.home.glob("logs/*/job/*")
        return [line for line in stream.read_text().splitlines() if "stays behind" in line]

    wait_until(lambda: one_laboratory.keys("ck/") == ["ck/a"], "the other checkpoint")
    wait_until(told, "the line that names it")
    (one_laboratory.directory() / "hosts/algo-1/files/opt/ml/go").touch()

    assert one_laboratory.end_of().status == "Completed"
    assert one_laboratory.keys("ck/") == ["ck/a", "ck/z"]
    assert len(told()) == 1


def test_a_checkpoint_uri_without_slash_restores_siblings_and_saves_into_its_folder(one_laboratory):
    """As on AWS, the checkpoint prefix `ck` also restores `ck-1`, and new files go below `ck/`."""
    one_laboratory.put("ck/a")
    one_laboratory.put("ck-1/b")
    one_laboratory.train(
        "cd $R/opt/ml/checkpoints; find . -type f | sort; touch new", CheckpointConfig={"S3Uri": f"s3://{BUCKET}/ck"}
    )

    assert one_laboratory.lines() == ["./a", "./ck-1/b"]
    assert one_laboratory.keys("ck") == ["ck-1/b", "ck/a", "ck/new"]


def test_what_a_failed_training_job_had_is_saved(laboratory):
    """Model, output and checkpoints of a failed job are in S3, because the user needs them then."""
    job = laboratory.train(
        "echo m > $R/opt/ml/model/m; echo o > $R/opt/ml/output/data/o; echo c > $R/state/c; exit 1",
        CheckpointConfig=CHECKPOINTS,
    )

    assert job.status == "Failed"
    assert laboratory.keys() == ["ck/c", "out/job/output/model.tar.gz", "out/job/output/output.tar.gz"]


def test_processing_outputs_of_all_hosts_are_merged(laboratory):
    """Processing outputs of both hosts are merged below one prefix, even if its URI has no final slash."""
    path = "/opt/ml/processing/output"
    job = laboratory.process(
        "h=$(grep -o 'current_host.: .algo-.' $R/opt/ml/config/resourceconfig.json | tail -c 7);"
        " mkdir $R/opt/ml/processing/output/d; echo $h > $R/opt/ml/processing/output/d/$h",
        hosts=2,
        ProcessingOutputConfig=processing_outputs((f"s3://{BUCKET}/o", path, "EndOfJob")),
    )

    assert job.status == "Completed"
    assert laboratory.keys("o/") == ["o/d/algo-1", "o/d/algo-2"]


def test_a_continuous_output_is_seen_while_the_job_runs_and_end_of_job_is_not(laboratory):
    """A continuous output is uploaded while the job runs; if the job fails, an EndOfJob output is not uploaded."""
    laboratory.process(
        "echo 1 > $R/c/one; echo 1 > $R/e/one; while [ ! -e $R/opt/ml/go ]; do sleep 0.02; done;"
        " echo 2 > $R/c/two; exit 1",
        wait=False,
        ProcessingOutputConfig=processing_outputs(
            (f"s3://{BUCKET}/continuous/", "/c", "Continuous"), (f"s3://{BUCKET}/end/", "/e", "EndOfJob")
        ),
    )
    wait_until(lambda: laboratory.keys("continuous/"), "the continuous output")
    assert laboratory.keys("end/") == []
    (laboratory.directory(kind="processing-job") / "hosts/algo-1/files/opt/ml/go").touch()
    job = laboratory.end_of("processing-job")

    assert job.status == "Failed"
    assert laboratory.keys() == ["continuous/one", "continuous/two"]


def test_an_app_managed_output_is_left_alone(one_laboratory):
    """An `AppManaged` output is left to the application: it has neither a directory nor an upload."""
    outputs = processing_outputs((f"s3://{BUCKET}/o/", "/o", "EndOfJob"), (f"s3://{BUCKET}/p/", "/p", "EndOfJob"))
    outputs["Outputs"][1]["AppManaged"] = True
    one_laboratory.process("echo 1 > $R/o/one; [ ! -e $R/p ]", ProcessingOutputConfig=outputs)

    assert one_laboratory.keys() == ["o/one"]


def test_an_output_bucket_that_is_missing_fails_the_job(one_laboratory):
    """If the output bucket is missing, the job fails with the reason, because its artifact cannot be stored."""
    job = one_laboratory.train(
        "echo m > $R/opt/ml/model/m", OutputDataConfig={"S3OutputPath": "s3://no-such-bucket/out"}
    )

    assert job.status == "Failed"
    assert job.fields["FailureReason"].startswith("ClientError: Artifact upload failed: ")


def test_a_file_name_that_can_be_no_key_fails_the_job(one_laboratory):
    """A file name that is not UTF-8 cannot be a key, so it fails the job instead of losing the file."""
    job = one_laboratory.process(
        "touch \"$R/o/$(printf 'a\\377b')\"",
        ProcessingOutputConfig=processing_outputs((f"s3://{BUCKET}/o/", "/o", "EndOfJob")),
    )

    assert job.status == "Failed"
    assert job.fields["FailureReason"].startswith("ClientError: Artifact upload failed: ")


def test_directories_that_the_job_closed_are_removed_with_the_rest(one_laboratory):
    """The workspace is emptied even if the job has removed its own permissions on directories."""
    job = one_laboratory.train("mkdir -p $R/opt/ml/x/y; touch $R/opt/ml/x/y/z; chmod 0 $R/opt/ml/x/y $R/opt/ml/x")

    assert job.status == "Completed"
    assert not (one_laboratory.directory() / "hosts").exists()
