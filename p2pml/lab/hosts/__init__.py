"""Where the lab's hosts run: processes, network namespaces or containers, all with one interface
(`base.Backend`)."""
