"""verifier/ does no I/O, reads no clock and draws no random number; its codes are those of the schema."""

import ast
import enum
from collections.abc import Iterator
from pathlib import Path
from types import MappingProxyType

import pytest
from google.protobuf.internal.enum_type_wrapper import EnumTypeWrapper
from trigpoint.v1 import device_pb2, place_pb2, reason_pb2

from tests.verifier.helpers_evidence import REPOSITORY
from verifier import errors
from verifier.appraise import SEVERITY
from verifier.errors import (
    BasisError,
    EvidenceError,
    RangeError,
    Reason,
    RecordNotSignedError,
    TrigpointError,
    UsageError,
)
from verifier.evidence.chain import DeviceKind
from verifier.license import Presence
from verifier.place.answers import Assurance, PlaceAnswer
from verifier.verdict import Severity, Standing

MODULES = sorted((REPOSITORY / "verifier").rglob("*.py"))

# Everything that a pure core of bytes and values needs; what is not here is asked about before it is added.
ALLOWED_IMPORTS = frozenset(
    {
        "abc",
        "awscrt.crypto",
        "base64",
        "binascii",
        "cbor2",
        "collections",
        "collections.abc",
        "csv",
        "dataclasses",
        "datetime",
        "enum",
        "functools",
        "hashlib",
        "heapq",
        "io",
        "itertools",
        "json",
        "math",
        "nacl.bindings",
        "nacl.exceptions",
        "numpy",
        "numpy.typing",
        "operator",
        "random",
        "re",
        "spherely",
        "types",
        "typing",
        "unicodedata",
    }
)
ALLOWED_PACKAGES = frozenset({"cryptography", "verifier"})
# What these modules offer beyond values. `random.Random` is a type for the caller's generator.
ALLOWED_OF = MappingProxyType({"io": {"BytesIO", "StringIO"}, "random": {"Random"}})
FORBIDDEN_CALLS = frozenset({"open", "print", "input", "exec", "eval", "compile", "breakpoint", "__import__"})
FORBIDDEN_ATTRIBUTES = frozenset(
    {
        "fromfile",
        "generate",
        "generate_private_key",
        "genfromtxt",
        "load",
        "loadtxt",
        "memmap",
        "read_bytes",
        "read_text",
        "save",
        "savetxt",
        "today",
        "tofile",
        "urandom",
        "utcnow",
        "write_bytes",
        "write_text",
    }
)


def impurities(source: str) -> Iterator[str]:
    """What a module does that is neither computing nor importing what computes."""
    for node in ast.walk(ast.parse(source)):
        yield from _impure_import(node)
        yield from _impure_use(node)


def _impure_import(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Import(names=names):
            yield from (f"import {n.name}" for n in names if not _may_import(n.name))
        case ast.ImportFrom(module=module, names=names, level=level):
            name = module or ""
            if level or not _may_import(name):
                yield f"from {name} import"
            elif name in ALLOWED_OF:
                yield from (f"{name}.{n.name}" for n in names if n.name not in ALLOWED_OF[name])


def _impure_use(node: ast.AST) -> Iterator[str]:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in FORBIDDEN_CALLS:
            yield f"{name}()"
        case ast.Attribute(value=ast.Name(id=module_name), attr=attribute) if module_name in ALLOWED_OF:
            if attribute not in ALLOWED_OF[module_name]:
                yield f"{module_name}.{attribute}"
        case ast.Call(func=ast.Attribute(attr="now")):
            yield ".now()"
        case ast.Attribute(attr=attribute) if attribute in FORBIDDEN_ATTRIBUTES:
            yield f".{attribute}"
        case ast.Attribute(value=ast.Name(id="np" | "numpy"), attr="random"):
            yield "numpy.random"
        case ast.Global(names=names):
            yield f"global {', '.join(names)}"


def _may_import(name: str) -> bool:
    return name in ALLOWED_IMPORTS or name.partition(".")[0] in ALLOWED_PACKAGES


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(REPOSITORY)))
def test_module_is_pure(path: Path) -> None:
    assert list(impurities(path.read_text(encoding="utf-8"))) == []


def test_all_modules_are_looked_at() -> None:
    assert {"verifier.py", "spdm.py", "fix.py"} <= {path.name for path in MODULES}


@pytest.mark.parametrize(
    "source",
    [
        "import os",
        "import socket",
        "import time",
        "import logging",
        "import secrets",
        "import threading",
        "import asyncio",
        "from pathlib import Path",
        "from os import environ",
        "from . import x",
        "import google.protobuf",
        "import grpc",
        "from server.store import Store",
        "from random import randrange",
        "import random\nrandom.random()",
        "import random\nrandom.SystemRandom()",
        "import io\nio.open('x')",
        "from io import FileIO",
        "open('x')",
        "print('x')",
        "eval('x')",
        "datetime.now(UTC)",
        "datetime.datetime.utcnow()",
        "date.today()",
        "np.random.rand()",
        "np.load('x')",
        "ec.generate_private_key(curve)",
        "Ed25519PrivateKey.generate()",
        "def f():\n    global cache",
    ],
)
def test_impure_source_is_found(source: str) -> None:
    assert list(impurities(source))


@pytest.mark.parametrize(
    "source", ["import io\nio.BytesIO(b'')", "import random\nf: random.Random", "x.verify(inputs.now)"]
)
def test_pure_source_is_let_pass(source: str) -> None:
    assert list(impurities(source)) == []


@pytest.mark.parametrize(
    ("ours", "theirs", "prefix"),
    [
        (Reason, reason_pb2.Reason, "REASON_"),
        (Severity, device_pb2.Severity, "SEVERITY_"),
        (Standing, device_pb2.Standing, "STANDING_"),
        (DeviceKind, device_pb2.DeviceKind, "DEVICE_KIND_"),
        (Presence, place_pb2.Presence, "PRESENCE_"),
        (PlaceAnswer, place_pb2.PlaceAnswer, "PLACE_ANSWER_"),
        (Assurance, place_pb2.Assurance, "ASSURANCE_"),
    ],
    ids=lambda v: v.__name__ if isinstance(v, type) else "",
)
def test_codes_are_those_of_the_schema(ours: type[enum.IntEnum], theirs: EnumTypeWrapper, prefix: str) -> None:
    schema = {name.removeprefix(prefix): number for name, number in theirs.items()}
    assert schema.pop("UNSPECIFIED") == 0
    assert {member.name: member.value for member in ours} == schema


def leaves(error: type[TrigpointError]) -> set[type[TrigpointError]]:
    below = error.__subclasses__()
    return {error} if not below else set[type[TrigpointError]]().union(*map(leaves, below))


def test_each_error_has_its_own_reason() -> None:
    for family, numbers in ((EvidenceError, range(1, 100)), (RangeError, range(201, 300))):
        reasons = sorted(leaf.reason for leaf in leaves(family))  # type: ignore[attr-defined]
        assert reasons == [r for r in Reason if r in numbers]
    # Errors of results and of the journal stand beside what raises them.
    own = {leaf for leaf in leaves(TrigpointError) if leaf.__module__ == errors.__name__}
    assert own == leaves(EvidenceError) | leaves(RangeError) | {BasisError, RecordNotSignedError}
    assert {name for name in vars(errors) if name.endswith("Error")} == {
        e.__name__ for e in own | {TrigpointError, EvidenceError, RangeError, UsageError}
    }


def test_each_finding_has_its_severity() -> None:
    assert set(SEVERITY) == {r for r in Reason if 100 < r < 200}
