"""A finished job beside what it is measured by: the same training simulated, and in one place."""
