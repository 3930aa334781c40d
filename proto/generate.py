"""Makes gen/ from proto/: stubs, the descriptor set that the edge transcodes by, JSON Schemas of events.

Run by `make gen`. Fails when a method does not say who may call it.
"""

import json
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

from google.protobuf import descriptor_pb2
from google.protobuf.descriptor import Descriptor, FieldDescriptor

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
GEN = ROOT / "gen"


def main() -> None:
    for old in ("soma", "buf", "schemas"):
        shutil.rmtree(GEN / old, ignore_errors=True)
    ours = sorted(PROTO.glob("soma/**/*.proto"))
    compile_stubs([*ours, PROTO / "buf/validate/validate.proto"])
    write_descriptor_set(ours)
    sys.path.insert(0, str(GEN))
    check_access(GEN / "soma.binpb")
    write_event_schemas([p for p in ours if "events" in p.parts])


def compile_stubs(files: list[Path]) -> None:
    """upb messages with types for every file, grpc.aio stubs with types for services only."""
    GEN.mkdir(exist_ok=True)
    names = [str(f.relative_to(PROTO)) for f in files]
    services = [n for n in names if n.endswith("_service.proto")]
    protoc(f"--python_out={GEN}", f"--mypy_out=quiet:{GEN}", *names)
    protoc(f"--grpc_python_out={GEN}", f"--mypy_grpc_out=quiet,only_async:{GEN}", *services)


def write_descriptor_set(files: list[Path]) -> None:
    """What the transcoder, reflection tools and tests read: with everything imported, without comments.

    error_details is in it so that the edge can print ErrorInfo.
    """
    names = [*(str(f.relative_to(PROTO)) for f in files), "google/rpc/error_details.proto", "google/rpc/status.proto"]
    protoc("--include_imports", f"--descriptor_set_out={GEN / 'soma.binpb'}", *names)


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


def write_event_schemas(files: list[Path]) -> None:
    """One JSON Schema (2020-12) an event: what its proto3 JSON looks like, with the protovalidate rules."""
    (GEN / "schemas").mkdir()
    for file in files:
        module = import_module(str(file.relative_to(PROTO).with_suffix("")).replace("/", ".") + "_pb2")
        for message in module.DESCRIPTOR.message_types_by_name.values():
            text = json.dumps(event_schema(message), indent=2)
            (GEN / "schemas" / f"{message.full_name}.json").write_text(text + "\n")


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
    if field.type == FieldDescriptor.TYPE_DOUBLE:
        return {"type": "number"}
    if field.type == FieldDescriptor.TYPE_BOOL:
        return {"type": "boolean"}
    sys.exit(f"{field.full_name}: events are flat; this type has no place in one.")


def string_rules(rules: object) -> dict[str, object]:
    schema: dict[str, object] = {}
    if rules.HasField("min_len"):  # type: ignore[attr-defined]
        schema["minLength"] = rules.min_len  # type: ignore[attr-defined]
    if rules.HasField("pattern"):  # type: ignore[attr-defined]
        schema["pattern"] = rules.pattern  # type: ignore[attr-defined]
    if rules.uuid:  # type: ignore[attr-defined]
        schema["format"] = "uuid"
    if rules.__getattribute__("in"):
        schema["enum"] = list(rules.__getattribute__("in"))
    return schema


if __name__ == "__main__":
    main()
