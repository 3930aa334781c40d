"""What stands before every method of every room, each done once: trace, refusals, peer, token, access, validation,
deadline. A handler finds `call.current` set and sees only requests that may be answered."""

from __future__ import annotations

import asyncio
import inspect
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
from google.protobuf.message import DecodeError, Message
from grpc import aio

from services.common import validation
from services.common.access import Rule, rule_of
from services.common.api_keys import is_key
from services.common.call import Call, current
from services.common.caller import Caller
from services.common.errors import Invalid, Refusal, TooLate, Unauthenticated, Unexpected
from services.common.identity import peer_of, service_account
from services.common.spans import parse
from services.common.telemetry import Sight, log
from services.common.tokens import Verifier

UNARY_DEADLINE_S = 20.0
AUDIT_DEADLINE_S = 2.0
KEY_ELSEWHERE = "An API key opens the OpenAI paths alone. Sign in, and send your token here."
MALFORMED = object()
STATUS = {code.value[0]: code for code in grpc.StatusCode}
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = aio.ServicerContext[Any, Any]


class Trail(Protocol):
    """Where the calls of known people are written down that no transaction of a handler tells of."""

    async def audit(self, call: Call, action: str, *, resource: str = "", reason: str = "") -> None:
        """What was read, or refused for a reason."""


class ApiKeys(Protocol):
    """Who knows whose API key it is."""

    async def caller(self, secret: str) -> Caller:
        """Raises Unauthenticated TOKEN_REFUSED for one that is not good."""


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides for each call whether its handler runs, and turns what goes wrong into a status."""

    trust_domain: str
    namespace: str
    verifier: Verifier
    sight: Sight
    trail: Trail
    audits_reads: bool = False
    keys: ApiKeys | None = None
    """Where methods take API keys."""

    async def identify(self, rule: Rule, context: Context) -> Call:
        """Who calls, and through whom. Raises Denied WORKLOAD_REFUSED, Unauthenticated TOKEN_REFUSED."""
        token, traceparent = "", ""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                token = str(value)
            elif key == "traceparent" and parse(str(value)):
                traceparent = str(value)
        workload = peer_of(context.auth_context(), self.trust_domain, self.namespace)
        rule.check_workload(service_account(workload))
        person = None if rule.public else await self._person(rule, bearer(token))
        return Call(rule.method, rule.action, workload, traceparent, person)

    async def _person(self, rule: Rule, token: str) -> Caller:
        """Whose token it is, or whose API key, where the method takes keys."""
        if not is_key(token):
            return await self.verifier.caller(token, rule.token_grace_s)
        if not rule.api_keys or self.keys is None:
            raise Unauthenticated("TOKEN_REFUSED", KEY_ELSEWHERE)
        return await self.keys.caller(token)

    async def answer(self, fault: BaseException, call: Call, context: Context) -> None:
        """Abort the call with what the fault means. What is nobody's answer, such as a hang-up, is left as it is."""
        if isinstance(fault, Refusal):
            await self._audit_refusal(fault, call)
            await abort(context, fault)
        if isinstance(fault, TimeoutError):
            await abort(context, TooLate("DEADLINE_EXCEEDED", f"{call.method} took too long. Try again."))
        if isinstance(fault, Exception) and not isinstance(fault, aio.AbortError):
            log().error("unexpected", method=call.method, trace=call.trace, exc_info=fault)
            message = f"This is a fault of ours. Report it with the trace {call.trace or 'of the log'}."
            await abort(context, Unexpected("UNEXPECTED", message))

    async def audit_read(self, call: Call) -> None:
        """Write down what a person has read, in the modes that say so. The call does not fail by it."""
        if call.person is None or call.action or not self.audits_reads:
            return
        async with self._auditing(call, ""):
            await self.trail.audit(call, read_of(call.method), resource=resource_of(call.request))

    async def _audit_refusal(self, refusal: Refusal, call: Call) -> None:
        """Write the refusal of a write down, and of a read in the modes that audit reads."""
        action = call.action or (read_of(call.method) if self.audits_reads else "")
        if call.person is None or not action:
            return
        async with self._auditing(call, refusal.reason):
            await self.trail.audit(call, action, reason=refusal.reason)

    @asynccontextmanager
    async def _auditing(self, call: Call, reason: str) -> AsyncIterator[None]:
        """If it can be done soon: the caller's answer does not wait for long, and is not another for it."""
        try:
            async with asyncio.timeout(AUDIT_DEADLINE_S):
                yield
        except Exception as fault:
            log().warning("call not audited", method=call.method, reason=reason, trace=call.trace, why=repr(fault))


class Method:
    """One method behind the guard: what is the same for all its calls."""

    __slots__ = ("_seconds", "guard", "rule", "running")

    def __init__(self, guard: Guard, rule: Rule) -> None:
        self.guard, self.rule = guard, rule
        self.running = guard.sight.rpcs_running.labels(rule.method)
        self._seconds: dict[str, Any] = {}

    def ended(self, code: str, took_s: float) -> None:
        if code not in self._seconds:
            self._seconds[code] = self.guard.sight.rpc_seconds.labels(self.rule.method, code)
        self._seconds[code].observe(took_s)
        self.running.dec()


class Admission:
    """One call: the handler runs inside. A Refusal becomes the call's status, anything unforeseen UNEXPECTED."""

    __slots__ = ("_began", "_call", "_context", "_method", "_request", "_span")

    def __init__(self, method: Method, request: object, context: Context) -> None:
        self._method, self._request, self._context = method, request, context
        self._call = Call(method.rule.method, method.rule.action, "", "", None)
        self._began = time.perf_counter()

    async def __aenter__(self) -> None:
        self._method.running.inc()
        try:
            await self._check(self._method.guard, self._method.rule)
        except BaseException as fault:
            await self._close(fault)
            raise
        call = self._call
        self._span = self._method.guard.sight.span(call.method, call.traceparent)
        current.set(replace(call, traceparent=self._span.__enter__()))

    async def __aexit__(self, kind: type[BaseException] | None, fault: BaseException | None, trace: object) -> None:
        self._span.__exit__(kind, fault, trace)
        await self._close(fault)

    async def _check(self, guard: Guard, rule: Rule) -> None:
        self._call = replace(await guard.identify(rule, self._context), request=message_of(self._request))
        if self._call.person:
            rule.check_roles(self._call.person)
        if self._request is MALFORMED:
            raise Invalid("REQUEST_MALFORMED", "The bytes are not the message that this method takes.")
        if self._call.request is not None:
            validation.check(self._call.request)

    async def _close(self, fault: BaseException | None) -> None:
        self._method.ended(code_of(fault), time.perf_counter() - self._began)
        if isinstance(fault, Exception):
            await self._method.guard.answer(fault, self._call, self._context)
        else:  # answered, or nobody waits any more
            await self._method.guard.audit_read(self._call)


def message_of(request: object) -> Message | None:
    return request if isinstance(request, Message) else None


def read_of(method: str) -> str:
    """The audit action of a method that only reads: conversation_service.list_conversations."""
    service, _, name = method.rpartition(".")[2].partition("/")
    return ".".join(re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", word).lower() for word in (service, name))


def resource_of(request: Message | None) -> str:
    """What a request that reads is about: its `name` or its `parent`. Empty when it has neither."""
    return next((value for word in ("name", "parent") if (value := getattr(request, word, ""))), "")


class GuardInterceptor(aio.ServerInterceptor):
    """Puts a Guard around each method. Made once a method, not once a call."""

    def __init__(self, guard: Guard) -> None:
        self._guard = guard
        self._guarded: dict[str, Handler] = {}

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler | None:
        path = handler_call_details.method
        if known := self._guarded.get(path):
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        self._guarded[path] = guarded(Method(self._guard, rule_of(path)), handler)
        return self._guarded[path]


def guarded(method: Method, handler: Handler) -> Handler:
    """The handler behind the guard, with bytes that do not parse told to the guard instead of to gRPC."""
    ways = (forgiving(handler.request_deserializer), handler.response_serializer)
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(around_dialogue(method, handler.stream_stream), *ways)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(around_stream(method, handler.unary_stream), *ways)
    return grpc.unary_unary_rpc_method_handler(around_unary(method, handler.unary_unary), *ways)


def around_unary(method: Method, answer: Any) -> Any:
    async def unary(request: Any, context: Context) -> Any:
        async with Admission(method, request, context), asyncio.timeout(UNARY_DEADLINE_S):
            return await answer(request, context)

    return unary


def around_stream(method: Method, answer: Any) -> Any:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with Admission(method, request, context):
            async for message in answer(request, context):
                yield message

    async def written(request: Any, context: Context) -> None:
        async with Admission(method, request, context):
            await answer(request, context)

    return stream if inspect.isasyncgenfunction(answer) else written


def around_dialogue(method: Method, answer: Any) -> Any:
    async def dialogue(requests: Any, context: Context) -> AsyncIterator[Any]:
        async with Admission(method, None, context):
            async for message in answer(requests, context):
                yield message

    return dialogue


def code_of(fault: BaseException | None) -> str:
    """The name of the status that a call ends with, for the metrics."""
    if fault is None:
        return "OK"
    if isinstance(fault, Refusal):
        return STATUS[fault.code].name
    if isinstance(fault, TimeoutError):
        return "DEADLINE_EXCEEDED"
    return "INTERNAL" if isinstance(fault, Exception) else "CANCELLED"


def forgiving(deserializer: Any) -> Any:
    def parse(raw: bytes) -> Any:
        try:
            return deserializer(raw)
        except DecodeError:
            return MALFORMED

    return parse


def bearer(header: str) -> str:
    scheme, _, token = header.partition(" ")
    if scheme.lower() != "bearer" or not token:
        raise Unauthenticated("TOKEN_REFUSED", "There is no token. Sign in, and send it as `authorization: Bearer …`.")
    return token.strip()


async def abort(context: Context, refusal: Refusal) -> NoReturn:
    status = refusal.status()
    details = (("grpc-status-details-bin", status.SerializeToString()),)
    await context.abort(STATUS[refusal.code], status.message, details)
    raise AssertionError("abort raises")
