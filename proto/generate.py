"""Makes gen/ from proto/: stubs, the descriptor set that the edge transcodes by, JSON Schemas of events.

Run by `make gen`; with --check, by `make check`, it makes them elsewhere and compares. Fails when a method does not say
who may call it.
"""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
MADE = ("soma", "buf", "schemas", "soma.binpb")


def main() -> None:
    if "--check" in sys.argv:
        with TemporaryDirectory() as elsewhere:
            generate(Path(elsewhere))
            compare(Path(elsewhere), ROOT / "gen")
        return
    for old in MADE[:3]:
        shutil.rmtree(ROOT / "gen" / old, ignore_errors=True)
    generate(ROOT / "gen")


def generate(gen: Path) -> None:
    ours = sorted(PROTO.glob("soma/**/*.proto"))
    compile_stubs(gen, [*ours, PROTO / "buf/validate/validate.proto"])
    write_descriptor_set(gen, ours)
    sys.path.insert(0, str(gen))
    check_access(gen / "soma.binpb")
    write_event_schemas(gen, [p for p in ours if "events" in p.parts])


def compare(fresh: Path, kept: Path) -> None:
    """Exit with the names of files that are not what the contracts make."""
    stale = sorted(str(name) for name in files(fresh) ^ files(kept))
    stale += [str(n) for n in sorted(files(fresh) & files(kept)) if (fresh / n).read_bytes() != (kept / n).read_bytes()]
    if stale:
        sys.exit("gen/ is not what proto/ makes. Run `make gen` and commit: " + ", ".join(stale))


def files(folder: Path) -> set[Path]:
    found = {p.relative_to(folder) for p in folder.rglob("*") if p.is_file() and "__pycache__" not in p.parts}
    return {p for p in found if p.parts[0] in MADE}


def compile_stubs(gen: Path, files: list[Path]) -> None:
    """upb messages with types for every file, grpc.aio stubs with types for services only."""
    gen.mkdir(exist_ok=True)
    names = [str(f.relative_to(PROTO)) for f in files]
    services = [n for n in names if n.endswith("_service.proto")]
    protoc(f"--python_out={gen}", f"--mypy_out=quiet:{gen}", *names)
    protoc(f"--grpc_python_out={gen}", f"--mypy_grpc_out=quiet,only_async:{gen}", *services)


def write_descriptor_set(gen: Path, files: list[Path]) -> None:
    """What the transcoder, reflection tools and tests read: with everything imported, without comments.

    error_details is in it so that the edge can print ErrorInfo.
    """
    names = [*(str(f.relative_to(PROTO)) for f in files), "google/rpc/error_details.proto", "google/rpc/status.proto"]
    protoc("--include_imports", f"--descriptor_set_out={gen / 'soma.binpb'}", *names)


def protoc(*args: str) -> None:
    bin_dir = Path(sys.executable).parent
    plugins = [f"--plugin={p}={bin_dir / p}" for p in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *plugins, *args], check=False
    )
    if done.returncode:
        sys.exit(done.returncode)


def check_access(descriptors: Path) -> None:
    """Exit with a sentence for each method that does not say who may call it."""
    access = import_module("soma.common.v1.access_pb2").access
    files = descriptor_pb2.FileDescriptorSet.FromString(descriptors.read_bytes())
    faults = []
    for file in files.file:
        for service in file.service:
            for method in service.method:
                rule = method.options.Extensions[access]
                name = f"{file.package}.{service.name}.{method.name}"
                if not rule.workloads:
                    faults.append(f"{name}: no workload may call it. Add option (soma.common.v1.access).")
                elif bool(rule.roles) == rule.public:
                    faults.append(f"{name}: say either which roles may call it or that it is public.")
    if faults:
        sys.exit("\n".join(faults))


def write_event_schemas(gen: Path, files: list[Path]) -> None:
    """One JSON Schema (2020-12) an event: what its proto3 JSON looks like, with the protovalidate rules."""
    (gen / "schemas").mkdir()
    for file in files:
        module = import_module(str(file.relative_to(PROTO).with_suffix("")).replace("/", ".") + "_pb2")
        for message in module.DESCRIPTOR.message_types_by_name.values():
            text = json.dumps(event_schema(message), indent=2)
            (gen / "schemas" / f"{message.full_name}.json").write_text(text + "\n")


def event_schema(message: Descriptor) -> dict[str, object]:
    """Every field without `optional` is required: events are written with all their fields."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": f"{message.full_name}.json",
        "type": "object",
        "properties": {f.json_name: field_schema(f) for f in message.fields},
        "required": [f.json_name for f in message.fields if not f.has_presence],
        "additionalProperties": False,
    }


def field_schema(field: FieldDescriptor) -> dict[str, object]:
    rules = field.GetOptions().Extensions[import_module("buf.validate.validate_pb2").field]
    if field.type == FieldDescriptor.TYPE_STRING:
        return {"type": "string"} | string_rules(rules.string)
    if field.type == FieldDescriptor.TYPE_INT64:
        return {"type": "string", "pattern": "^-?[0-9]{1,19}$"}
    if field.type == FieldDescriptor.TYPE_UINT32:
        const = {"const": rules.uint32.const} if rules.uint32.HasField("const") else {}
        return {"type": "integer", "minimum": 0, "maximum": 2**32 - 1} | const
    if field.type == FieldDescriptor.TYPE_INT32:
        return {"type": "integer", "minimum": -(2**31), "maximum": 2**31 - 1}
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return {"type": "number"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"type": "boolean"}
    sys.exit(f"{field.full_name}: events are flat; this type has no place in one.")


def string_rules(rules: Any) -> dict[str, object]:
    schema: dict[str, object] = {}
    if rules.HasField("min_len"):
        schema["minLength"] = rules.min_len
    if rules.HasField("pattern"):
        schema["pattern"] = rules.pattern
    if rules.uuid:
        schema["format"] = "uuid"
    if allowed := getattr(rules, "in"):
        schema["enum"] = list(allowed)
    return schema


if __name__ == "__main__":
    main()
