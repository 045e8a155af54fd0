"""TensorFlow Federated's aggregation factories in a process of their own that nobody else can reach.

TFF starts an executor that listens on every interface without authentication and outlives whoever started it.
So the process runs in network and process namespaces of its own: its only interface is its own loopback, and
with its first process the kernel ends all the others.
"""
