"""The cores of `chain` and `torrent`, unchanged, on virtual time: many nodes in one process, the same trace every run."""
