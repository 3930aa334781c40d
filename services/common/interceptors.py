"""What stands before every method of every room, each done once: trace, refusals, peer, token, access, validation,
deadline. A handler finds `call.current` set and sees only requests that may be answered."""

from __future__ import annotations

import asyncio
import inspect
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from typing import Any, NoReturn, Protocol, TypeAlias

import grpc
from google.protobuf.message import Message
from grpc import aio

from services.common import validation
from services.common.access import Rule, rule_of
from services.common.call import Call, current
from services.common.errors import Invalid, Refusal, TooLate, Unauthenticated, Unexpected
from services.common.identity import peer_of, service_account
from services.common.telemetry import Sight, log
from services.common.tokens import Verifier

UNARY_DEADLINE_S = 20.0
AUDIT_DEADLINE_S = 2.0
MALFORMED = object()
STATUS = {code.value[0]: code for code in grpc.StatusCode}
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Context = aio.ServicerContext[Any, Any]


class Refusals(Protocol):
    """Where refused writes of known people are written down."""

    async def audit_refusal(self, call: Call, action: str, reason: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Guard:
    """Decides for each call whether its handler runs, and turns what goes wrong into a status."""

    trust_domain: str
    verifier: Verifier
    sight: Sight
    refusals: Refusals

    async def identify(self, rule: Rule, context: Context) -> Call:
        """Who calls, and through whom. Raises Denied WORKLOAD_REFUSED, Unauthenticated TOKEN_REFUSED."""
        token, traceparent = "", ""
        for key, value in context.invocation_metadata() or ():
            if key == "authorization":
                token = str(value)
            elif key == "traceparent":
                traceparent = str(value)
        workload = peer_of(context.auth_context(), self.trust_domain)
        rule.check_workload(service_account(workload))
        person = None if rule.public else await self.verifier.caller(bearer(token), rule.token_grace_s)
        return Call(rule.method, rule.action, workload, traceparent, person)

    @asynccontextmanager
    async def admitted(self, rule: Rule, request: object, context: Context) -> AsyncIterator[None]:
        """The handler runs inside; a Refusal becomes the call's status, anything unforeseen UNEXPECTED."""
        started, code, call = time.perf_counter(), "OK", None
        self.sight.rpcs_running.labels(rule.method).inc()
        try:
            call = await self.identify(rule, context)
            if call.person:
                rule.check_roles(call.person)
            if request is MALFORMED:
                raise Invalid("REQUEST_MALFORMED", "The bytes are not the message that this method takes.")
            if isinstance(request, Message):
                validation.check(request)
            with self.sight.span(rule.method, call.traceparent) as traceparent:
                reset = current.set(replace(call, traceparent=traceparent))
                try:
                    yield
                finally:
                    current.reset(reset)
        except Refusal as refusal:
            code = STATUS[refusal.code].name
            await self.audit(call, rule, refusal)
            await abort(context, refusal)
        except TimeoutError:
            code = "DEADLINE_EXCEEDED"
            await abort(context, TooLate("DEADLINE_EXCEEDED", f"{rule.method} took too long. Try again."))
        except (asyncio.CancelledError, GeneratorExit):
            code = "CANCELLED"
            raise
        except aio.AbortError:
            code = "ABORTED"
            raise
        except Exception as fault:
            code = "INTERNAL"
            trace = call.trace if call else ""
            log().error("unexpected", method=rule.method, trace=trace, exc_info=fault)
            message = f"This is a fault of ours. Report it with the trace {trace or 'of the log'}."
            await abort(context, Unexpected("UNEXPECTED", message))
        finally:
            self.sight.rpcs_running.labels(rule.method).dec()
            self.sight.rpc_seconds.labels(rule.method, code).observe(time.perf_counter() - started)

    async def audit(self, call: Call | None, rule: Rule, refusal: Refusal) -> None:
        """Write the refusal of a write down, if it can be done soon: the caller's answer does not wait for long."""
        if call is None or call.person is None or not rule.action:
            return
        try:
            async with asyncio.timeout(AUDIT_DEADLINE_S):
                await self.refusals.audit_refusal(call, rule.action, refusal.reason)
        except (Refusal, TimeoutError):
            log().warning("refusal not audited", method=rule.method, reason=refusal.reason, trace=call.trace)


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
        method = handler_call_details.method
        if known := self._guarded.get(method):
            return known
        handler = await continuation(handler_call_details)
        if handler is None:
            return None
        self._guarded[method] = guarded(self._guard, rule_of(method), handler)
        return self._guarded[method]


def guarded(guard: Guard, rule: Rule, handler: Handler) -> Handler:
    """The handler behind the guard, with bytes that do not parse told to the guard instead of to grpc."""
    ways = (forgiving(handler.request_deserializer), handler.response_serializer)
    if handler.request_streaming:
        return grpc.stream_stream_rpc_method_handler(around_dialogue(guard, rule, handler.stream_stream), *ways)
    if handler.response_streaming:
        return grpc.unary_stream_rpc_method_handler(around_stream(guard, rule, handler.unary_stream), *ways)
    return grpc.unary_unary_rpc_method_handler(around_unary(guard, rule, handler.unary_unary), *ways)


def around_unary(guard: Guard, rule: Rule, answer: Any) -> Any:
    async def unary(request: Any, context: Context) -> Any:
        async with guard.admitted(rule, request, context), asyncio.timeout(UNARY_DEADLINE_S):
            return await answer(request, context)

    return unary


def around_stream(guard: Guard, rule: Rule, answer: Any) -> Any:
    async def stream(request: Any, context: Context) -> AsyncIterator[Any]:
        async with guard.admitted(rule, request, context):
            async for message in answer(request, context):
                yield message

    async def written(request: Any, context: Context) -> None:
        async with guard.admitted(rule, request, context):
            await answer(request, context)

    return stream if inspect.isasyncgenfunction(answer) else written


def around_dialogue(guard: Guard, rule: Rule, answer: Any) -> Any:
    async def dialogue(requests: Any, context: Context) -> AsyncIterator[Any]:
        async with guard.admitted(rule, None, context):
            async for message in answer(requests, context):
                yield message

    return dialogue


def forgiving(deserializer: Any) -> Any:
    def parse(raw: bytes) -> Any:
        try:
            return deserializer(raw)
        except Exception:
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
    await context.abort(STATUS[refusal.code], refusal.message, details)
    raise AssertionError("abort raises")
