"""A catalogue: specs in one place, and what of them has to be built anew.

The rule: looking builds nothing and writes no artifact, and what cannot be said of one spec stops no other.
"""
