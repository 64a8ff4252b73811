"""The engine: from a snapshot and a user to an answer, and to the reasons for it."""

from huidu.engine.compile import Compiled, compile_snapshot

__all__ = ["Compiled", "compile_snapshot"]
