"""Bytes and their meaning: server-sent events, JSON, content encodings, and the shapes of the three wire formats."""
