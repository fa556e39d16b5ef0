"""Authentication: the server accepts requests signed with a key of its home, and refuses those of web pages."""

from __future__ import annotations

import asyncio
import http.client
import json
import re
import time
from base64 import b64encode
from datetime import datetime, timezone
from urllib.parse import quote, unquote, urlsplit

import boto3
import pytest
from api_requests import error_of, new_name, training_request
from botocore.auth import S3SigV4Auth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.config import Config
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as st
from urllib3.filepost import encode_multipart_formdata
from waiting import wait_until

from local_sagemaker.asgi_request import BodyTooLarge
from local_sagemaker.asgi_request import Request as Arriving
from local_sagemaker.iam.sessions import Session
from local_sagemaker.keys import ExpiredKey, HomeKey, Keys, UnknownKey
from local_sagemaker.signatures import UNSIGNED_PAYLOAD, Refused, Request, Signature

TRUST = json.dumps({"Version": "2012-10-17", "Statement": []})
LIST_BUCKETS = json.dumps(
    {
        "Version": "2012-10-17",
        "Statement": [{"Effect": "Allow", "Action": "s3:ListAllMyBuckets", "Resource": "*"}],
    }
)
SCOPE = "a/20260101/us-east-1/iam/aws4_request"
PAGE = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}


@pytest.fixture(params=["s3v4", None], ids=["version 4", "as boto3 presigns by itself"])
def presigning(request):
    """Return the signature version of presigned S3 URLs; version 2 (2006) is boto3's default in some regions."""
    return request.param


@pytest.fixture
def client(backend):
    """Return a function that creates a client with given keys, by default the home's."""

    def make(service, keys=None, version=None):
        keys = keys or backend.keys
        return boto3.client(
            service,
            endpoint_url=backend.endpoint,
            region_name="us-east-1",
            aws_access_key_id=keys.access_key,
            aws_secret_access_key=keys.secret_key,
            aws_session_token=keys.token or None,
            config=Config(retries={"total_max_attempts": 1}, signature_version=version),
        )

    return make


@pytest.fixture
def page_object(client):
    """Put an HTML page into S3; return its bucket and key."""
    bucket = new_name("page")
    client("s3").create_bucket(Bucket=bucket)
    client("s3").put_object(Bucket=bucket, Key="page", Body=b"<script>evil()</script>")
    return {"Bucket": bucket, "Key": "page"}


def asked(method, url, headers=(), body=None):
    """Send one request as it is; return the status, headers and body of the response."""
    parts = urlsplit(url)
    connection = http.client.HTTPConnection(parts.netloc, timeout=30)
    try:
        connection.request(method, f"{parts.path}?{parts.query}".rstrip("?") or "/", body, dict(headers))
        answer = connection.getresponse()
        return answer.status, answer.headers, answer.read()
    finally:
        connection.close()


CALLS = {"s3": ("s3", "list_buckets"), "json": ("sagemaker", "list_training_jobs"), "query": ("iam", "list_roles")}


def call(client, protocol, *keys):
    """Return the client method that stands for a protocol."""
    service, operation = CALLS[protocol]
    return getattr(client(service, *keys), operation)


STRANGER = {"s3": "InvalidAccessKeyId", "json": "UnrecognizedClientException", "query": "InvalidClientTokenId"}
FORGED = {"s3": "SignatureDoesNotMatch", "json": "InvalidSignatureException", "query": "SignatureDoesNotMatch"}


@pytest.mark.parametrize("protocol", FORGED)
def test_a_wrong_secret_is_refused_as_aws_refuses_it(backend, client, protocol):
    """A wrong secret key is refused with the error code of each protocol; the right one is accepted."""
    wrong = Keys(backend.keys.access_key, "x" * 40)

    assert error_of(call(client, protocol, wrong))[0] == FORGED[protocol]
    assert call(client, protocol)()


@pytest.mark.parametrize("protocol", STRANGER)
def test_a_session_that_was_not_given_out_is_refused(client, protocol):
    """A session token that this home did not issue is refused."""
    strange = Keys("ASIAAAAAAAAAAAAAAAAA", "x" * 40, "IQoJb3JpZ2lueA==")

    assert error_of(call(client, protocol, strange))[0] == STRANGER[protocol]


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature=0"},
        {"Authorization": "AWS key:signature"},
        {"Authorization": f"AWS4-HMAC-SHA256 Credential={SCOPE}, SignedHeaders=host, Signature=0", "X-Amz-Date": "x"},
        {"Authorization": "Basic bG9jYWw6bG9jYWw="},
        PAGE,
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Referer": "https://evil.example/page"},
    ],
    ids=["unsigned", "forged", "version 2", "no date", "basic", "image", "origin", "null", "referer"],
)
def test_what_a_page_can_send_does_nothing(backend, client, headers):
    """A request that a web page can send, such as `<img src="http://127.0.0.1:PORT/?Action=…">`, creates no user."""
    name = new_name("user")
    for method in ("GET", "POST"):
        url = f"{backend.endpoint}/?Action=CreateUser&UserName={name}&Version=2010-05-08"
        assert asked(method, url, headers)[0] in (400, 403)

    assert error_of(client("iam").get_user, UserName=name)[0] == "NoSuchEntity"


@pytest.mark.parametrize("mark", [PAGE, {"Origin": "https://evil.example"}, {"Referer": "http://evil.example/"}])
def test_a_signed_request_of_a_page_is_refused(backend, mark):
    """A signed request with the marks of a web page is refused; the same request from a program is accepted."""
    credentials = Credentials(backend.keys.access_key, backend.keys.secret_key)
    body = b"Action=ListRoles&Version=2010-05-08"
    request = AWSRequest("POST", f"{backend.endpoint}/", {"Content-Type": "application/x-www-form-urlencoded"}, body)
    SigV4Auth(credentials, "iam", "us-east-1").add_auth(request)
    signed = dict(request.headers.items())

    assert asked("POST", request.url, signed, body)[0] == 200
    assert asked("POST", request.url, {**signed, **mark}, body)[0] == 403


def test_the_body_is_signed_too(backend):
    """A request with a replaced body is refused."""
    credentials = Credentials(backend.keys.access_key, backend.keys.secret_key)
    headers = {"X-Amz-Target": "SageMaker.ListTrainingJobs", "Content-Type": "application/x-amz-json-1.1"}
    request = AWSRequest("POST", f"{backend.endpoint}/", headers, b"{}")
    SigV4Auth(credentials, "sagemaker", "us-east-1").add_auth(request)
    signed = dict(request.headers.items())

    assert asked("POST", request.url, signed, b"{}")[0] == 200
    assert b"InvalidSignatureException" in asked("POST", request.url, signed, b'{"MaxResults": 1}')[2]


@pytest.mark.parametrize("signed", [True, False], ids=["forged", "unsigned"])
def test_a_large_body_is_refused_before_it_is_read(backend, signed):
    """A Content-Length of 1 GiB is refused before any byte of the body is sent, with or without a signature."""
    headers = {"Content-Length": str(1 << 30), "X-Amz-Target": "SageMaker.CreateTrainingJob"}
    if signed:
        now = datetime.now(timezone.utc).strftime("%Y%m%dT%H%M%SZ")
        scope = f"AKIAEXAMPLE/{now[:8]}/us-east-1/sagemaker/aws4_request"
        headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"
        headers["X-Amz-Date"] = now
    connection = http.client.HTTPConnection(urlsplit(backend.endpoint).netloc, timeout=10)
    connection.putrequest("POST", "/")
    for name, value in headers.items():
        connection.putheader(name, value)
    connection.endheaders()
    answer = connection.getresponse()
    code = json.loads(answer.read())["__type"]
    connection.close()

    expected = (413, "RequestEntityTooLargeException") if signed else (400, "MissingAuthenticationTokenException")
    assert (answer.status, code) == expected


def test_a_body_without_a_length_ends_at_the_bound():
    """A body without a length is read at most up to the bound; a body of exactly the bound is accepted."""
    blocks = []

    async def receive():
        blocks.append(1)
        return {"type": "http.request", "body": bytes(10), "more_body": len(blocks) < 100}

    scope = {"type": "http", "headers": []}
    with pytest.raises(BodyTooLarge):
        asyncio.run(Arriving(0, None, scope, receive, None).whole(999))
    assert len(blocks) == 100
    blocks.clear()
    with pytest.raises(BodyTooLarge):
        asyncio.run(Arriving(0, None, scope, receive, None).whole(25))
    assert len(blocks) == 3
    blocks.clear()
    assert len(asyncio.run(Arriving(0, None, scope, receive, None).whole(1000)).body) == 1000


def test_the_largest_bodies_of_clients_are_taken(client):
    """A message of 1 MiB, the largest that SQS accepts, is accepted."""
    sqs = client("sqs")
    url = sqs.create_queue(QueueName=new_name(), Attributes={"MaximumMessageSize": str(1 << 20)})["QueueUrl"]
    sent = sqs.send_message(QueueUrl=url, MessageBody="x" * (1 << 20))

    assert sent["MessageId"]


# -- presigned URLs ------------------------------------------------------------------------------------------------


def test_a_presigned_address_is_a_download_for_a_browser(client, page_object, presigning):
    """A presigned URL serves a browser an attachment in a sandbox, and a program the plain object."""
    url = client("s3", version=presigning).generate_presigned_url("get_object", Params=page_object)
    by_program, by_browser = asked("GET", url), asked("GET", url, PAGE)

    assert (by_program[0], by_browser[0]) == (200, 200)
    assert by_program[2] == by_browser[2] == b"<script>evil()</script>"
    assert by_program[1]["Content-Disposition"] is None
    assert by_browser[1]["Content-Disposition"] == "attachment"
    for _, headers, _ in (by_program, by_browser):
        assert headers["Content-Security-Policy"] == "sandbox"
        assert headers["X-Content-Type-Options"] == "nosniff"


def test_a_presigned_page_stays_a_download(client, page_object, presigning):
    """A presigned page stays an attachment for a browser, whatever response headers the URL requests."""
    wanted = {"ResponseContentType": "text/html", "ResponseContentDisposition": 'inline; filename="a.html"'}
    url = client("s3", version=presigning).generate_presigned_url("get_object", Params={**page_object, **wanted})
    _, headers, _ = asked("GET", url, PAGE)

    assert headers["Content-Type"] == "text/html"
    assert headers["Content-Disposition"] == 'attachment; filename="a.html"'


def test_a_presigned_address_that_writes_is_not_for_pages(client, page_object, presigning):
    """A program may use a presigned URL that writes; a web page may not, because it could be a malicious one."""
    url = client("s3", version=presigning).generate_presigned_url("put_object", Params=page_object)

    assert asked("PUT", url, PAGE, b"new")[0] == 403
    assert asked("PUT", url, {}, b"new")[0] == 200


def test_presigned_addresses_expire(client, page_object, presigning):
    """A presigned URL works until it expires, and not longer."""
    url = client("s3", version=presigning).generate_presigned_url("get_object", Params=page_object, ExpiresIn=1)
    assert asked("GET", url)[0] == 200
    wait_until(lambda: asked("GET", url)[0] == 403, "the address to expire")

    assert b"Request has expired" in asked("GET", url)[2]


@pytest.mark.parametrize("change", [("page", "pag2"), ("X-Amz-Expires=3600", "X-Amz-Expires=9999")])
def test_a_presigned_address_is_for_one_thing(client, page_object, change):
    """A presigned URL with another key or another expiry does not match its signature."""
    url = client("s3", version="s3v4").generate_presigned_url("get_object", Params=page_object)

    assert b"SignatureDoesNotMatch" in asked("GET", url.replace(*change))[2]


def test_an_old_presigned_address_is_for_one_thing(client, page_object):
    """A version 2 presigned URL with another key, method, expiry or response header does not match its signature."""
    url = client("s3").generate_presigned_url("get_object", Params=page_object)
    later = re.sub(r"Expires=(\d+)", lambda found: f"Expires={int(found[1]) + 1}", url)

    assert "AWSAccessKeyId=" in url
    assert asked("GET", url)[0] == 200
    assert [asked("GET", each)[0] for each in (url.replace("page?", "pag2?"), later)] == [403, 403]
    assert asked("PUT", url, {}, b"new")[0] == 403
    assert asked("GET", url + "&response-content-type=text/html")[0] == 403


@pytest.fixture(params=[False, True], ids=["the home's key", "a session"])
def keys(request, backend, client):
    """Return the home's keys, or those of an STS session."""
    if not request.param:
        return backend.keys
    given = client("sts").get_session_token()["Credentials"]
    return Keys(given["AccessKeyId"], given["SecretAccessKey"], given["SessionToken"])


def test_a_presigned_put_keeps_what_was_signed_with_it(client, page_object, presigning, keys):
    """Headers in the query of a presigned PUT apply as if sent; a changed one does not match the signature."""
    wanted = {"ContentType": "text/x", "Metadata": {"m": "1"}, "StorageClass": "STANDARD_IA"}
    url = client("s3", keys, presigning).generate_presigned_url("put_object", Params={**page_object, **wanted})
    in_query = "x-amz-meta-m=1" in url
    headers = {} if in_query else {"content-type": "text/x", "x-amz-meta-m": "1", "x-amz-storage-class": "STANDARD_IA"}

    assert asked("PUT", url, headers, b"new")[0] == 200

    head = client("s3").head_object(**page_object)
    assert {name: head[name] for name in wanted} == wanted
    if in_query:
        assert asked("PUT", url.replace("x-amz-meta-m=1", "x-amz-meta-m=2"), headers, b"new")[0] == 403


def test_a_presigned_put_takes_no_other_headers_of_s3(client, page_object, presigning):
    """A presigned PUT refuses other headers of S3: an unsigned one could turn it into a copy of a secret object."""
    s3 = client("s3", version=presigning)
    s3.put_object(Bucket=page_object["Bucket"], Key="secret", Body=b"secret")
    target = {"Bucket": page_object["Bucket"], "Key": "put"}
    url = s3.generate_presigned_url("put_object", Params=target)

    for name, value in (("x-amz-copy-source", f"{target['Bucket']}/secret"), ("x-amz-tagging", "a=b")):
        status, _, body = asked("PUT", url, {name: value}, b"")
        assert status == 403
        assert name.encode() in body or b"SignatureDoesNotMatch" in body
    assert s3.list_objects_v2(Bucket=target["Bucket"], Prefix="put")["KeyCount"] == 0
    assert asked("PUT", url, {"x-other": "a"}, b"new")[0] == 200


def posted(form, content=b"x", headers=(), **changes):
    """Send a presigned form; a field that is changed to None is left out."""
    fields = {name: value for name, value in {**form["fields"], **changes}.items() if value is not None}
    body, kind = encode_multipart_formdata({**fields, "file": ("f.txt", content)})
    return asked("POST", form["url"], {"content-type": kind, **dict(headers)}, body)


def test_a_presigned_form_puts_an_object(client, page_object, presigning, keys):
    """A form that boto3 presigns is accepted, but not from a web page; its conditions and length range are enforced."""
    conditions = [["content-length-range", 1, 10], ["starts-with", "$x-amz-meta-m", "a"]]
    form = client("s3", keys, presigning).generate_presigned_post(
        page_object["Bucket"], "posted", {"x-amz-meta-m": "ab"}, conditions
    )

    refused = [
        posted(form, b"x" * 11),
        posted(form, b""),
        posted(form, key="other"),
        posted(form, **{"x-amz-meta-m": "b"}),
        posted(form, **{"x-amz-meta-other": "b"}),
        posted(form, headers=PAGE),
    ]
    codes = [re.search(rb"<Code>(\w+)", body) for _, _, body in refused]
    assert [(status, code and code[1].decode()) for (status, _, _), code in zip(refused, codes, strict=True)] == [
        (400, "EntityTooLarge"),
        (400, "EntityTooSmall"),
        (403, "AccessDenied"),
        (403, "AccessDenied"),
        (403, "AccessDenied"),
        (403, None),
    ]
    assert client("s3").list_objects_v2(Bucket=page_object["Bucket"], Prefix="p")["KeyCount"] == 1

    assert posted(form, b"content")[0] == 204

    got = client("s3").get_object(Bucket=page_object["Bucket"], Key="posted")
    assert (got["Body"].read(), got["Metadata"]) == (b"content", {"m": "ab"})


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"policy": "e30="}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": "0" * 64}, "SignatureDoesNotMatch"),
        ({"x-amz-signature": None}, "AuthorizationHeaderMalformed"),
        ({"x-amz-credential": "nonsense"}, "AuthorizationHeaderMalformed"),
        ({"policy": None, "x-amz-signature": None}, "AccessDenied"),
        ({"padding": "x" * 30_000}, "AuthorizationHeaderMalformed"),
    ],
)
def test_a_form_that_nobody_signed(client, page_object, changes, code):
    """A form with a changed policy, or a wrong or missing signature, writes nothing; the original form is accepted."""
    form = client("s3", version="s3v4").generate_presigned_post(page_object["Bucket"], "posted")

    status, _, body = posted(form, **changes)

    assert (status // 100, re.search(rb"<Code>(\w+)", body)[1].decode()) == (4, code)
    assert "Contents" not in client("s3").list_objects_v2(Bucket=page_object["Bucket"], Prefix="posted")
    assert posted(form)[0] == 204


def test_forms_expire(client, page_object, presigning):
    """A form whose policy has expired is refused."""
    form = client("s3", version=presigning).generate_presigned_post(page_object["Bucket"], "posted", ExpiresIn=-1)

    status, _, body = posted(form)

    assert (status, b"Policy expired" in body) == (403, True)


@pytest.mark.parametrize("lasts", [3600, -1])
def test_a_form_posts_an_object_and_nothing_else(client, page_object, presigning, lasts):
    """A form's signature permits no other operation, which would not check its conditions, and nothing after expiry."""
    s3, bucket = client("s3"), page_object["Bucket"]
    form = client("s3", version=presigning).generate_presigned_post(bucket, "posted", ExpiresIn=lasts)
    elsewhere = ["/posted?uploads", "/sec/a?uploads", "/page?uploadId=x", "?delete", "?uploads", "?other=1", "/posted"]

    for where in elsewhere:
        status, _, body = posted({**form, "url": f"{form['url'].rstrip('/')}{where}"})
        assert (status, re.search(rb"<Code>(\w+)", body)[1]) == (403, b"AccessDenied"), where

    assert "Uploads" not in s3.list_multipart_uploads(Bucket=bucket)
    assert "Contents" not in s3.list_objects_v2(Bucket=bucket, Prefix="posted")
    assert posted(form)[0] == (204 if lasts > 0 else 403)


def test_a_form_is_read_once(client, page_object):
    """A form with two Content-Type headers is refused: the fields that are checked must be those that are applied."""
    form = client("s3", version="s3v4").generate_presigned_post(page_object["Bucket"], "posted")
    unlimited = {"expiration": "2220-01-01T00:00:00Z", "conditions": [["starts-with", "$key", ""]]}
    forged = {"key": "page2", "policy": b64encode(json.dumps(unlimited).encode()).decode()}

    def part(boundary, name, value):
        return f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'

    outer = "A,multipart/form-data"
    signed = "".join(part("A", name, value) for name, value in form["fields"].items())
    body = "".join(part(outer, name, value) for name, value in forged.items())
    body += part(outer, "x-ignore-me", f"\r\n{signed}".rstrip()) + part(outer, "file", "x") + f"--{outer}--\r\n"
    connection = http.client.HTTPConnection(urlsplit(form["url"]).netloc, timeout=30)
    connection.putrequest("POST", urlsplit(form["url"]).path)
    for boundary in "AB":
        connection.putheader("Content-Type", f"multipart/form-data; boundary={boundary}")
    connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body.encode())
    answer = connection.getresponse()
    told = answer.read()
    connection.close()

    assert (answer.status, b"The form lacks a policy" in told) == (400, True)
    assert client("s3").list_objects_v2(Bucket=page_object["Bucket"], Prefix="page2")["KeyCount"] == 0


def test_a_signed_policy_that_is_not_one(client, page_object, keys):
    """A signed policy without an expiration, or one that is not JSON, is InvalidPolicyDocument."""
    form = client("s3", keys, "s3v4").generate_presigned_post(page_object["Bucket"], "posted")
    secret = client("s3", keys, "s3v4")._request_signer._credentials.secret_key
    for text in (b"{}", b"nonsense"):
        policy = b64encode(text).decode()
        made = S3SigV4Auth(Credentials("a", secret), "s3", "us-east-1")
        asked_at = AWSRequest()
        asked_at.context["timestamp"] = form["fields"]["x-amz-date"]
        status, _, body = posted(form, policy=policy, **{"x-amz-signature": made.signature(policy, asked_at)})
        assert (status, re.search(rb"<Code>(\w+)", body)[1]) == (400, b"InvalidPolicyDocument")


def test_only_what_s3_lets_override_is_overridden(client, page_object):
    """S3's six overridable headers may be overridden; any other `response-…`, such as a cookie, is refused."""
    s3 = client("s3")
    s3.meta.events.register(
        "before-sign.s3.GetObject", lambda request, **_: request.params.update({"response-set-cookie": "a=b"})
    )

    assert s3.head_object(**page_object)
    assert error_of(s3.get_object, **page_object)[0] == "InvalidArgument"


def test_unsigned_request_is_refused(backend, page_object):
    """An unsigned request for an object is refused: there are no public buckets."""
    status, _, body = asked("GET", f"{backend.endpoint}/{page_object['Bucket']}/page")

    assert (status, b"<Code>AccessDenied</Code>" in body) == (403, True)


# -- keys derived from the home's ----------------------------------------------------------------------------------


def test_an_assumed_role_and_a_user_have_keys_that_work(client):
    """The keys that STS and IAM issue work; with a wrong secret key or without the session token they are refused."""
    iam, name = client("iam"), new_name("role")
    role = iam.create_role(RoleName=name, AssumeRolePolicyDocument=TRUST)["Role"]["Arn"]
    iam.put_role_policy(RoleName=name, PolicyName="list", PolicyDocument=LIST_BUCKETS)
    iam.create_user(UserName=name)
    user = iam.create_access_key(UserName=name)["AccessKey"]
    session = client("sts").assume_role(RoleArn=role, RoleSessionName="session")["Credentials"]
    of_user = Keys(user["AccessKeyId"], user["SecretAccessKey"])
    of_session = Keys(session["AccessKeyId"], session["SecretAccessKey"], session["SessionToken"])

    assert client("s3", of_user).list_buckets()
    assert client("s3", of_session).list_buckets()
    for wrong in (Keys(of_user.access_key, "x"), Keys(of_session.access_key, of_session.secret_key)):
        assert error_of(client("s3", wrong).list_buckets)[0] in ("SignatureDoesNotMatch", "InvalidAccessKeyId")


def test_a_job_has_keys_of_its_own(backend, client):
    """A job has temporary keys, with which it may use the server, and not the home's."""
    name = new_name("keys")
    client("s3").create_bucket(Bucket="api-tests")
    code = (
        "import boto3, os; boto3.client('s3').put_object(Bucket='api-tests', Key='from-job', Body=b'x');"
        "print('key', os.environ['AWS_ACCESS_KEY_ID'], os.environ['AWS_SECRET_ACCESS_KEY'])"
    )
    specification = {"ContainerEntrypoint": ["python", "-c", code]}
    request = training_request(name)
    request["AlgorithmSpecification"] = {**request["AlgorithmSpecification"], **specification}
    client("sagemaker").create_training_job(**request)
    done = ("Completed", "Failed", "Stopped")
    describe = client("sagemaker").describe_training_job
    wait_until(lambda: describe(TrainingJobName=name)["TrainingJobStatus"] in done, "the job's end")
    events = client("logs").filter_log_events(logGroupName="/aws/sagemaker/TrainingJobs", logStreamNamePrefix=name)
    (line,) = [event["message"] for event in events["events"] if "key " in event["message"]]

    assert describe(TrainingJobName=name)["TrainingJobStatus"] == "Completed"
    assert line.split()[1].startswith("ASIA")
    assert backend.keys.secret_key not in line


def test_key_file_is_private(backend):
    """The key file is readable, and the home accessible, for its owner only."""
    assert (backend.home / "key.json").stat().st_mode & 0o777 == 0o600
    assert backend.home.stat().st_mode & 0o777 == 0o700


def test_the_key_stays(tmp_path):
    """The first access creates the key, later ones return the same key, and another home has another."""
    first = HomeKey.of(tmp_path)

    assert HomeKey.of(tmp_path) == first
    assert len(first.keys.secret_key) == 40
    assert first.keys != HomeKey.of(tmp_path / "..").keys
    (tmp_path / ".." / "key.json").unlink()


def test_a_temporary_key_ends(tmp_path, monkeypatch):
    """A temporary key is refused after its expiry, in another home, and with another key ID."""
    home = HomeKey.of(tmp_path)
    keys = home.temporary(Session("arn:aws:iam::1:role/r", "s"), 60)

    assert home.secret_of(keys.access_key, keys.token) == keys.secret_key
    with pytest.raises(UnknownKey):
        home.secret_of("ASIAOTHEROTHEROTHERO", keys.token)
    with pytest.raises(UnknownKey):
        HomeKey(Keys("AKIA", "another")).secret_of(keys.access_key, keys.token)
    monkeypatch.setattr(time, "time", lambda: time.monotonic() + 4e9)
    with pytest.raises(ExpiredKey):
        home.secret_of(keys.access_key, keys.token)


# -- the signature, compared with botocore's -----------------------------------------------------------------------

KEYS = Keys("AKIAEXAMPLE", "secret")
TEXTS = st.text("aZ0 -_.~/+*%&=?äß", max_size=8)


def refuse_other(access_key, token):
    """Return the secret of the one known key; raise UnknownKey for others."""
    if access_key != KEYS.access_key:
        raise UnknownKey
    return KEYS.secret_key


def checked(request, payload=None):
    """Check a request that botocore has signed."""
    parts = urlsplit(request.url)
    headers = {name.lower(): value for name, value in request.headers.items()}
    headers.setdefault("host", parts.netloc)
    query = dict(pair.partition("=")[::2] for pair in parts.query.split("&") if pair)
    signature = Signature.of(headers, {name: unquote(value) for name, value in query.items()})
    payload = payload or headers.get("x-amz-content-sha256", UNSIGNED_PAYLOAD)
    signature.check(Request(request.method, parts.path, parts.query, headers, payload), refuse_other, time.time())


@given(
    st.dictionaries(TEXTS.filter(bool), TEXTS, max_size=4),
    TEXTS,
    st.dictionaries(st.sampled_from(["a", "B"]), st.text("aZ0 -_.~/+*%&=?", max_size=8)),
)
def test_what_botocore_signs_is_what_we_check(parameters, key, headers):
    """A header signature of botocore for S3 is accepted for any path, query and headers; another path is refused."""
    query = "&".join(f"{quote(name, safe='-_.~')}={quote(value, safe='-_.~')}" for name, value in parameters.items())
    metadata = {f"x-amz-meta-{name}": value for name, value in headers.items()}
    request = AWSRequest("GET", f"http://127.0.0.1:1/b/{quote(key, safe='/-_.~')}?{query}", metadata, b"")
    S3SigV4Auth(Credentials(KEYS.access_key, KEYS.secret_key), "s3", "us-east-1").add_auth(request)

    checked(request)
    request.url = request.url.replace("/b/", "/c/")
    with pytest.raises(Refused):
        checked(request)


@given(TEXTS, st.binary(max_size=20))
def test_the_other_services_sign_otherwise(path, body):
    """Services other than S3 sign the normalized path, encoded twice, and the body's digest."""
    request = AWSRequest("POST", f"http://127.0.0.1:1/{quote(path, safe='/-_.~')}", {}, body)
    auth = SigV4Auth(Credentials(KEYS.access_key, KEYS.secret_key), "iam", "us-east-1")
    auth.add_auth(request)

    checked(request, auth.payload(request))
    with pytest.raises(Refused):
        checked(request, "0" * 64)


@given(TEXTS, st.integers(1, 7 * 24 * 3600))
def test_presigned_as_botocore_presigns(key, expires):
    """A signature that botocore puts into the query is accepted, for any key and any expiry of up to 7 days."""
    request = AWSRequest("GET", f"http://127.0.0.1:1/b/{quote(key, safe='/-_.~')}", {}, b"")
    SigV4QueryAuth(Credentials(KEYS.access_key, KEYS.secret_key), "iam", "us-east-1", expires=expires).add_auth(request)

    checked(request, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855")


STAMPS = st.text("0123456789TZ/abé-", max_size=18)


@given(
    key=STAMPS, at=STAMPS | st.just("20261399T996161Z"), date=STAMPS | st.just("20261399"), signature=STAMPS,
    presigned=st.booleans(),
)  # fmt: skip
def test_malformed_signature_is_refused(key, at, date, signature, presigned):
    """Any text in the place of a signature is refused with a message, never with a server error."""
    credential = f"{key}/{date}/us-east-1/s3/aws4_request"
    query = {
        "X-Amz-Algorithm": "AWS4-HMAC-SHA256", "X-Amz-Credential": credential, "X-Amz-Date": at, "X-Amz-Expires": "60",
        "X-Amz-SignedHeaders": "host", "X-Amz-Signature": signature,
    }  # fmt: skip
    header = f"AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders=host, Signature={signature}"
    headers = {"host": "127.0.0.1"} | ({} if presigned else {"authorization": header, "x-amz-date": at})

    def check():
        found = Signature.of(headers, query if presigned else {})
        found.check(Request("GET", "/b", "", headers, UNSIGNED_PAYLOAD), lambda *_: "secret", time.time())

    with pytest.raises(Refused):
        check()


@pytest.mark.parametrize("seconds", [-16 * 60, 16 * 60])
def test_a_clock_that_is_wrong_is_told(seconds):
    """A clock that differs by more than the 15 minutes that AWS allows is refused as `late`."""
    request = AWSRequest("GET", "http://127.0.0.1:1/b", {}, b"")
    S3SigV4Auth(Credentials(KEYS.access_key, KEYS.secret_key), "s3", "us-east-1").add_auth(request)
    headers = {"host": "127.0.0.1:1", **{name.lower(): value for name, value in request.headers.items()}}
    signature = Signature.of(headers, {})
    whole = Request("GET", "/b", "", headers, headers["x-amz-content-sha256"])
    signature.check(whole, refuse_other, time.time())

    with pytest.raises(Refused) as caught:
        signature.check(whole, refuse_other, time.time() + seconds)
    assert caught.value.reason == "late"
