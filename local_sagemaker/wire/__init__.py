"""The JSON 1.1 wire of AWS, from botocore's own service models: parsing, constraints, errors, serialisation."""
