"""The unchanged cores of `chain` and `torrent` on virtual time: many nodes, one process, one seed."""
