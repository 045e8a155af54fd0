"""Byte and text formats that the training room, the worker process and the node share: tensors, shards,
models, optimizers.

A leaf of the house: it imports no other part of p2pml and no TensorFlow, so that the daemon can check what a
stranger sends before any worker sees it, and the worker can check it again.
"""

from __future__ import annotations


class FormatError(ValueError):
    """Bytes or text in one of these formats are malformed, too large or not what was asked for."""


class SpecError(FormatError):
    """A model or optimizer description that this version does not accept; the message names the offending
    part."""
