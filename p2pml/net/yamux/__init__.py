"""Streams over one connection: `/yamux/1.0.0`, with every window, limit and cap enforced."""
