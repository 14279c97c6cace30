"""ASGI middlewares that keep Claude Code on its subscription while its subagents run on other models.

`app` is the whole application, made from the configuration file when it is first asked for. Everything else can be
used alone; nothing is loaded before it is used, and no file is read by importing it.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ccr_asgi.application import build_stack, create_app, lifespan
    from ccr_asgi.middleware.auth_injection import AuthInjectionMiddleware
    from ccr_asgi.middleware.errors import ErrorMiddleware
    from ccr_asgi.middleware.format_conversion import FormatConversionMiddleware
    from ccr_asgi.middleware.guard import GuardMiddleware
    from ccr_asgi.middleware.routing import RoutingMiddleware
    from ccr_asgi.middleware.tag_extraction import TagExtractionMiddleware
    from ccr_asgi.middleware.tracing import TracingMiddleware
    from ccr_asgi.middleware.usage_capture import UsageCaptureMiddleware
    from ccr_asgi.upstream import UpstreamApp

__version__ = "0.1.0"

__all__ = [
    "AuthInjectionMiddleware",
    "ErrorMiddleware",
    "FormatConversionMiddleware",
    "GuardMiddleware",
    "RoutingMiddleware",
    "TagExtractionMiddleware",
    "TracingMiddleware",
    "UpstreamApp",
    "UsageCaptureMiddleware",
    "build_stack",
    "create_app",
    "lifespan",
]

_HOMES = {
    "AuthInjectionMiddleware": "middleware.auth_injection",
    "ErrorMiddleware": "middleware.errors",
    "FormatConversionMiddleware": "middleware.format_conversion",
    "GuardMiddleware": "middleware.guard",
    "RoutingMiddleware": "middleware.routing",
    "TagExtractionMiddleware": "middleware.tag_extraction",
    "TracingMiddleware": "middleware.tracing",
    "UpstreamApp": "upstream",
    "UsageCaptureMiddleware": "middleware.usage_capture",
    "build_stack": "application",
    "create_app": "application",
    "lifespan": "application",
}


def __getattr__(name: str) -> Any:
    # `app` is not in __all__: `from ccr_asgi import *` must not read a configuration file.
    if name == "app":
        globals()[name] = value = _default_app()
    elif name in _HOMES:
        globals()[name] = value = getattr(import_module(f"ccr_asgi.{_HOMES[name]}"), name)
    else:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return value


def _default_app() -> Any:
    try:
        return import_module("ccr_asgi.application").create_app()
    except AttributeError as error:
        # A server would take it for a missing `app`, and hide the defect.
        raise RuntimeError(f"ccr_asgi.app could not be made: {error}") from error
