"""The ASGI middlewares, one class in one file each; every one works alone in any ASGI app."""
