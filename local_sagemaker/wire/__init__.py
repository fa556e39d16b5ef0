"""AWS's wire protocols, from botocore's service models: parsing, constraints, errors, serialisation."""
