"""Quiet imports of TensorFlow: one place that knows what it and protobuf print, and why that is harmless."""

from __future__ import annotations

from typing import Any


def silence() -> None:
    """Give protobuf its old method back, before TensorFlow is imported.

    TensorFlow 2.14 was built against protobuf 4 and asks `MessageFactory.GetPrototype`, which protobuf 5
    removed in favour of `GetMessageClass`; without it, two AttributeErrors are printed (and ignored) at
    import.
    """
    from google.protobuf import message_factory

    factory: Any = message_factory.MessageFactory
    if not hasattr(factory, "GetPrototype"):
        factory.GetPrototype = lambda self, descriptor: message_factory.GetMessageClass(descriptor)
