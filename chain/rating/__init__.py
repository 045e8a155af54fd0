"""Ratings that are earned: windows in which everybody trains at once, commitments, audits, accusations.

`items` is what travels and stands in blocks, `entries` what the state remembers of it. What is trained is
defined in `chain.baseline`; the rules of giving a rating and of its end are in `chain.ratings`.
"""
