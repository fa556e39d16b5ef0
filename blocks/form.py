"""The JSON schema of the project block, from which Prefect's UI makes its form.

Neither UI of Prefect (3.8.8, 3.9.1) checks a pattern when a block is saved. V1 checks only required fields; V2 passes
the values to the server's check in place of the schema. So the description of a field also says which values are valid.
`SageMakerProject.named` refuses a saved block with an invalid value, names the field, and does nothing else with it.
"""

from __future__ import annotations

from typing import Any


def plain_inputs(schema: dict[str, Any]) -> None:
    """Make each `str | None` of a block's JSON schema an optional string.

    Otherwise V2 shows a switch of "str" and "None" and the words `Property is type "None"` instead of an input, and the
    server's check says "is not valid under any of the given schemas" instead of the violated pattern. The check accepts
    null for a field that has no default and is not required, so a block that was saved by code passes it.
    """
    for field in schema["properties"].values():
        kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del field["anyOf"], field["default"]
            field.update(kinds[0])
