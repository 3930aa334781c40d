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

PROTO = Path(__file__).resolve().parent.parent
STATUS = ("google/rpc/error_details.proto", "google/rpc/status.proto")
KEPT = ("soma.", "google.rpc", "google.protobuf")
HEAD = '"""The contracts of SomaAgent 01, made by `make gen`. Apache-2.0; so is google/rpc, which is Google\'s."""\n'


def write_sdk(gen: Path, files: list[Path]) -> None:
    """Write gen/sdk/soma_api from `files`, absolute paths of our protos, and from what they import. No client calls an
    event."""
    names = [*(str(f.relative_to(PROTO)) for f in files if "events" not in f.parts), *STATUS]
    home = gen / "sdk" / "soma_api"
    for made in compiled(described(names)).file:
        path = home / made.name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(made.content)
    (home / "__init__.py").write_text(HEAD)
    (home / "py.typed").touch()


def described(names: list[str]) -> list[FileDescriptorProto]:
    """The files and all that they import, in order, with comments, less what no client needs."""
    with TemporaryDirectory() as folder:
        out = Path(folder) / "all.binpb"
        subprocess.run(  # noqa: S603
            [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", "--include_imports", "--include_source_info",
             f"--descriptor_set_out={out}", *names],
            check=True,
        )  # fmt: skip
        return needed(FileDescriptorSet.FromString(out.read_bytes()))


def needed(everything: FileDescriptorSet) -> list[FileDescriptorProto]:
    """Descriptors extend messages for protoc only, so descriptor.proto goes too."""
    kept = [f for f in everything.file if f.package.startswith(KEPT) and not f.name.endswith("/descriptor.proto")]
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
