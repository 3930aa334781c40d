"""The whole contract by gRPC reflection, from the committed descriptor set: whichever room is asked tells of all.

What is listed is what the edge lets programs call. Types are told for everything in the set, error details too.
"""

from __future__ import annotations

import grpc
from google.protobuf.descriptor_pb2 import FileDescriptorSet
from google.protobuf.descriptor_pool import DescriptorPool
from grpc import aio
from grpc_reflection.v1alpha import reflection, reflection_pb2

from services.common.generated import GENERATED, SERVICES
from soma.common.v1.access_pb2 import access

VERSIONS = ("grpc.reflection.v1.ServerReflection", reflection.SERVICE_NAME)
"""One set of messages under two names. Newer clients ask for v1 first."""
EDGE = "edge"


def reflect(server: aio.Server) -> None:
    """Answer reflection on `server`, in both of its versions."""
    files = FileDescriptorSet.FromString((GENERATED / "soma.binpb").read_bytes())
    pool = DescriptorPool()
    for file in files.file:
        pool.Add(file)
    servicer = reflection.aio.ReflectionServicer(services_at_the_edge(files), pool=pool)
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.ServerReflectionInfo,
        reflection_pb2.ServerReflectionRequest.FromString,
        reflection_pb2.ServerReflectionResponse.SerializeToString,
    )
    methods = {"ServerReflectionInfo": handler}
    server.add_generic_rpc_handlers([grpc.method_handlers_generic_handler(name, methods) for name in VERSIONS])


def services_at_the_edge(files: FileDescriptorSet) -> list[str]:
    """Services with a method that the edge may call, of rooms that there are."""
    return [
        f"{file.package}.{service.name}"
        for file in files.file
        for service in file.service
        if is_a_room(file.package)
        and any(EDGE in method.options.Extensions[access].workloads for method in service.method)
    ]


def is_a_room(package: str) -> bool:
    """Whether `soma.<room>.v1` is served: the contract may be ahead of the rooms."""
    return package.startswith("soma.") and (SERVICES / package.split(".")[1] / "__main__.py").is_file()
