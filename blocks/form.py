"""The form of our block in Prefect's UI, as far as the block's JSON schema decides it.

Neither UI of Prefect (3.8.8, 3.9.1) checks a pattern when a block is saved: V1 asks for nothing but what is required,
and V2 hands the values to the server's check in place of the schema. So what a field may be is said in its description
too, and `SageMakerProject.named` refuses a saved block with a bad value, by the field's name, before anything is done
with it.
"""

from __future__ import annotations

from typing import Any


def plain_inputs(schema: dict[str, Any]) -> None:
    """Make each `str | None` of a block's JSON schema a text that may be left out.

    Else V2 shows a switch of "str" and "None" and the words `Property is type "None"` where one looks for an input, and
    the server's check says "is not valid under any of the given schemas" where the pattern would say what is wrong.
    That check takes null for a field that has no default and is not required, so a block saved by code passes it.
    """
    for field in schema["properties"].values():
        kinds = [kind for kind in field.get("anyOf", ()) if kind != {"type": "null"}]
        if len(kinds) == 1:
            del field["anyOf"], field["default"]
            field.update(kinds[0])
