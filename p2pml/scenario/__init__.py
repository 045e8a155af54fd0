"""The language of scenarios, shared by the lab (real nodes) and the simulator (the cores on virtual time)."""
