"""Policy evaluation, compared with the tables and sentences of the IAM User Guide, and as properties."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from local_sagemaker.iam.policies import MalformedPolicy, Permission, Policy, decide
from local_sagemaker.iam.roles import Access, NotAuthorized, Role, RoleTable
from local_sagemaker.iam.sessions import Session
from local_sagemaker.s3.permissions import object_arn

OBJECT = "arn:aws:s3:::bucket/folder/name"


def policy(*statements, version="2012-10-17"):
    """Return a policy; a statement without effect, action or resource allows all actions on all resources."""
    filled = [
        {"Effect": "Allow"} | ({} if "NotResource" in one else {"Resource": "*"}) | one
        for one in ({"Action": "*"} | one if "NotAction" not in one else one for one in statements)
    ]
    return Policy.of({"Version": version, "Statement": filled})


def allows(*policies, action="s3:GetObject", resource=OBJECT, boundary=None, **context):
    """Return whether policies allow a request; `__` stands for the colon in a context key."""
    found = {key.replace("__", ":"): value for key, value in context.items()}
    return decide(policies, Permission(action, resource, found), boundary).allowed


@pytest.mark.parametrize(
    ("pattern", "action", "matches"),
    [
        ("s3:GetObject", "s3:GetObject", True),
        ("S3:getobject", "s3:GetObject", True),  # "The prefix and the action name are case insensitive."
        ("s3:Get*", "s3:GetObject", True),
        ("s3:*Object", "s3:GetObject", True),
        ("s3:GetObjec?", "s3:GetObject", True),
        ("s3:Get", "s3:GetObject", False),
        ("s3:GetObject", "s3:GetObjectTagging", False),
        ("*", "s3:GetObject", True),
        ("s3:Get.*", "s3:GetObject", False),
    ],
)
def test_actions(pattern, action, matches):
    """Actions match by wildcards and ignore case; `NotAction` matches all others."""
    assert allows(policy({"Action": pattern}), action=action) is matches
    assert allows(policy({"NotAction": [pattern]}), action=action) is not matches


@pytest.mark.parametrize(
    ("pattern", "resource", "matches"),
    [
        ("arn:aws:s3:::bucket/*", OBJECT, True),
        ("arn:aws:s3:::bucket", OBJECT, False),
        ("arn:aws:s3:::Bucket/*", OBJECT, False),
        ("arn:aws:s3:::bucket/fold*ame", OBJECT, True),  # a star also matches slashes
        ("arn:aws:s3:::bucket/folder/nam?", OBJECT, True),
        ("arn:aws:s3:::bucket/folder/name?", OBJECT, False),
        ("arn:aws:s3:::bucket/${*}", "arn:aws:s3:::bucket/*", True),
        ("arn:aws:s3:::bucket/${*}", OBJECT, False),
        ("arn:aws:s3:::bucket/${$}{a}", "arn:aws:s3:::bucket/${a}", True),
        ("arn:aws:s3:::bucket/two\nlines*", "arn:aws:s3:::bucket/two\nlines\nmore", True),
        # "If you specify an incomplete ARN … AWS automatically completes the ARN by adding wildcard characters."
        ("arn:aws:sqs", "arn:aws:sqs:us-east-1:123456789012:queue", True),
        ("arn:aws:logs:*:*:log-group:/a*", "arn:aws:logs:us-east-1:123456789012:log-group:/a/b:log-stream:c", True),
    ],
)
def test_resources(pattern, resource, matches):
    """Resources match by wildcards and respect case; `NotResource` matches all others."""
    assert allows(policy({"Resource": pattern}), resource=resource) is matches
    assert allows(policy({"NotResource": pattern}), resource=resource) is not matches


@pytest.mark.parametrize(
    ("operator", "wanted", "value", "holds"),
    [
        ("StringEquals", "a", "a", True),
        ("StringEquals", ["b", "a"], "a", True),
        ("StringEquals", "a*", "ab", False),
        ("StringEquals", "A", "a", False),
        ("StringNotEquals", ["a", "b"], "b", False),
        ("StringNotEquals", ["a", "b"], "c", True),
        ("StringEqualsIgnoreCase", "A", "a", True),
        ("StringNotEqualsIgnoreCase", "A", "a", False),
        ("StringLike", "data/*", "data/x/y", True),
        ("StringLike", "data/*", "data2/x", False),
        ("StringNotLike", "data/*", "data2/x", True),
        ("NumericEquals", "10", "10.0", True),
        ("NumericNotEquals", 10, "11", True),
        ("NumericLessThan", "10", "9", True),
        ("NumericLessThanEquals", "10", "10", True),
        ("NumericGreaterThan", "10", "10", False),
        ("NumericGreaterThanEquals", "10", "10", True),
        ("NumericEquals", "10", "ten", False),
        ("DateLessThan", "2026-01-01T00:00:00Z", "2025-12-31T23:59:59Z", True),
        ("DateGreaterThan", "2026-01-01T00:00:00Z", "1767225600", False),
        ("DateGreaterThanEquals", "2026-01-01T00:00:00Z", "1767225600", True),
        ("Bool", True, "true", True),
        ("Bool", "True", "false", False),
        ("BinaryEquals", "QmluYXJ5", "QmluYXJ5", True),
        ("IpAddress", "203.0.113.0/24", "203.0.113.9", True),
        ("IpAddress", "2001:DB8:1234:5678::/64", "2001:db8:1234:5678::9", True),
        ("NotIpAddress", "203.0.113.0/24", "203.0.113.9", False),
        ("ArnLike", "arn:aws:iam::*:role/a*", "arn:aws:iam::123456789012:role/ab", True),
        ("ArnEquals", "arn:aws:iam::*:role/a*", "arn:aws:iam::123456789012:role/ab", True),
        ("ArnLike", "arn:aws:iam:*:role/a", "arn:aws:iam::123456789012:role/a", False),  # each component by itself
        ("ArnNotLike", "arn:aws:iam::*:role/a*", "arn:aws:iam::123456789012:role/b", True),
    ],
)
def test_operators(operator, wanted, value, holds):
    """Each operator of the guide compares the policy's value with the request's value."""
    conditioned = policy({"Condition": {operator: {"Test:Key": wanted}}})

    assert allows(conditioned, test__key=[value]) is holds
    assert allows(policy({"Condition": {f"{operator}IfExists": {"test:key": wanted}}}), test__key=[value]) is holds


@pytest.mark.parametrize(
    ("operator", "holds"),
    [
        ("StringEquals", False),
        ("StringNotEquals", True),
        ("StringLike", False),
        ("NumericLessThan", False),
        ("Bool", False),
        ("IpAddress", False),
        ("NotIpAddress", True),
        ("ArnNotLike", True),
        ("StringEqualsIfExists", True),
        ("BoolIfExists", True),
        ("ForAllValues:StringLike", True),
        ("ForAnyValue:StringLike", False),
        ("ForAnyValue:StringNotEquals", False),
    ],
)
def test_a_key_that_the_request_lacks(operator, holds):
    """For a key that the request lacks, conditions are false; negated ones, `…IfExists` and `ForAllValues` are true."""
    assert allows(policy({"Condition": {operator: {"test:key": "1"}}})) is holds


@pytest.mark.parametrize(
    ("operator", "values", "holds"),
    [
        ("ForAllValues:StringEquals", ["a", "b"], True),
        ("ForAllValues:StringEquals", ["a", "c"], False),
        ("ForAnyValue:StringEquals", ["c", "a"], True),
        ("ForAnyValue:StringEquals", ["c"], False),
        ("ForAllValues:StringNotEquals", ["c", "d"], True),
        ("ForAnyValue:StringNotEquals", ["a", "c"], True),
        ("ForAnyValue:StringNotEquals", ["a", "b"], False),
    ],
)
def test_keys_with_several_values(operator, values, holds):
    """`ForAllValues` needs all of the request's values to match one of the policy's; `ForAnyValue` needs one."""
    assert allows(policy({"Condition": {operator: {"aws:TagKeys": ["a", "b"]}}}), aws__tagkeys=values) is holds


def test_null():
    """`Null` checks whether the request lacks the key."""
    absent = policy({"Condition": {"Null": {"test:key": "true"}}})
    present = policy({"Condition": {"Null": {"test:key": False}}})

    assert (allows(absent), allows(absent, test__key=["1"])) == (True, False)
    assert (allows(present), allows(present, test__key=["1"])) == (False, True)


def test_all_conditions_must_hold():
    """Operators and keys are joined by AND, values by OR."""
    both = policy({"Condition": {"StringEquals": {"a:a": ["1", "2"], "a:b": "3"}, "Bool": {"a:c": "true"}}})

    assert allows(both, a__a=["2"], a__b=["3"], a__c=["true"])
    assert not allows(both, a__a=["2"], a__b=["4"], a__c=["true"])
    assert not allows(both, a__a=["2"], a__b=["3"])


def test_variables():
    """`${key}` stands for the request's value, in which a star is literal; a missing key matches nothing."""
    home = policy({"Resource": "arn:aws:s3:::bucket/${aws:PrincipalTag/team}/*"})
    fallback = policy({"Resource": "arn:aws:s3:::bucket/${aws:PrincipalTag/team, 'folder'}/*"})
    tag = {"aws__principaltag/team": ["folder"]}

    assert allows(home, **tag)
    assert not allows(home)
    assert not allows(home, **{"aws__principaltag/team": ["*"]})
    assert allows(fallback)
    old = policy({"Resource": "arn:aws:s3:::bucket/${aws:PrincipalTag/team}/*"}, version="2008-10-17")
    assert not allows(old, **tag)
    blank = policy({"Resource": "arn:aws:s3:::bucket/${ aws:PrincipalTag/cost center , 'x' }/*"})
    assert allows(blank, **{"aws__principaltag/cost center": ["folder"]})
    assert not allows(blank, **{"aws__principaltag/cost": ["folder"]})
    assert allows(old, resource="arn:aws:s3:::bucket/${aws:PrincipalTag/team}/x")


def test_boundary_only_limits():
    """A boundary grants nothing: a request must be allowed by a policy and by the boundary."""
    everything, reading = policy({}), policy({"Action": "s3:Get*"})

    assert allows(everything, boundary=reading)
    assert not allows(everything, boundary=reading, action="s3:PutObject")
    assert not allows(boundary=everything)
    refused = decide([everything], Permission("s3:PutObject", OBJECT), reading)
    assert refused.because("s3:PutObject") == "because no permissions boundary allows the s3:PutObject action"


@pytest.mark.parametrize(("region", "partition"), [("eu-west-1", "aws"), ("cn-north-1", "aws-cn")])
def test_policies_name_resources_in_the_partition_of_the_home(tmp_path, region, partition):
    """Policies and refusals use ARNs in the partition of the home's region, such as `aws-cn` in China."""
    arn = f"arn:{partition}:iam::123456789012:role/fit"
    statement = {"Effect": "Allow", "Action": "s3:GetObject", "Resource": f"arn:{partition}:s3:::data/in/*"}
    roles = RoleTable(tmp_path)
    roles.write([Role(arn, "AROA", [json.dumps({"Version": "2012-10-17", "Statement": statement})])], 0)
    access = Access(Session(arn, "SageMaker"), roles, region)

    access.check(Permission("s3:GetObject", object_arn("data", "in/a")))
    with pytest.raises(NotAuthorized, match=f'on resource: "arn:{partition}:s3:::data/out"'):
        access.check(Permission("s3:GetObject", object_arn("data", "out")))


def test_a_resource_that_cannot_be_told():
    """If the resource is unknown, any statement on the action allows it, and only a denial of all resources denies."""
    narrow = policy({"Action": "kms:*", "Resource": "arn:aws:kms:*:*:key/1"})
    denying = policy({"Effect": "Deny", "Resource": "arn:aws:kms:*:*:key/2"})

    assert allows(narrow, denying, action="kms:Decrypt", resource=None)
    assert not allows(narrow, policy({"Effect": "Deny"}), action="kms:Decrypt", resource=None)
    assert not allows(narrow, action="s3:GetObject", resource=None)


@pytest.mark.parametrize(
    "document",
    [
        "no JSON",
        {"Version": "2012-10-17"},
        {"Statement": [{"Effect": "Perhaps", "Action": "*", "Resource": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": "*"}]},
        {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Equals": {"a": "b"}}}]},
        {"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": {"Bool": "b"}}]},
    ],
)
def test_what_is_no_policy_is_refused(document):
    """An invalid policy is refused, not taken as empty: a `Deny` in it would be lost."""
    with pytest.raises(MalformedPolicy):
        Policy.of(document)


# -- properties ----------------------------------------------------------------------------------------------------

PATTERNS = st.sampled_from(["*", "s3:*", "s3:Get*", "s3:GetObject", "s3:PutObject", "kms:?ecrypt", "logs:*"])
RESOURCES = st.sampled_from(["*", "arn:aws:s3:::bucket/*", "arn:aws:s3:::bucket/fold*", OBJECT, "arn:aws:s3:::other/*"])
CONDITIONS = st.sampled_from(
    [{}, {"Bool": {"a:b": "true"}}, {"StringNotEquals": {"a:c": "x"}}, {"Null": {"a:b": "true"}}]
)
STATEMENTS = st.fixed_dictionaries(
    {"Effect": st.sampled_from(["Allow", "Deny"]), "Action": st.lists(PATTERNS, min_size=1, max_size=3)}
    | {"Resource": st.lists(RESOURCES, min_size=1, max_size=3), "Condition": CONDITIONS}
)
NEEDS = st.builds(
    Permission,
    st.sampled_from(["s3:GetObject", "s3:PutObject", "kms:Decrypt", "logs:PutLogEvents"]),
    st.sampled_from([OBJECT, "arn:aws:s3:::other/x", "*"]),
    st.sampled_from([{}, {"a:b": ["true"]}, {"a:c": ["x"]}]),
)


@given(st.data(), st.lists(STATEMENTS, min_size=1, max_size=6), NEEDS)
def test_the_order_does_not_matter(data, statements, need):
    """Neither the order of statements nor their distribution over policies changes the decision."""
    shuffled = data.draw(st.permutations(statements))
    cut = data.draw(st.integers(0, len(statements)))
    parts = [Policy.of({"Version": "2012-10-17", "Statement": part}) for part in (shuffled[:cut], shuffled[cut:])]

    assert decide(parts, need) == decide([policy(*statements)], need)


@given(st.lists(STATEMENTS, max_size=6), STATEMENTS, NEEDS)
def test_a_denial_wins(statements, denial, need):
    """A `Deny` that applies refuses the request, whatever else allows it; one that does not apply changes nothing."""
    denial = denial | {"Effect": "Deny"}
    applies = decide([policy(denial | {"Effect": "Allow"})], need).allowed
    before, after = (decide([policy(*some, {"Action": "*"})], need) for some in (statements, [*statements, denial]))

    assert after.allowed == (before.allowed and not applies)
    assert after.explicit or not applies


@given(st.lists(STATEMENTS, max_size=6), NEEDS)
def test_nothing_is_allowed_by_itself(statements, need):
    """Without an `Allow` that applies, a request is denied."""
    denials = [statement | {"Effect": "Deny"} for statement in statements]

    assert not decide([policy(*denials)], need).allowed
    assert not decide([], need).allowed


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_wildcards_match_as_iam_has_it(pattern, text):
    """`*` matches any text and `?` exactly one character, as in a definition that is written out here."""

    def matches(pattern, text):
        if not pattern:
            return not text
        if pattern[0] == "*":
            return any(matches(pattern[1:], text[start:]) for start in range(len(text) + 1))
        return bool(text) and pattern[0] in ("?", text[0]) and matches(pattern[1:], text[1:])

    assert allows(policy({"Resource": f"arn:aws:s3:::{pattern}"}), resource=f"arn:aws:s3:::{text}") == matches(
        pattern, text
    )
