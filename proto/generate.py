"""Makes gen/ from proto/: stubs and the descriptor set that the edge transcodes by; each file of surfaces/ makes the
rest of what is built on the contract.

Run by `make gen`; with --check, by `make check`, it makes them elsewhere and compares. Fails when a method does not say
who may call it.
"""

import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

ROOT = Path(__file__).resolve().parent.parent
PROTO = ROOT / "proto"
MADE = ("soma", "buf", "soma.binpb", "schemas", "openapi.json", "istio", "access.csv", "sdk")
"""What of gen/ is ours: the page in gen/web is built by `make ui`."""


def main() -> None:
    if "--check" in sys.argv:
        with TemporaryDirectory() as elsewhere:
            generate(Path(elsewhere))
            compare(Path(elsewhere), ROOT / "gen")
        return
    for old in MADE:
        if (ROOT / "gen" / old).is_dir():
            shutil.rmtree(ROOT / "gen" / old)
    generate(ROOT / "gen")


def generate(gen: Path) -> None:
    ours = sorted(PROTO.glob("soma/**/*.proto"))
    compile_stubs(gen, [*ours, PROTO / "buf/validate/validate.proto"])
    write_descriptor_set(gen / "soma.binpb", ours)
    sys.path[0:1] = [str(gen), str(ROOT)]  # instead of this folder, whose google/ holds no Python
    write_surfaces(gen, ours)


def write_surfaces(gen: Path, ours: list[Path]) -> None:
    """They stand on the stubs that were made a moment ago, so they are imported here."""
    from proto.surfaces import access, contract, istio, openapi, schemas, sdk

    with TemporaryDirectory() as scratch:
        commented = Path(scratch) / "commented.binpb"
        write_descriptor_set(commented, ours, "--include_source_info")
        read = contract.read_contract(commented, ROOT / "services")
    access.check_options(read)
    schemas.write_event_schemas(gen, read)
    openapi.write_openapi(gen, read, ROOT / "pyproject.toml")
    istio.write_policies(gen, read)
    access.write_table(gen, read)
    sdk.write_sdk(gen, read)


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


def write_descriptor_set(path: Path, files: list[Path], *more: str) -> None:
    """What the transcoder, reflection tools and tests read: with everything imported, and comments only if asked for.

    error_details is in it so that the edge can print ErrorInfo.
    """
    names = [*(str(f.relative_to(PROTO)) for f in files), "google/rpc/error_details.proto", "google/rpc/status.proto"]
    protoc("--include_imports", *more, f"--descriptor_set_out={path}", *names)


def protoc(*args: str) -> None:
    bin_dir = Path(sys.executable).parent
    plugins = [f"--plugin={p}={bin_dir / p}" for p in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")]
    done = subprocess.run(  # noqa: S603
        [sys.executable, "-m", "grpc_tools.protoc", f"-I{PROTO}", *plugins, *args], check=False
    )
    if done.returncode:
        sys.exit(done.returncode)


if __name__ == "__main__":
    main()
