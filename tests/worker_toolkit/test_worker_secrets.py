"""Secrets of a job: the job's role reads them from a fake service before the code starts."""

from __future__ import annotations

import json

import pytest
from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials as BotocoreCredentials
from hypothesis import given
from hypothesis import strategies as st
from played_aws import ARN, KEYS, variables

from worker_toolkit.aws_request import Answer, Aws, AwsRefusedError, Credentials, sign
from worker_toolkit.errors import BootstrapError
from worker_toolkit.secrets_of_job import read_secrets

pytestmark = pytest.mark.sampled(12, group="all")

TRAINING_ARN = "arn:aws-cn:sagemaker:cn-north-1:123456789012:training-job/fit"


def refused(aws, references, **more):
    """Return the error message for secrets that cannot be read."""
    with pytest.raises(BootstrapError) as caught:
        read_secrets(variables(aws, references, **more), TRAINING_ARN)
    return str(caught.value)


# -- in the container ----------------------------------------------------------------------------------------------


def test_the_code_gets_the_values(container, aws):
    """Each kind of reference becomes a variable of the code, in training and in processing."""
    aws.secrets = {"team/db": '{"user": "me", "port": 5432}', ARN: "whole"}
    aws.parameters = {"/team/token": "of-ssm"}
    references = {
        "A": "ssm:/team/token",
        "B": "secretsmanager:team/db#user",
        "C": "secretsmanager:team/db#port",
        "D": ARN,
    }
    script = 'import os; print([os.environ[n] == v for n, v in dict(A="of-ssm", B="me", C="5432", D="whole").items()])'
    ended = container.run_script(script, **variables(aws, references))

    assert ended.returncode == 0, ended.stdout
    assert ended.stdout.endswith("[True, True, True, True]\n")
    assert len(aws.asked) == 3  # `team/db` is read once


def test_references_come_in_pieces(container, aws):
    """References that are too long for one variable are joined from several, in their order."""
    names = [f"NAME_{number}" for number in range(30)]
    aws.parameters = {f"/{name}": f"value-of-{name}" for name in names}
    text = json.dumps({name: f"ssm:/{name}" for name in names})
    pieces = [text[start : start + 100] for start in range(0, len(text), 100)]
    more = {f"SSM_SECRETS_{number}": piece for number, piece in enumerate(pieces[1:], 2)}
    assert len(more) > 3

    script = "import os; print(all(os.environ[f'NAME_{n}'] == f'value-of-NAME_{n}' for n in range(30)))"
    ended = container.run_script(script, **{**variables(aws, {}), "SSM_SECRETS": pieces[0], **more})

    assert ended.stdout.endswith("True\n"), ended.stdout


def test_nothing_of_a_value_is_left_on_the_disk(container, aws):
    """A value is in its own variable only: in no other variable and in no file of the container."""
    aws.parameters = {"/t": "s3cret-of-the-test"}
    script = "import os; print([k for k, v in os.environ.items() if 's3cret-of-the-test' in v])"
    ended = container.run_script(script, **variables(aws, {"ONLY": "ssm:/t"}))
    written = [path for path in container.root.rglob("*") if path.is_file() and b"s3cret-of" in path.read_bytes()]

    assert ended.stdout.endswith("['ONLY']\n")
    assert [path.name for path in written if path.name not in ("fit.py", "source.tar.gz")] == []


def test_pip_gets_its_own_options_only(container, aws, tmp_path):
    """Only secrets that are options of pip, such as the address of a private index, are set while it runs.

    The build code of the packages does not see other secrets.
    """
    aws.parameters = {"/index": "http://user:password@127.0.0.1:9/simple", "/other": "of-the-code"}
    tell = "import os; raise SystemExit('seen: %s %s' % ('PIP_INDEX_URL' in os.environ, 'OTHER' in os.environ))"
    # The package has its own build backend, because a Python made by uv has no setuptools.
    project = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    package = {"pkg/pyproject.toml": project, "pkg/backend.py": tell}
    container.source({"requirements.txt": "./pkg\n", "fit.py": "pass", **package})
    references = {"PIP_INDEX_URL": "ssm:/index", "OTHER": "ssm:/other"}
    options = {"PIP_NO_BUILD_ISOLATION": "0", "PIP_TARGET": str(tmp_path), "PIP_RETRIES": "0", "PIP_NO_DEPS": "1"}
    ended = container.run("--entry-point", "fit.py", **variables(aws, references), **options)

    assert ended.returncode != 0
    assert "seen: True False" in ended.stdout
    assert "password" not in ended.stdout + container.reason.read_text()


def test_without_secrets_no_request_is_sent(container, aws):
    """A job without secrets sends no request, and its code runs as usual."""
    ended = container.run_script("import os; print('value')", AWS_ENDPOINT_URL=aws.url, **KEYS)

    assert ended.returncode == 0
    assert aws.asked == []


def test_all_missing_secrets_are_reported_at_once(container, aws):
    """The reason and the log name all missing secrets by their references, and the code is not started."""
    aws.parameters = {"/there": "value-that-is-there"}
    references = {"A": "ssm:/there", "B": "ssm:/gone", "C": "secretsmanager:lost#key"}
    ended = container.run_script("print('started')", **variables(aws, references))
    reason = container.reason.read_text()

    assert ended.returncode == 1
    assert "started" not in ended.stdout
    assert "The secret B (ssm:/gone) does not exist in eu-west-1" in reason
    assert "The secret C (secretsmanager:lost#key) does not exist in eu-west-1" in reason
    assert reason.splitlines()[0] in ended.stdout
    assert "value-that-is-there" not in ended.stdout + reason


def test_a_role_without_permissions_gets_the_missing_statement(aws):
    """The reason has the missing IAM statement.

    For a secret given by name, wildcards stand for the end of its ARN.
    """
    told = {"__type": "AccessDeniedException", "Message": "not authorized to perform this"}
    aws.refusals = [(400, told)]
    by_name = refused(aws, {"A": "secretsmanager:team/db#x"})
    aws.refusals = [(400, told)]
    parameter = refused(aws, {"A": "ssm:/team/t"})

    assert "may not be read by the job's role" in by_name
    resource = "arn:aws-cn:secretsmanager:eu-west-1:123456789012:secret:team/db-??????"
    assert json.dumps({"Effect": "Allow", "Action": "secretsmanager:GetSecretValue", "Resource": resource}) in by_name
    assert '"ssm:GetParameter", "Resource": "arn:aws-cn:ssm:eu-west-1:123456789012:parameter/team/t"' in parameter
    assert "AWS says: AccessDeniedException: not authorized" in parameter


@pytest.mark.parametrize(
    ("value", "reference", "why"),
    [
        ("plain text", "secretsmanager:x#key", "is not a JSON object"),
        ('["a", "list"]', "secretsmanager:x#key", "is not a JSON object"),
        ('{"other": "topsecret"}', "secretsmanager:x#key", "has no key 'key'"),
        ("with\0nul", "secretsmanager:x", "cannot be a variable"),
        ("x" * 200_000, "secretsmanager:x", "cannot be a variable"),
    ],
)
def test_a_value_that_does_not_fit(aws, value, reference, why):
    """The error for a value that cannot be a variable names the reference and does not show the value."""
    aws.secrets = {"x": value}
    told = refused(aws, {"A": reference})

    assert why in told
    assert value[:9] not in told
    assert "topsecret" not in told


def test_references_that_were_cut(aws):
    """The error for a truncated text of references does not show the text."""
    with pytest.raises(BootstrapError, match="SSM_SECRETS is not a JSON object"):
        read_secrets({**KEYS, "SSM_SECRETS": '{"A": "ssm:/'})


# -- requests to AWS -----------------------------------------------------------------------------------------------

names = st.text("abcdefghijklmnopqrstuvwxyz0123456789-", min_size=1, max_size=20)


@given(
    host=names.filter(lambda name: not name.startswith("-") and not name.endswith("-")),
    port=st.sampled_from(["", ":443", ":8443"]),
    path=st.sampled_from(["/", "", "/a b/", "/ü~/x"]),
    body=st.binary(max_size=200),
    token=st.sampled_from(["", "a+token/=="]),
    keys=st.tuples(names, names),
    scope=st.tuples(names, st.sampled_from(["ssm", "secretsmanager"])),
)
def test_the_signature_is_botocores(*, host, port, path, body, token, keys, scope):
    """The toolkit's Signature Version 4 equals that of botocore for any request that it may send."""
    region, service = scope
    url, target = f"https://{host}.example{port}{path}", "AmazonSSM.GetParameter"
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": target}
    theirs = AWSRequest("POST", url, data=body, headers=headers)
    SigV4Auth(BotocoreCredentials(*keys, token or None), service, region).add_auth(theirs)
    now = theirs.headers["X-Amz-Date"]
    ours = sign(url, target, body, Credentials(*keys, token), region=region, service=service, now=now)

    assert theirs.headers["Authorization"] == ours["Authorization"]
    assert theirs.headers.get("X-Amz-Security-Token") == ours.get("X-Amz-Security-Token")


def test_the_keys_of_the_container(container, aws):
    """Without keys in the environment, the credentials of the job's role are fetched and used with their token."""
    aws.parameters = {"/t": "value"}
    environ = variables(aws, {"A": "ssm:/t"}, AWS_CONTAINER_CREDENTIALS_FULL_URI=f"{aws.url}/keys")
    without_keys = {name: value for name, value in environ.items() if "ACCESS_KEY" not in name}
    ended = container.run_script("pass", AWS_CONTAINER_AUTHORIZATION_TOKEN="for-the-endpoint", **without_keys)
    for_keys, for_value = aws.asked

    assert ended.returncode == 0, ended.stdout
    assert (for_keys.path, for_keys.headers["Authorization"]) == ("/keys", "for-the-endpoint")
    assert "Credential=ASIAROLE/" in for_value.headers["Authorization"]
    assert for_value.headers["X-Amz-Security-Token"] == "a-token"


def test_sagemakers_own_endpoint_of_keys():
    """The relative address that SageMaker sets is resolved at the container's link-local endpoint, and fetched once."""
    asked = []

    def send(request):
        asked.append(request.url)
        return Answer(200, b'{"AccessKeyId": "A", "SecretAccessKey": "B", "Token": "C"}')

    aws = Aws({"AWS_CONTAINER_CREDENTIALS_RELATIVE_URI": "/v2/credentials/1"}, send=send)

    assert aws.credentials() == aws.credentials() == ("A", "B", "C")
    assert asked == ["http://169.254.170.2/v2/credentials/1"]


def test_no_keys_at_all():
    """The error without any credentials names the missing variable."""
    with pytest.raises(BootstrapError, match="AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"):
        Aws({}).credentials()


@pytest.mark.parametrize(
    ("region", "service", "url"),
    [
        ("eu-west-1", "ssm", "https://ssm.eu-west-1.amazonaws.com/"),
        ("us-gov-west-1", "secretsmanager", "https://secretsmanager.us-gov-west-1.amazonaws.com/"),
        ("cn-north-1", "secretsmanager", "https://secretsmanager.cn-north-1.amazonaws.com.cn/"),
        ("us-isob-east-1", "ssm", "https://ssm.us-isob-east-1.sc2s.sgov.gov/"),
        ("eusc-de-east-1", "ssm", "https://ssm.eusc-de-east-1.amazonaws.eu/"),
    ],
)
def test_public_endpoints(region, service, url):
    """Each partition has its own domain, as in botocore."""
    import botocore.session

    session = botocore.session.Session()
    client = session.create_client(service, region, aws_access_key_id="a", aws_secret_access_key="b")

    assert url == Aws({}).endpoint(service, region)
    assert url == f"{client.meta.endpoint_url}/"


def test_the_variables_of_endpoints():
    """The endpoint variables of the AWS SDKs are used, first the one of the service."""
    environ = {"AWS_ENDPOINT_URL": "http://all:1", "AWS_ENDPOINT_URL_SECRETS_MANAGER": "http://one:2/x/"}

    assert Aws(environ).endpoint("ssm", "eu-west-1") == "http://all:1/"
    assert Aws(environ).endpoint("secretsmanager", "eu-west-1") == "http://one:2/x/"
    with pytest.raises(BootstrapError, match="not an http or https URL"):
        Aws({"AWS_ENDPOINT_URL": "file:///etc/passwd"}).endpoint("ssm", "eu-west-1")


@pytest.mark.parametrize(
    "trouble", [(503, {}), (500, {"__type": "InternalServerError"}), (400, {"__type": "ThrottlingException"})]
)
def test_transient_errors_are_retried(aws, trouble):
    """Throttling, which many hosts at once may cause, and server errors are retried with back-off."""
    aws.parameters = {"/t": "value"}
    aws.refusals = [trouble] * 3
    pauses = []
    environ = variables(aws, {"A": "ssm:/t"})
    found = read_secrets(environ, aws=Aws(environ, sleep=pauses.append))

    assert found.variables == {"A": "value"}
    assert len(pauses) == 3
    assert sum(pauses) < 0.5 * (1 + 2 + 4) * 1.5 + 0.1


def test_other_errors_are_not_retried(aws):
    """An error that is not transient is not retried."""
    aws.refusals = [(400, {"__type": "ValidationException", "message": "no"})]
    environ = variables(aws, {})
    with pytest.raises(AwsRefusedError, match="ValidationException: no"):
        Aws(environ).ask("ssm", "eu-west-1", "AmazonSSM.GetParameter", {"Name": "x", "WithDecryption": True})

    assert len(aws.asked) == 1


def test_a_service_that_is_not_reached():
    """After several attempts the error names the service and the interface endpoint that a VPC needs."""

    def nobody(_):
        raise TimeoutError("timed out")

    environ = {**KEYS, "SSM_SECRETS": '{"A": "ssm:/t"}'}
    with pytest.raises(BootstrapError, match=r"ssm in eu-west-1 .* 5 attempts \(timed out\).* interface endpoint"):
        read_secrets(environ, aws=Aws(environ, send=nobody, sleep=lambda _: None))


def test_the_region_of_the_job(aws):
    """Without `AWS_REGION` the region comes from the job's ARN; a secret's ARN names its own region."""
    aws.parameters, aws.secrets = {"/t": "value"}, {ARN: "value"}
    environ = variables(aws, {"A": "ssm:/t", "B": ARN})
    del environ["AWS_REGION"]
    read_secrets(environ, TRAINING_ARN)
    scopes = [each.headers["Authorization"].split("/")[2:4] for each in aws.asked]

    assert scopes == [["cn-north-1", "ssm"], ["eu-central-1", "secretsmanager"]]
    with pytest.raises(BootstrapError, match="set AWS_REGION"):
        read_secrets({**environ, "SSM_SECRETS": '{"A": "ssm:/t"}'})


def test_a_redirect_is_not_followed(aws):
    """A redirect is not followed, so a signed request is not sent to another server."""
    aws.refusals = [(302, {"__type": "Moved"})]

    assert "AWS says: Moved" in refused(aws, {"A": "ssm:/t"})
    assert len(aws.asked) == 1
