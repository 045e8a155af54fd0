"""Carries a scenario out with real nodes: `runner.run_scenario` is the way in."""
