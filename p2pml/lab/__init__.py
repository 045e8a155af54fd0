"""The lab: the real node, many times over, on processes, network namespaces or containers with shaped links.

`hosts` runs the programs, `network` shapes, cuts and heals what joins them, `cleanup` removes what a run that
was killed left behind. `with p2pml.lab.hosts.session.open_lab(kind) as hosts:` is the way in.
"""
