"""The baseline test on this machine: a pool of single-threaded processes, one per core, that train episodes
for a fixed time. Two BLAS threads reach about 60 % of two such lanes.

    core      who trains what, and when the window ends: pure
    duty      a cap on the processor time of a lane: pure
    lane      one process of those that `python -m p2pml.worker.lanes` starts
    processes the node's side of these: connections, and their end
    store     the mixed samples that all lanes map
    pool      feeds the core with what lanes say
    energy    what the processor used, where it tells
    tf_trainer   the same training on TensorFlow
"""
