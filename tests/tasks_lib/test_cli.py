"""The command line `ssm`: it starts fast, overwrites nothing, and makes valid files. See `tests/repository`, too."""

import ast
import json
import re
import runpy
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

import pytest
import yaml
from aws_doubles import make_block
from hypothesis import given
from hypothesis import strategies as st
from packaging.requirements import Requirement
from prefect.settings import PREFECT_API_URL, temporary_settings

import tasks_lib
from blocks import SageMakerProject
from tasks_lib.aws.policies import caller_policy
from tasks_lib.cli import main
from tasks_lib.cli.policy import as_json, documents
from tasks_lib.cli.repository import contents, requirement, write

HEAVY = {"prefect", "prefect_aws", "boto3", "botocore", "pydantic", "sagemaker"}
ON_AWS = ("--bucket", "my-bucket", "--region", "eu-central-1")
NAMES = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._\-]{0,62}", fullmatch=True)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=60,
)


@pytest.fixture(autouse=True)
def no_server(monkeypatch):
    """Hide the user's Prefect server and AWS configuration."""
    for name in ("AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    with temporary_settings({PREFECT_API_URL: None}):
        yield


def below(folder):
    """Return all paths below a folder, with the content of files."""
    return {path.relative_to(folder).as_posix(): path.is_file() and path.read_bytes() for path in folder.rglob("*")}


def imported_by(code):
    """Return the modules that a new Python has imported after some code."""
    program = f"import sys\ntry:\n    {code}\nexcept SystemExit:\n    pass\nprint(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in done.stderr.split()}


# -- the package ---------------------------------------------------------------------------------------------------


@pytest.mark.processes
@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["init", "--help"],
        ["policy", "--help"],
        ["quotas", "--help"],
        ["schedules", "--help"],
        ["--version"],
        [],
    ],
)
def test_help_is_light(arguments):
    """Help does not import Prefect, AWS's SDKs or pydantic, and so takes 0.03 s instead of 2 s."""
    assert not HEAVY & imported_by(f"from tasks_lib.cli import main; main({arguments})")


@pytest.mark.parametrize("module", ["tasks_lib", "local_sagemaker"])
@pytest.mark.processes
def test_the_version(module):
    """`--version` prints the installed version, for use in bug reports."""
    done = subprocess.run([sys.executable, "-m", module, "--version"], capture_output=True, text=True, check=True)

    assert done.stdout == f"prefect-sagemaker {version('prefect-sagemaker')}\n"


def test_the_public_names():
    """The public names are exactly these, because removing one breaks users."""
    assert tasks_lib.__all__ == [
        "Channel",
        "Explanation",
        "FileOutput",
        "JobResult",
        "Output",
        "Plan",
        "SageMakerTasks",
        "Table",
        "TaskOutput",
        "best",
        "output_of",
        "plan",
        "sagemaker_task",
        "sagemaker_tasks",
    ]


def test_each_public_name_is_what_type_checkers_see():
    """The imports for type checkers, the table for run time and the objects that it returns agree."""
    tree = ast.parse(Path(tasks_lib.__file__).read_text())
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.col_offset]
    seen = {alias.name: node.module for node in imports for alias in node.names}

    assert seen.keys() == set(tasks_lib.__all__)
    assert {name: f"tasks_lib.{module}" for name, module in tasks_lib._MODULES.items()} == seen
    assert all(getattr(tasks_lib, name).__module__ == module for name, module in seen.items())
    assert set(tasks_lib.__all__) <= set(dir(tasks_lib))


def test_an_unknown_name_is_an_error():
    """An unknown name raises `AttributeError`, as in any module."""
    with pytest.raises(AttributeError, match="no attribute 'sagemaker_taks'"):
        tasks_lib.sagemaker_taks  # noqa: B018 - the access is the test


# -- init ----------------------------------------------------------------------------------------------------------


def test_init_on_this_machine(tmp_path, capsys):
    """Without a bucket the project is local, and the output says in at most 20 lines what to do next."""
    assert main(["init", str(tmp_path / "Churn model")]) == 0
    said = capsys.readouterr().out
    project = runpy.run_path(str(tmp_path / "Churn model" / "project.py"))["project"]

    assert project.model_dump() == SageMakerProject.local("Churn-model").model_dump()
    assert "python project.py` saves it as 'churn-model'" in said
    assert "ssm policy --project Churn-model --bucket … --region …" in said
    assert "runs on after it: `python -m local_sagemaker down` ends it." in said
    assert len(said.splitlines()) <= 20
    assert said.endswith(f"Next: cd '{tmp_path}/Churn model' && python flow.py\n")


def test_init_on_aws(tmp_path, capsys):
    """With a bucket `project.py` describes a project on AWS, with a public AWS image; the printed command works."""
    assert main(["init", str(tmp_path / "churn"), *ON_AWS, "--role", "jobs", "--block", "prod"]) == 0
    said = capsys.readouterr().out
    project = runpy.run_path(str(tmp_path / "churn" / "project.py"))["project"]
    command = re.search("`ssm (policy [^`]*)`", said)[1]
    assert main(command.split()) == 0
    printed = json.loads(capsys.readouterr().out)

    assert (project.project, project.bucket, project.region, project.role) == (
        "churn",
        "my-bucket",
        "eu-central-1",
        "jobs",
    )
    assert project.image.startswith("492215442770.dkr.ecr.eu-central-1.amazonaws.com/sagemaker-scikit-learn:")
    assert '.save("prod", overwrite=True)' in (tmp_path / "churn" / "project.py").read_text()
    assert printed == documents(project)


def test_the_deployment_runs_the_flow_that_was_made(tmp_path):
    """The entry point is the module path of the new flow, which no installed package hides."""
    main(["init", str(tmp_path / "churn")])
    [deployment] = yaml.safe_load((tmp_path / "churn" / "prefect.yaml").read_text())["deployments"]
    module, _, function = deployment["entrypoint"].partition(".")
    flow = runpy.run_path(str(tmp_path / "churn" / f"{module}.py"))[function]

    assert flow.name == "churn"
    assert deployment["parameters"].keys() <= flow.parameters.properties.keys()


@given(project=NAMES)
def test_any_project_name_makes_sound_files(project):
    """For any project name the Python files compile, the YAML parses, and no placeholder of the template is left."""
    texts = contents(make_block(project=project), "some-block")

    assert yaml.safe_load(texts["prefect.yaml"])["name"] == project
    for name, text in texts.items():
        assert "my-block" not in text
        if name.endswith(".py"):
            compile(text, name, "exec")


@pytest.mark.parametrize(
    ("origin", "expected"),
    [
        (None, "prefect-sagemaker==1.2"),
        ({"url": "file:///srv/wheels/a.whl", "archive_info": {}}, "prefect-sagemaker @ file:///srv/wheels/a.whl"),
        ({"url": "file:///srv/checkout", "dir_info": {"editable": True}}, "prefect-sagemaker @ file:///srv/checkout"),
        (
            {"url": "https://example.com/us.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "prefect-sagemaker @ git+https://example.com/us.git@c0ffee",
        ),
    ],
    ids=["index", "wheel", "checkout", "git"],
)
def test_the_requirement_is_what_is_installed(origin, expected):
    """The requirement has the version for an install from an index, else the origin (PEP 610); both follow PEP 508."""
    made = requirement("1.2", origin and json.dumps(origin))

    assert made == expected
    assert Requirement(made).name == "prefect-sagemaker"


def test_nothing_is_overwritten(tmp_path, capsys):
    """The error names the existing paths, and nothing is written."""
    (tmp_path / "flow.py").write_text("mine")
    (tmp_path / "code").write_text("a file where a folder must be")
    before = below(tmp_path)

    assert main(["init", str(tmp_path), "--project", "churn"]) == 1
    assert "there is already: code, flow.py" in capsys.readouterr().err
    assert below(tmp_path) == before


def test_a_link_that_leads_nowhere_is_in_the_way(tmp_path):
    """A dangling link counts as an existing path, because writing would follow it."""
    (tmp_path / "flow.py").symlink_to(tmp_path / "elsewhere")

    assert main(["init", str(tmp_path), "--project", "churn"]) == 1
    assert not (tmp_path / "elsewhere").exists()


def test_all_or_nothing(tmp_path):
    """1. The second file cannot be written. 2. The first one and its folder are removed."""
    with pytest.raises(UnicodeEncodeError):
        write(tmp_path / "new", {"code/a.py": "1", "b.py": "\ud800"})

    assert below(tmp_path) == {}


@pytest.mark.parametrize("shadow", ["blocks/__init__.py", "tasks_lib.py"])
def test_a_folder_that_would_shadow_this_package_is_refused(shadow, tmp_path, capsys):
    """A folder whose files would shadow this package's modules is refused."""
    (tmp_path / shadow).parent.mkdir(exist_ok=True)
    (tmp_path / shadow).touch()

    assert main(["init", str(tmp_path), "--project", "churn"]) == 1
    assert "in place of prefect-sagemaker's own" in capsys.readouterr().err
    assert not (tmp_path / "flow.py").exists()


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--bucket", "My_Bucket", "--region", "eu-central-1"], "--bucket 'My_Bucket'"),
        (["--bucket", "my-bucket"], "No region is given"),
        (["--role", "jobs"], "--role says something about AWS, but no bucket is given"),
        (["--project", "a b"], "--project 'a b'"),
        (["--block", "Prod"], "no block named 'Prod'"),
    ],
)
def test_an_invalid_value_is_reported_by_its_option(options, told, tmp_path, capsys):
    """The error for an invalid value names the option, and nothing is written."""
    assert main(["init", str(tmp_path / "churn"), *options]) == 1
    assert told in capsys.readouterr().err
    assert below(tmp_path) == {}


def test_a_server_that_does_not_answer_costs_only_the_block(tmp_path, capsys):
    """If the server does not answer, the repository is made, and the output says that the block is not saved."""
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        assert main(["init", str(tmp_path / "churn")]) == 0

    assert "Not saved as a block, since the Prefect server at http://127.0.0.1:9/api" in capsys.readouterr().out
    assert (tmp_path / "churn" / "flow.py").exists()


# -- policy --------------------------------------------------------------------------------------------------------


def test_one_policy_alone(capsys):
    """One policy is printed as `aws iam create-policy --policy-document` takes it, with the prefixes to read."""
    read = ["--read", "s3://other/data", "--read", "s3://third/"]

    assert main(["policy", "caller", "--project", "churn", *ON_AWS, *read]) == 0
    project = SageMakerProject(project="churn", bucket="my-bucket", region="eu-central-1")
    assert json.loads(capsys.readouterr().out) == caller_policy(project, ["s3://other/data", "s3://third/"])


def test_all_policies_by_name(capsys):
    """Without a policy's name all are printed by name; the region comes from the AWS configuration."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_DEFAULT_REGION", "cn-north-1")
        assert main(["policy", "--project", "churn", "--bucket", "my-bucket", "--prefix", "team"]) == 0
    printed = json.loads(capsys.readouterr().out)

    assert printed.keys() == {"caller", "job", "trust"}
    assert "arn:aws-cn:s3:::my-bucket/team/churn/*" in str(printed["job"])


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--block", "local"], "a project on this machine, which needs no permissions"),
        (["--project", "churn"], "--project needs the bucket"),
    ],
)
def test_a_policy_of_what(options, told, capsys):
    """`policy` needs a project on AWS and its bucket."""
    assert main(["policy", *options]) == 1
    assert told in capsys.readouterr().err


@given(JSON)
def test_json_stays_what_it_is(value):
    """JSON keeps its value in the printed layout."""
    assert json.loads(as_json(value)) == value
