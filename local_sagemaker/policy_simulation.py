"""`iam:SimulatePrincipalPolicy`, which the SageMaker SDK v3 calls before it trains and which moto lacks.

The decisions are those of `iam.policies`, by which this server authorizes requests.
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterator, Mapping
from xml.etree.ElementTree import Element, SubElement, tostring

from local_sagemaker.iam.policies import Decision, Permission
from local_sagemaker.iam.roles import RoleTable

_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"


def simulate(parameters: Mapping[str, str], roles: RoleTable) -> bytes:
    """Return the answer document: the decision for each action on each resource.

    Args:
        parameters: the parameters of the query request.
        roles: the roles of the home. A principal that is not one of them, such as a user, may do everything.
    """
    role = roles.get(parameters.get("PolicySourceArn", ""))
    context = dict(_context(parameters))
    answer = Element("SimulatePrincipalPolicyResponse", xmlns=_NAMESPACE)
    result = SubElement(answer, "SimulatePrincipalPolicyResult")
    SubElement(result, "IsTruncated").text = "false"
    results = SubElement(result, "EvaluationResults")
    for action in _members(parameters, "ActionNames"):
        for resource in _members(parameters, "ResourceArns") or ["*"]:
            decision = (
                role.decide(Permission(action, resource, context), "simulation") if role else Decision(allowed=True)
            )
            member = SubElement(results, "member")
            SubElement(member, "EvalActionName").text = action
            SubElement(member, "EvalResourceName").text = resource
            SubElement(member, "EvalDecision").text = _word(decision)
    SubElement(SubElement(answer, "ResponseMetadata"), "RequestId").text = str(uuid.uuid4())
    document: bytes = tostring(answer, encoding="utf-8", xml_declaration=True)
    return document


def _word(decision: Decision) -> str:
    if decision.allowed:
        return "allowed"
    return "explicitDeny" if decision.explicit else "implicitDeny"


def _members(parameters: Mapping[str, str], name: str) -> list[str]:
    return [value for key, value in parameters.items() if re.fullmatch(rf"{re.escape(name)}\.member\.\d+", key)]


def _context(parameters: Mapping[str, str]) -> Iterator[tuple[str, list[str]]]:
    """Yield the key and the values of each `ContextEntries.member.N`."""
    for name, value in parameters.items():
        if found := re.fullmatch(r"(ContextEntries\.member\.\d+)\.ContextKeyName", name):
            yield value.lower(), _members(parameters, f"{found[1]}.ContextKeyValues")
