"""The scenarios that come with the service: `builtin.toml`."""

import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

from google.protobuf import json_format
from heliograph.candidate.v1alpha1 import scenarios_pb2


def read(path: Path) -> Mapping[str, scenarios_pb2.Scenario]:
    """Scenarios by name: one table each, with the fields of the proto. Raises ParseError for a
    field that it lacks."""
    scenarios = {}
    for name, fields in tomllib.loads(path.read_text()).items():
        scenario = json_format.ParseDict(fields, scenarios_pb2.Scenario())
        scenario.name = name
        scenario.built_in = True
        scenarios[name] = scenario
    return MappingProxyType(scenarios)


BUILT_IN = read(Path(__file__).with_name("builtin.toml"))
