"""`iam:SimulatePrincipalPolicy`, which the SageMaker SDK v3 asks before it trains and which moto lacks.

Nothing in this backend enforces a policy: whoever reaches it on loopback may do everything. The honest answer to "may
this role do that?" is therefore `allowed`. Used by `moto_services`.
"""

from __future__ import annotations

import uuid
from collections.abc import Mapping, Sequence
from xml.etree.ElementTree import Element, SubElement, tostring

_NAMESPACE = "https://iam.amazonaws.com/doc/2010-05-08/"


def simulate(parameters: Mapping[str, Sequence[str]]) -> bytes:
    """Return the answer document for the parameters of a query request: each action on each resource."""
    answer = Element("SimulatePrincipalPolicyResponse", xmlns=_NAMESPACE)
    result = SubElement(answer, "SimulatePrincipalPolicyResult")
    SubElement(result, "IsTruncated").text = "false"
    results = SubElement(result, "EvaluationResults")
    for action in _members(parameters, "ActionNames"):
        for resource in _members(parameters, "ResourceArns") or ["*"]:
            member = SubElement(results, "member")
            SubElement(member, "EvalActionName").text = action
            SubElement(member, "EvalResourceName").text = resource
            SubElement(member, "EvalDecision").text = "allowed"
    SubElement(SubElement(answer, "ResponseMetadata"), "RequestId").text = str(uuid.uuid4())
    document: bytes = tostring(answer, encoding="utf-8", xml_declaration=True)
    return document


def _members(parameters: Mapping[str, Sequence[str]], name: str) -> list[str]:
    return [values[0] for key, values in parameters.items() if key.startswith(f"{name}.member.")]
