"""ASGI middlewares that keep Claude Code on its subscription while its subagents run on other models."""
