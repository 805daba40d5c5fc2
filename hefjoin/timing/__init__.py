"""Which of two HEFs is faster, on a machine that is never quiet: short rounds by turns, and what they prove.

The rules:

1. Chance is ours: a coin decides for each block whose round comes first, so the test needs no belief about the noise.
2. Nothing that decides when to stop looks at who is ahead.
3. A difference is called one only beyond what the same HEF shows against itself.
"""
