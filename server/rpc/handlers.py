"""Puts something around every handler of a service: the one place that knows the four shapes of gRPC methods."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import grpc
from grpc.aio import ServicerContext

Context: TypeAlias = ServicerContext[Any, Any]
Handler: TypeAlias = "grpc.RpcMethodHandler[Any, Any]"
Around = Callable[[Context], contextlib.AbstractAsyncContextManager[None]]
Continuation: TypeAlias = "Callable[[grpc.HandlerCallDetails], Awaitable[Handler | None]]"


def surround(handler: Handler, around: Around) -> Handler:
    """Return a handler that runs within `around(context)`, in one task, so that context variables reach it.

    The handlers' requests and responses are messages of any service, hence Any.
    """
    behavior: Any = _behavior(handler)

    async def answer_once(request: Any, context: Context) -> Any:
        async with around(context):
            return await behavior(request, context)

    async def answer_many(request: Any, context: Context) -> None:
        async with around(context):
            answer = behavior(request, context)
            if isinstance(answer, AsyncIterator):
                async for response in answer:
                    await context.write(response)
            else:
                await answer  # it writes by itself

    shape: Any
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            shape = grpc.unary_unary_rpc_method_handler
        case True, False:
            shape = grpc.stream_unary_rpc_method_handler
        case False, True:
            shape = grpc.unary_stream_rpc_method_handler
        case _:
            shape = grpc.stream_stream_rpc_method_handler
    wrapped: Handler = shape(
        answer_many if handler.response_streaming else answer_once,
        handler.request_deserializer,
        handler.response_serializer,
    )
    return wrapped


def _behavior(handler: Handler) -> object:
    match handler.request_streaming, handler.response_streaming:
        case False, False:
            return handler.unary_unary
        case True, False:
            return handler.stream_unary
        case False, True:
            return handler.unary_stream
        case _:
            return handler.stream_stream
