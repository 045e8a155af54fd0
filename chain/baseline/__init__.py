"""The baseline test: a small network trained in integers, so that what was done in a fixed time can be
checked bit by bit. The whole definition is docs/spec/baseline.md.

    net      what is trained, and the bounds that make it exact
    draws    challenge, initial weights, batches: all from hashes
    dataset  raw samples to mixed inputs
    kernel   the training step on NumPy: float32 that carries integers, or int64
    episode  from a challenge to the leaves of a trace; replay for auditors and fraud proofs
    bench    a data set with all that a court asks for
    trace    leaves, their order and their root
    score    confusion matrices, quality, energy and the rating

Only `dataset`, `kernel` and `episode` import NumPy.
"""
