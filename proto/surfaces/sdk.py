"""gen/sdk: the contracts as betterproto classes with async stubs, in the package `soma_api`.

The plugin is given what a client needs and no more: messages and services. Rules, HTTP bindings and access options stay
behind, with the files that define them.
"""

import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

from google.protobuf.compiler import plugin_pb2
from google.protobuf.descriptor_pb2 import FileDescriptorProto, FileDescriptorSet

from proto.surfaces.contract import Contract

KEPT = ("soma.", "google.rpc", "google.protobuf")
LEFT_OUT = ("soma.events.",)
"""No client calls an event."""
BYTES = "google/api/httpbody.proto"
"""What is bytes on the wire is spoken by another's clients: OpenAI's."""
HEAD = '"""The contracts of SomaAgent 01, made by `make gen`. Apache-2.0; so is google/rpc, which is Google\'s."""\n'


def write_sdk(gen: Path, contract: Contract) -> None:
    """Write gen/sdk/soma_api."""
    home = gen / "sdk" / "soma_api"
    for made in compiled(needed(contract.files)).file:
        path = home / made.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made.content)
    (home / "__init__.py").write_text(HEAD)
    (home / "py.typed").touch()


def needed(everything: FileDescriptorSet) -> list[FileDescriptorProto]:
    """The files in order, less what no client needs. Descriptors extend messages for protoc only, so descriptor.proto
    goes too."""
    ours = FileDescriptorSet.FromString(everything.SerializeToString())  # a copy, whose imports may go
    kept = [
        f
        for f in ours.file
        if f.package.startswith(KEPT)
        and not f.package.startswith(LEFT_OUT)
        and not f.name.endswith("/descriptor.proto")
        and BYTES not in f.dependency
    ]
    names = {f.name for f in kept}
    for file in kept:
        imports = [name for name in file.dependency if name in names]
        del file.dependency[:], file.public_dependency[:], file.weak_dependency[:]
        file.dependency.extend(imports)
    return kept


def compiled(files: list[FileDescriptorProto]) -> plugin_pb2.CodeGeneratorResponse:
    """What the plugin makes of them. It looks for __init__.py where it runs, so it runs in an empty folder."""
    request = plugin_pb2.CodeGeneratorRequest(proto_file=files, file_to_generate=[f.name for f in files])
    plugin = Path(sys.executable).parent / "protoc-gen-python_betterproto"
    with TemporaryDirectory() as empty:
        done = subprocess.run(  # noqa: S603
            [plugin], input=request.SerializeToString(), capture_output=True, cwd=empty, check=False
        )
    if done.returncode:
        sys.exit(done.stderr.decode())
    return plugin_pb2.CodeGeneratorResponse.FromString(done.stdout)
