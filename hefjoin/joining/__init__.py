"""May these networks share one input: what is compared, and what follows.

The rule: `hefjoin check` and the stage `check` of a build show the same rows, made here of the same few facts, and a
row says `fails` only where a build would.
"""
