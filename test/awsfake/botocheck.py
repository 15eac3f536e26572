"""Checks the JSON body of an AWS request, read from standard input, against AWS's own service model in
botocore. Usage: botocheck.py SERVICE OPERATION. Prints what the model forbids, a line each; exits 1 if
there is any.

botocore's own validator knows required members, types and lower bounds. The rest of the model, which the
services enforce, is looked at here: unknown members, enums, patterns, upper bounds.
"""
import json
import re
import sys

import botocore.session
import botocore.validate


def walk(value, shape, path):
    """Yields what botocore's validator leaves to the service."""
    limit = shape.metadata.get("max")
    if limit is not None and hasattr(value, "__len__") and len(value) > limit:
        yield f"{path}: length {len(value)}, at most {limit}"
    if limit is not None and isinstance(value, int) and value > limit:
        yield f"{path}: {value}, at most {limit}"
    if shape.type_name == "structure" and isinstance(value, dict):
        for name, member in value.items():
            if name in shape.members:
                yield from walk(member, shape.members[name], f"{path}.{name}")
            else:
                yield f"{path}.{name}: unknown member"
    elif shape.type_name == "list" and isinstance(value, list):
        for i, member in enumerate(value):
            yield from walk(member, shape.member, f"{path}[{i}]")
    elif shape.type_name == "map" and isinstance(value, dict):
        for key, member in value.items():
            yield from walk(key, shape.key, f"{path}: the key {key!r}")
            yield from walk(member, shape.value, f"{path}.{key}")
    elif shape.type_name == "string" and isinstance(value, str):
        if shape.enum and value not in shape.enum:
            yield f"{path}: {value!r} is none of {', '.join(shape.enum)}"
        pattern = shape.metadata.get("pattern")
        if pattern and not re.fullmatch(python_pattern(pattern), value):
            yield f"{path}: {value!r} does not match {pattern}"


def python_pattern(pattern):
    # Java's classes, as near as Python comes to them.
    for java, python in ((r"\p{L}", r"\w"), (r"\p{Z}", r"\s"), (r"\p{N}", r"\d")):
        pattern = pattern.replace(java, python)
    return pattern


def main():
    service, operation = sys.argv[1:]
    body = json.load(sys.stdin)
    model = botocore.session.get_session().get_service_model(service)
    shape = model.operation_model(operation).input_shape
    found = list(walk(body, shape, operation))
    report = botocore.validate.ParamValidator().validate(body, shape)
    if report.has_errors():
        found.append(report.generate_report())
    print("\n".join(found))
    return 1 if found else 0


sys.exit(main())
