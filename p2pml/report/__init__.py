"""Pages and plots for people, made from data alone: no IO, no clock."""
